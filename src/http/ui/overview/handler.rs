//! Responds with the page, and streams its changes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::http::form::Form;
use crate::http::health::OutboxHealth;
use crate::http::responses::{HttpError, TEXT, asset, live_page, text};
use crate::http::state::AppState;
use crate::http::ui::Here;

const STYLE: &str = include_str!("../page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of the only outbox, or of all.
pub(crate) async fn first(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let page = state.page(Here::Overview, &headers);
    live_page(state.feed.render(0, page, &state.health()))
}

/// The page of one outbox.
pub(crate) async fn one(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let outboxes = state.health();
    match number(&state, &outboxes, &uri) {
        Ok(number) => {
            let page = state.page(Here::Overview, &headers);
            live_page(state.feed.render(number, page, &outboxes))
        }
        Err(error) => error.page(),
    }
}

/// Returns the number of the page that a query names.
fn number(state: &AppState, outboxes: &[OutboxHealth], uri: &Uri) -> Result<usize, HttpError> {
    let fields = Form::of_query(uri);
    let known = outboxes.iter().map(|it| it.relay.outbox.clone());
    let number = state.feed.number(outboxes, fields.one("outbox"));
    number.ok_or_else(|| HttpError::no_outbox(known))
}

pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE.into())
}

pub(crate) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT.into())
}

/// Streams changes until the page is closed or the process ends.
pub(crate) async fn events(State(state): State<Arc<AppState>>, uri: Uri) -> Response {
    let number = match number(&state, &state.health(), &uri) {
        Ok(number) => number,
        Err(error) => return error.text(),
    };
    let Some(watcher) = state.feed.watch(number) else {
        let message = "too many pages are open: close one\n".into();
        return text(StatusCode::SERVICE_UNAVAILABLE, TEXT, message);
    };
    let changes = stream::unfold(watcher, |mut watcher| async {
        let event = Event::default().data(watcher.next().await?);
        Some((Ok::<_, std::convert::Infallible>(event), watcher))
    });
    ([(CACHE_CONTROL, "no-store")], Sse::new(changes)).into_response()
}
