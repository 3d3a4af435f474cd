//! Responds where an event is, and waits for its delivery.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::http::form::Form;
use crate::http::responses::HttpError;
use crate::http::state::AppState;
use crate::postgres::{self, EventPlace, HeldRow, Session, Table, WaitingEvent};

/// The longest wait. A client that wants more asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Delivered {
    id: Uuid,
    state: EventState,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum EventState {
    /// Kafka has acknowledged it, as this relay remembers.
    Sent,
    Waiting,
    /// It waits for a row that Kafka refused, or is one.
    Held,
    Dead,
    /// It is in neither table: it was sent, or there was never such an event.
    Gone,
}

pub(crate) async fn delivered(
    State(state): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
) -> Response {
    match answer(&state, query.unwrap_or_default()).await {
        Ok(answer) => ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response(),
        Err(error) => error.text(),
    }
}

async fn answer(state: &AppState, query: String) -> Result<Delivered, HttpError> {
    let form = Form::of(query.as_bytes());
    let bad = |message: &str| HttpError::new(StatusCode::BAD_REQUEST, message);
    let id = form.one("id").and_then(|text| text.parse().ok());
    let id = id.ok_or_else(|| bad("name an event by the id in its header: /delivered?id=UUID"))?;
    let wait = humantime::parse_duration(form.one("wait").unwrap_or("0s"));
    let wait = wait.map_err(|_| bad("wait is a duration, at most 30s: wait=5s"))?;
    let until = Instant::now() + wait.min(LONGEST_WAIT);
    let _permit = state.waiters.try_acquire().map_err(|_| {
        let message = "too many requests wait for a delivery: try again";
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })?;
    let answered = |state| Ok(Delivered { id, state });
    if state.was_sent(id) {
        return answered(EventState::Sent);
    }
    let (found, row) = look(state, id).await?;
    let Some((outbox, event)) = row.filter(|_| !wait.is_zero()) else {
        return answered(found);
    };
    // What was sent meanwhile is remembered, so the wait cannot miss it.
    let sent = state.monitor(outbox).sent.sent(event.row);
    match timeout_at(until, sent).await {
        Ok(()) => answered(EventState::Sent),
        // Another relay may have sent it.
        Err(_) => answered(look(state, id).await?.0),
    }
}

/// Asks the database once. Returns an event that waits, with the number of its outbox.
async fn look(
    state: &AppState,
    id: Uuid,
) -> Result<(EventState, Option<(usize, WaitingEvent)>), HttpError> {
    let looked = state.events_db.run(async |session| {
        let outboxes = &state.events_db.outboxes;
        for (number, outbox) in outboxes.iter().enumerate() {
            let table = Table::find_to_ask(session, outbox).await?;
            match postgres::find_event(session, &table, id).await? {
                None => {}
                Some(EventPlace::Dead) => return Ok((EventState::Dead, None)),
                Some(EventPlace::Waiting(event)) => {
                    let is_held =
                        holds_rows(state, number) && is_held(session, &table, &event).await?;
                    let found = if is_held {
                        EventState::Held
                    } else {
                        EventState::Waiting
                    };
                    return Ok((found, Some((number, event))));
                }
            }
        }
        Ok((EventState::Gone, None))
    });
    let (found, row) = looked.await?;
    // It may have been sent while it was looked for.
    match found {
        EventState::Gone if state.was_sent(id) => Ok((EventState::Sent, None)),
        found => Ok((found, row)),
    }
}

/// Returns whether this relay leads and holds rows back.
fn holds_rows(state: &AppState, outbox: usize) -> bool {
    let snapshot = state.monitor(outbox).snapshot();
    snapshot.held_keys > 0
}

/// Asks the leader, which is this relay, for the rows that it holds back.
async fn is_held(
    session: &mut Session,
    table: &Table,
    event: &WaitingEvent,
) -> postgres::Result<bool> {
    let held = postgres::held(session, table).await?.unwrap_or_default();
    let has_key = |it: &HeldRow| event.key.is_some() && it.key == event.key && !it.holds_topic;
    let waits_for = |it: &HeldRow| it.row == event.row.id || has_key(it);
    Ok(held.iter().any(waits_for))
}
