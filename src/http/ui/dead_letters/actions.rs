//! Retries and drops dead letters. What cannot be undone, and what concerns several, is asked for
//! first; and what has arrived since the question is left alone.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tracing::info;

use super::query::Query;
use super::view::{Action, Confirmation, Outcome};
use crate::http::auth::Client;
use crate::http::form::Form;
use crate::http::responses::{HttpError, page, see_other};
use crate::http::state::AppState;
use crate::http::ui::Here;
use crate::numbers::counted;
use crate::postgres::{DeadLetters, Selection, Session};

type Posted = (State<Arc<AppState>>, HeaderMap, Body);

/// Puts dead letters back into the outbox.
pub(crate) async fn retry(posted: Posted) -> Response {
    respond(posted, Action::Retry).await
}

/// Deletes dead letters for ever.
pub(crate) async fn drop(posted: Posted) -> Response {
    respond(posted, Action::Drop).await
}

async fn respond((State(state), headers, body): Posted, action: Action) -> Response {
    let done = act(&state, &headers, body, action).await;
    done.unwrap_or_else(|error| error.response_to(&headers))
}

async fn act(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
    action: Action,
) -> Result<Response, HttpError> {
    let client = state.auth.client(headers)?;
    let form = Form::read(body).await?;
    let selection = form.selection()?;
    let chosen = Query::of(&form)?;
    let outboxes = chosen.chosen(&state.db.outboxes)?;
    // The list to return to.
    let list = Query::of(&Form::of(form.one("filter").unwrap_or_default().as_bytes()))?;
    let is_one = matches!(&selection, Selection::Ids(ids) if ids.len() == 1);
    let is_asked = match client {
        Client::Program => action == Action::Drop,
        Client::Browser(_) => action == Action::Drop || !is_one,
    };
    if is_asked && form.one("confirm") != Some("yes") {
        let count = async |session: &mut Session| {
            let mut letters = DeadLetters::of(session, &outboxes).await?;
            letters.counted(&selection).await
        };
        let (count, last) = state.db.run(count).await?;
        if client == Client::Program {
            let count = counted(count, "dead letter");
            let message = format!("{count} would be dropped for ever: add confirm=yes");
            return Err(HttpError::new(StatusCode::BAD_REQUEST, message));
        }
        if count == 0 {
            let message = "no dead letter matches any more; nothing was changed";
            return Err(HttpError::new(StatusCode::CONFLICT, message));
        }
        let frame = state.page(Here::Dead, headers);
        let asked = Confirmation::of(frame, action, (count, last), selection, &chosen, &list);
        return Ok(page(StatusCode::OK, asked.render()));
    }
    let work = async |session: &mut Session| {
        let mut letters = DeadLetters::of(session, &outboxes).await?;
        match action {
            Action::Retry => letters.retry(&selection).await,
            Action::Drop => letters.drop(&selection).await,
        }
    };
    let letters = state.db.run(work).await?;
    let by = client.name();
    info!(letters, by, "dead letters were {} over HTTP", action.done());
    let count = i64::try_from(letters).unwrap_or(i64::MAX);
    Ok(match client {
        Client::Program => {
            HttpError::new(StatusCode::OK, Outcome(action, count).to_string()).text()
        }
        // So that reloading the page does not repeat the change.
        Client::Browser(_) => {
            see_other(&list.address("/dead", &[(action.done(), &count.to_string())]))
        }
    })
}
