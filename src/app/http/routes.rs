//! What is answered where. No answer waits for anything: all of it is known already.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::Source;
use super::exposition::{CLASSIC, OPEN_METRICS, classic, open_metrics};
use crate::relay::{Readiness, Snapshot};

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn router(source: Source) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .with_state(Arc::new(source))
}

impl Source {
    /// Each outbox with its judgement.
    fn judged(&self) -> Vec<Judged> {
        let judge = |relay: Snapshot| Judged {
            readiness: Readiness::of(&relay, self.stuck_after),
            relay,
        };
        self.vitals.iter().map(|it| judge(it.snapshot())).collect()
    }
}

/// An outbox's relay, and whether it is well.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    #[serde(flatten)]
    pub(super) relay: Snapshot,
    pub(super) readiness: Readiness,
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    ready: bool,
    outboxes: Vec<Judged>,
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

fn answer(code: StatusCode, kind: &'static str, text: String) -> Response {
    (
        code,
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")],
        text,
    )
        .into_response()
}
