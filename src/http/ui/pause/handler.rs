//! Shows whether outboxes are paused, pauses them, and resumes them.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use tracing::info;

use crate::config::TableName;
use crate::http::auth::Client;
use crate::http::form::{Form, bad};
use crate::http::responses::{HttpError, page, see_other};
use crate::http::state::AppState;
use crate::http::ui::{Here, Page};
use crate::numbers::age;
use crate::postgres::{self, Session, Switched, pause_of, switch};

#[derive(Template)]
#[template(path = "pause/pause.html")]
struct PausePage {
    page: Page,
    outboxes: Vec<Line>,
    grants: String,
    outcome: Option<String>,
}

struct Line {
    name: String,
    /// Who paused it, why, and for how long.
    pause: Option<(String, String, String)>,
}

/// Responds with the state of each outbox.
pub(crate) async fn show(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let found = state.db.run(async |session| find(session, &state).await);
    match found.await {
        Ok((outboxes, grants)) => {
            let fields = Form::of_query(&uri);
            let shown = PausePage {
                page: state.page(Here::Pause, &headers),
                outcome: outcome(&fields, &outboxes),
                outboxes,
                grants,
            };
            page(StatusCode::OK, shown.render())
        }
        Err(error) => error.page(),
    }
}

async fn find(session: &mut Session, state: &AppState) -> postgres::Result<(Vec<Line>, String)> {
    let (mut lines, mut grants) = (Vec::new(), Vec::new());
    for outbox in &state.db.outboxes {
        let (pause, missing) = pause_of(session, &outbox.table).await?;
        grants = missing;
        let words = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
        lines.push(Line {
            name: outbox.table.to_string(),
            pause: pause.map(|it| {
                let by = words(it.by, "an unknown user");
                (by, words(it.reason, "no reason given"), age(it.seconds))
            }),
        });
    }
    Ok((lines, grants.join("\n")))
}

/// Says what an action has done, of those that its redirect can name.
fn outcome(fields: &Form, outboxes: &[Line]) -> Option<String> {
    let name = fields.one("outbox")?;
    let line = outboxes.iter().find(|it| it.name == name)?;
    let words = words(fields.one("was")? == "paused", line.pause.is_some());
    Some(format!("{name} {words}"))
}

fn words(was_paused: bool, is_paused: bool) -> &'static str {
    match (was_paused, is_paused) {
        (false, true) => "is paused: no row is sent until it is resumed",
        (true, true) => "was already paused; it has the new reason",
        (true, false) => "is resumed",
        (false, false) => "was not paused: nothing was changed",
    }
}

type Posted = (State<Arc<AppState>>, HeaderMap, Body);

/// Pauses an outbox, with a reason.
pub(crate) async fn pause(posted: Posted) -> Response {
    respond(posted, true).await
}

/// Ends the pause of an outbox.
pub(crate) async fn resume(posted: Posted) -> Response {
    respond(posted, false).await
}

async fn respond((State(state), headers, body): Posted, pauses: bool) -> Response {
    let done = act(&state, &headers, body, pauses).await;
    done.unwrap_or_else(|error| error.response_to(&headers))
}

async fn act(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
    pauses: bool,
) -> Result<Response, HttpError> {
    let client = state.auth.client(headers)?;
    let form = Form::read(body).await?;
    let table = table(state, &form)?;
    let by = form.text("by")?.unwrap_or_else(|| client.name());
    let reason = form.text("reason")?;
    if pauses && reason.is_none() {
        return Err(bad(
            "give a `reason`: it is shown to everyone who asks why no row is sent",
        ));
    }
    let asked = pauses.then_some((by.as_str(), reason.as_deref()));
    let work = async |session: &mut Session| switch(session, &table, asked).await;
    let Switched {
        outbox, was_paused, ..
    } = state.db.run(work).await?;
    let done = words(was_paused, pauses);
    info!(by, reason, "over HTTP: {outbox} {done}");
    Ok(match client {
        Client::Program => HttpError::new(StatusCode::OK, format!("{outbox} {done}")).text(),
        Client::Browser(_) => {
            let was = if was_paused { "paused" } else { "running" };
            let mut query = form_urlencoded::Serializer::new(String::new());
            query
                .append_pair("outbox", &table.to_string())
                .append_pair("was", was);
            see_other(&format!("/pause?{}", query.finish()))
        }
    })
}

fn table(state: &AppState, form: &Form) -> Result<TableName, HttpError> {
    let name = form
        .one("outbox")
        .ok_or_else(|| bad("name the outbox, as `outbox`"))?;
    let tables = state.db.outboxes.iter().map(|it| &it.table);
    let found = tables.clone().find(|it| it.to_string() == name);
    let unknown = || HttpError::no_outbox(tables.map(ToString::to_string));
    found.cloned().ok_or_else(unknown)
}
