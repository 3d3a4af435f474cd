//! What is answered where. Nothing here waits: all of it is known already, but for what `dead` and `relays` ask the database.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::Serialize;

use super::answers::{TEXT, Trouble, answer, live, part};
use super::exposition::{CLASSIC, OPEN_METRICS, classic, open_metrics};
use super::judged::Judged;
use super::{Source, caller, dead, relays};
use crate::app::page;

pub(super) fn router(source: Arc<Source>) -> Router {
    Router::new()
        .route("/", get(whole))
        .route("/dead", get(dead::list))
        .route("/dead/retry", post(dead::retry))
        .route("/dead/drop", post(dead::drop))
        .route("/relays", get(relays::list))
        .route("/login", post(caller::enter))
        .route("/logout", post(caller::leave))
        .route("/page/events", get(events))
        .route("/page.css", get(style))
        .route("/page.js", get(script))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .layer(from_fn_with_state(Arc::clone(&source), known))
        .with_state(source)
}

/// Answers only those who ask for us by a name of ours.
async fn known(State(source): State<Arc<Source>>, request: Request, next: Next) -> Response {
    match source.names.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(words) => Trouble::new(StatusCode::MISDIRECTED_REQUEST, words).text(),
    }
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    ready: bool,
    outboxes: Vec<Judged>,
}

async fn whole(State(source): State<Arc<Source>>) -> Response {
    live(source.page.render(&source.judged()))
}

async fn style() -> Response {
    part("text/css; charset=utf-8", page::STYLE.into())
}

async fn script() -> Response {
    part("text/javascript; charset=utf-8", page::SCRIPT.into())
}

/// The page's changes, until it is closed or the process ends.
async fn events(State(source): State<Arc<Source>>) -> Response {
    let Some(watcher) = source.page.watch() else {
        let words = "too many pages are open\n".into();
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, words);
    };
    let changes = stream::unfold(watcher, |mut watcher| async {
        let event = Event::default().data(watcher.next().await?);
        Some((Ok::<_, std::convert::Infallible>(event), watcher))
    });
    ([(CACHE_CONTROL, "no-store")], Sse::new(changes)).into_response()
}

/// Whoever can answer is alive.
async fn healthz() -> Response {
    answer(StatusCode::OK, TEXT, "alive\n".into())
}

async fn readyz(State(source): State<Arc<Source>>) -> Response {
    let outboxes = source.judged();
    let mut text = String::new();
    for Judged { relay, readiness } in &outboxes {
        let word = if readiness.ready {
            "ready"
        } else {
            "not ready"
        };
        for words in &readiness.words {
            text += &format!("{}: {word}: {words}\n", relay.outbox);
        }
        for words in &readiness.warnings {
            text += &format!("{}: warning: {words}\n", relay.outbox);
        }
    }
    let ready = outboxes.iter().all(|outbox| outbox.readiness.ready);
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer(code, TEXT, text)
}

async fn status(State(source): State<Arc<Source>>) -> Response {
    let outboxes = source.judged();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: outboxes.iter().all(|outbox| outbox.readiness.ready),
        outboxes,
    };
    ([(CACHE_CONTROL, "no-store")], Json(status)).into_response()
}

async fn metrics(State(source): State<Arc<Source>>, headers: HeaderMap) -> Response {
    let accepts_open = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let Ok(text) = open_metrics(source.judged()) else {
        return answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "no text\n".into());
    };
    if accepts_open {
        answer(StatusCode::OK, OPEN_METRICS, text)
    } else {
        answer(StatusCode::OK, CLASSIC, classic(&text))
    }
}
