//! Rows that keep their key or their topic waiting. The leader alone knows them; it is asked by a
//! notification, and answers on the channel that the question names.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use tokio::time::timeout;

use crate::postgres::error::{Error, Result};
use crate::postgres::session::Session;
use crate::postgres::table::Table;

/// How the payload of a question begins; the channel of the answer follows.
pub(crate) const ASKS: &str = "held ";
/// How each such channel begins.
const ANSWERS: &str = "doorbell:held:";
/// The last notification of an answer.
const END: &str = "end";
/// Rows of one notification, whose payload may have 8,000 bytes.
const ROWS_OF_ONE: usize = 8;
/// Time for an answer, which a leader under load may need.
const PATIENCE: Duration = Duration::from_secs(10);

/// A row that Kafka refused and that others wait for. Any role that may connect can ask, so it has
/// nothing of the row itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeldRow {
    /// Id of the row.
    pub row: i64,
    /// Whether all rows of its topic wait, and not those of its key alone.
    pub holds_topic: bool,
    /// Why Kafka refused it.
    pub reason: String,
    /// Time until it is sent again.
    pub next_try_seconds: f64,
    /// The key, as text; `None`: none, or not known.
    pub key: Option<String>,
}

/// Answers a question, on the leader's side. What the server refuses is left unanswered.
pub(crate) async fn answer(session: &mut Session, to: &str, rows: &[HeldRow]) -> Result<()> {
    const NOTIFY: &str = "SELECT count(pg_catalog.pg_notify($1, line)::text) FROM pg_catalog.unnest($2::text[]) line";
    if !to.starts_with(ANSWERS) {
        return Ok(());
    }
    let lines = rows.chunks(ROWS_OF_ONE).map(serde_json::to_string);
    let lines: Vec<String> = lines.filter_map(|line| line.ok()).collect();
    let lines: Vec<String> = lines.into_iter().chain([END.to_owned()]).collect();
    match session
        .one(NOTIFY, |q| q.bind(to.to_owned()).bind(lines))
        .await
    {
        Err(error @ Error::Lost(_)) => Err(error),
        _ => Ok(()),
    }
}

/// Asks the leader of an outbox, and reads the keys of the rows. `None`: no leader answered.
pub(crate) async fn held(session: &mut Session, table: &Table) -> Result<Option<Vec<HeldRow>>> {
    let channel = format!("{ANSWERS}{:016x}", RandomState::new().hash_one(()));
    // The session may have asked before.
    let listen = format!("UNLISTEN *; LISTEN \"{channel}\"");
    session.batch(&listen).await?;
    let (to, question) = (table.channel(), format!("{ASKS}{channel}"));
    const ASK: &str = "SELECT pg_catalog.pg_notify($1, $2)::text";
    session
        .writing(async |session| session.one(ASK, |q| q.bind(to).bind(question)).await)
        .await?;
    let mut rows: Vec<HeldRow> = Vec::new();
    loop {
        let Ok(heard) = timeout(PATIENCE, session.notified()).await else {
            return Ok(None);
        };
        let lines = heard?;
        for line in &lines {
            let part: Vec<HeldRow> = serde_json::from_str(line).unwrap_or_default();
            rows.extend(part);
        }
        if lines.iter().any(|line| line == END) {
            break;
        }
    }
    let keys = keys(session, table, &rows).await?;
    for row in &mut rows {
        row.key = keys.get(&row.row).cloned().flatten();
    }
    Ok(Some(rows))
}

/// Reads the keys of rows, as far as the role may.
async fn keys(
    session: &mut Session,
    table: &Table,
    rows: &[HeldRow],
) -> Result<HashMap<i64, Option<String>>> {
    let (id, key) = (&table.columns.id, &table.columns.key);
    let sql = format!(
        "SELECT {id}::bigint, ({key})::text FROM {} WHERE {id} = ANY ($1::bigint[])",
        table.quoted
    );
    let ids: Vec<i64> = rows.iter().map(|row| row.row).collect();
    let found = session
        .reading(async |session| session.all(&sql, |q| q.bind(ids)).await)
        .await;
    match found {
        Err(Error::Refused { .. }) => Ok(HashMap::new()),
        found => {
            let pair = |row: &sqlx::postgres::PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
            found?.iter().map(pair).collect()
        }
    }
}
