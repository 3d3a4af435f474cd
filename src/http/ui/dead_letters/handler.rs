//! Lists dead letters, and shows one.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;

use super::query::Query;
use super::view::{Action, FoundLetters, LetterPage, LettersPage, Outcome};
use crate::config::Outbox;
use crate::http::form::{Form, bad};
use crate::http::responses::{HttpError, page};
use crate::http::state::AppState;
use crate::http::ui::Here;
use crate::postgres::{self, DeadLetters, Selection, Session};

const PAGE_SIZE: u32 = 50;

/// Responds with the list, a page at a time.
pub(crate) async fn list(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    listed(&state, &headers, &Form::of_query(&uri))
        .await
        .unwrap_or_else(HttpError::page)
}

async fn listed(
    state: &AppState,
    headers: &HeaderMap,
    fields: &Form,
) -> Result<Response, HttpError> {
    let query = Query::of(fields)?;
    let outboxes = query.chosen(&state.db.outboxes)?;
    let after = fields.number("after")?.unwrap_or(0);
    let outcome = Outcome::of(Action::Retry, fields)?.or(Outcome::of(Action::Drop, fields)?);
    let found = async |session: &mut Session| find(session, &outboxes, &query, after).await;
    let found = state.db.run(found).await?;
    let frame = state.page(Here::Dead, headers);
    let is_selected = fields.one("select") == Some("page");
    let shown = LettersPage::of(
        frame,
        &state.db.outboxes,
        found,
        query,
        (after, is_selected),
        outcome,
    );
    Ok(page(StatusCode::OK, shown.render()))
}

async fn find(
    session: &mut Session,
    outboxes: &[Outbox],
    query: &Query,
    after: i64,
) -> postgres::Result<FoundLetters> {
    let mut letters = DeadLetters::of(session, outboxes).await?;
    let missing = letters.missing_privileges().await?;
    if missing.cannot_read {
        return Ok(FoundLetters {
            grants: missing.grants,
            ..FoundLetters::default()
        });
    }
    let selection = Selection::Matching(query.filter.clone());
    let count = letters.count(&selection).await?;
    // One more than is shown tells whether there is a next page.
    let mut found = letters.previews(&selection, after, PAGE_SIZE + 1).await?;
    let is_more = found.len() > PAGE_SIZE as usize;
    found.truncate(PAGE_SIZE as usize);
    Ok(FoundLetters {
        letters: found,
        is_more,
        count: Some(count),
        facets: letters.facets().await?,
        grants: missing.grants,
    })
}

/// Responds with one dead letter.
pub(crate) async fn one(
    State(state): State<Arc<AppState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let shown = showed(&state, &headers, &id, &Form::of_query(&uri)).await;
    shown.unwrap_or_else(HttpError::page)
}

async fn showed(
    state: &AppState,
    headers: &HeaderMap,
    id: &str,
    fields: &Form,
) -> Result<Response, HttpError> {
    let Ok(id) = id.parse() else {
        return Err(bad("the id of a dead letter must be a whole number"));
    };
    let query = Query::of(fields)?;
    let payloads = state.show_payloads;
    let work = async |session: &mut Session| {
        let mut letters = DeadLetters::of(session, &state.db.outboxes).await?;
        letters.detail(id, payloads).await
    };
    let Some((letter, refusals)) = state.db.run(work).await? else {
        let message =
            format!("there is no dead letter {id}: it was retried or dropped, or never existed");
        return Err(HttpError::new(StatusCode::NOT_FOUND, message));
    };
    let frame = state.page(Here::Dead, headers);
    let shown = LetterPage::of(frame, letter, refusals, &query, payloads);
    Ok(page(StatusCode::OK, shown.render()))
}
