//! Pauses an outbox, and ends the pause.

use crate::config::TableName;
use crate::postgres::error::{Error, Result};
use crate::postgres::inspect::{PAUSES, operator_lacks};
use crate::postgres::relay::registry::{self, Pause};
use crate::postgres::session::{Place, Session, from_row};
use crate::postgres::table::{missing, not_set_up};

#[derive(Debug)]
pub(crate) struct Switched {
    /// The table, quoted, with its schema.
    pub outbox: String,
    pub was_paused: bool,
    /// Who had paused it, and why.
    pub before: Option<String>,
}

from_row! { Switched: outbox was_paused before }

/// Returns whether an outbox is paused, and by statements what this role lacks to change that.
pub(crate) async fn pause_of(
    session: &mut Session,
    table: &TableName,
) -> Result<(Option<Pause>, Vec<String>)> {
    let place = session.place(table).await?.ok_or_else(|| missing(table))?;
    session
        .reading(async |session| {
            let lacks = operator_lacks(session, &PAUSES, &[]).await?;
            let pause = match lacks.cannot_read {
                true => None,
                false => registry::entry(session, &place.quoted).await?.pause,
            };
            Ok((pause, lacks.grants))
        })
        .await
}

/// Sets the flag and notifies the relays in one statement, so that both become visible together and
/// a pooler cannot separate them. `$2`: whether to pause.
const SWITCH: &str = "WITH before AS MATERIALIZED (SELECT o.name, o.paused_at, o.paused_by, o.paused_reason FROM doorbell.outbox o WHERE o.name = $1), \
    switched AS (\
        UPDATE doorbell.outbox o SET paused_at = CASE WHEN $2 THEN coalesce(o.paused_at, pg_catalog.now()) END, \
        paused_by = CASE WHEN $2 THEN $3 END, paused_reason = CASE WHEN $2 THEN coalesce($4, o.paused_reason) END \
        FROM before b WHERE o.name = b.name RETURNING o.name) \
    SELECT b.name AS outbox, b.paused_at IS NOT NULL AS was_paused, \
    concat_ws(': ', 'by ' || b.paused_by, b.paused_reason)::text AS before, pg_catalog.pg_notify('doorbell:' || $5::text, 'flag')::text \
    FROM before b JOIN switched s ON s.name = b.name";

/// Pauses an outbox with a name and perhaps a reason, or without them ends its pause. An outbox
/// that is paused already keeps the begin of its pause, and its reason unless there is a new one.
pub(crate) async fn switch(
    session: &mut Session,
    table: &TableName,
    pause: Option<(&str, Option<&str>)>,
) -> Result<Switched> {
    let by = pause.map(|(by, _)| by.to_owned());
    let reason = pause.and_then(|(_, reason)| reason.map(str::to_owned));
    let Place { oid, quoted, .. } = session.place(table).await?.ok_or_else(|| missing(table))?;
    let done = session
        .writing(async |session| {
            session
                .rows(SWITCH, |q| {
                    let q = q.bind(quoted).bind(pause.is_some());
                    q.bind(by).bind(reason).bind(oid.to_string())
                })
                .await
        })
        .await;
    let mut rows: Vec<Switched> = match done {
        Err(Error::Refused { problem, .. }) if problem.contains("paused_") => {
            return Err(Error::refused(
                "the schema doorbell is of an earlier version, which does not support pausing",
                "run `doorbell migrate`",
            ));
        }
        other => other?,
    };
    rows.pop().ok_or_else(|| not_set_up(table))
}
