//! Routes. Their handlers respond from memory, except for those of `dead_letters`, `relays`,
//! `pause` and `delivered`, which ask the database.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;

use super::exposition::{CLASSIC, OPEN_METRICS, classic, open_metrics};
use super::health::OutboxHealth;
use super::responses::{HttpError, TEXT, see_other, text};
use super::same_origin::is_for_another_site;
use super::state::AppState;
use super::ui::dead_letters::{actions, handler as dead_letters};
use super::ui::delivered::delivered;
use super::ui::overview::handler as overview;
use super::ui::pause::handler as pause;
use super::ui::relays::handler as relays;
use super::ui::runbook;
use crate::sync::lock;

/// The relay's threads are stuck once they have not beaten, as they do each second, for this long.
const STUCK: Duration = Duration::from_secs(30);

pub(super) fn router(state: Arc<AppState>) -> Router {
    let queries = Router::new()
        .route("/dead", get(dead_letters::list))
        .route("/dead/{id}", get(dead_letters::one))
        .route("/relays", get(relays::list))
        .route("/pause", get(pause::show))
        .route("/login", get(login))
        .route("/delivered", get(delivered))
        .route_layer(from_fn(check_site));
    Router::new()
        .merge(queries)
        .route("/", get(overview::first))
        .route("/outbox", get(overview::one))
        .route("/runbook", get(runbook::show))
        .route("/pause", post(pause::pause))
        .route("/resume", post(pause::resume))
        .route("/dead/retry", post(actions::retry))
        .route("/dead/drop", post(actions::drop))
        .route("/page/events", get(overview::events))
        .route("/page.css", get(overview::style))
        .route("/page.js", get(overview::script))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .layer(from_fn_with_state(Arc::clone(&state), check_host))
        .with_state(state)
}

/// Refuses requests for another host.
async fn check_host(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    match state.names.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(message) => HttpError::new(StatusCode::MISDIRECTED_REQUEST, message).text(),
    }
}

/// Refuses what another site has a browser load.
async fn check_site(request: Request, next: Next) -> Response {
    if !is_for_another_site(request.headers()) {
        return next.run(request).await;
    }
    let message = "another site requested this page: open its address yourself";
    HttpError::new(StatusCode::FORBIDDEN, message).page()
}

/// Has a browser ask its user for the token, which it then sends with each request.
async fn login(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    match state.auth.log_in(&headers) {
        Ok(()) => see_other("/"),
        Err(error) => error.page(),
    }
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    ready: bool,
    outboxes: Vec<OutboxHealth>,
}

async fn healthz(State(state): State<Arc<AppState>>) -> Response {
    alive(lock(&state.beat).elapsed())
}

fn alive(silent: Duration) -> Response {
    if silent < STUCK {
        return text(StatusCode::OK, TEXT, "alive\n".into());
    }
    let words = format!(
        "stuck: the relay's threads have done nothing for {} s: restart it\n",
        silent.as_secs()
    );
    text(StatusCode::SERVICE_UNAVAILABLE, TEXT, words)
}

async fn readyz(State(state): State<Arc<AppState>>) -> Response {
    let outboxes = state.health();
    let mut lines = String::new();
    for OutboxHealth { relay, readiness } in &outboxes {
        let word = if readiness.ready {
            "ready"
        } else {
            "not ready"
        };
        for words in &readiness.words {
            lines += &format!("{}: {word}: {words}\n", relay.outbox);
        }
        for words in &readiness.warnings {
            lines += &format!("{}: warning: {words}\n", relay.outbox);
        }
    }
    let ready = outboxes.iter().all(|outbox| outbox.readiness.ready);
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    text(code, TEXT, lines)
}

async fn status(State(state): State<Arc<AppState>>) -> Response {
    let outboxes = state.health();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: outboxes.iter().all(|outbox| outbox.readiness.ready),
        outboxes,
    };
    ([(CACHE_CONTROL, "no-store")], Json(status)).into_response()
}

async fn metrics(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let accepts_open = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let Ok(metrics) = open_metrics(state.health(), &state.labels) else {
        let message = "the metrics could not be encoded\n".into();
        return text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, message);
    };
    if accepts_open {
        text(StatusCode::OK, OPEN_METRICS, metrics)
    } else {
        text(StatusCode::OK, CLASSIC, classic(&metrics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_relay_has_not_run_for_half_a_minute_is_not_alive() {
        assert_eq!(alive(STUCK - Duration::from_millis(1)).status(), 200);
        assert_eq!(alive(STUCK).status(), 503);
    }
}
