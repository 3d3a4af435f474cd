//! Dead letters by HTTP: everybody may see them, and whoever has the token may send them back or drop them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use tracing::info;

use super::Source;
use super::answers::{Trouble, moved, page};
use super::caller::Caller;
use super::fields::{Fields, filtered};
use super::sessions::Said;
use crate::app::page::{Confirmation, Found, LetterPage};
use crate::postgres::{self, Choice};

/// Letters on a page.
const SHOWN: u32 = 50;

/// Which of them somebody wants to see.
struct Asked {
    after: i64,
    reason: Option<String>,
}

impl Asked {
    fn of(uri: &Uri) -> Result<Self, Trouble> {
        let fields = Fields::of(uri.query().unwrap_or_default().as_bytes());
        Ok(Self {
            after: fields.number("after")?.unwrap_or(0),
            reason: fields.reason()?.map(str::to_owned),
        })
    }
}

/// The list, a page at a time.
pub(super) async fn list(
    State(source): State<Arc<Source>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let asked = match Asked::of(&uri) {
        Ok(asked) => asked,
        Err(trouble) => return trouble.page(),
    };
    match source.desk.within(found(&source, &asked)).await {
        Ok(found) => {
            let (access, said) = source.access(&headers);
            let reason = asked.reason.unwrap_or_default();
            let shown = LetterPage::of(found, reason, source.show_payloads, access, said);
            page(StatusCode::OK, shown.html())
        }
        Err(trouble) => trouble.page(),
    }
}

/// Asks the database.
async fn found(source: &Source, asked: &Asked) -> postgres::Result<Found> {
    let mut letters = source.desk.letters().await?;
    let lacks = letters.lacks().await?;
    if lacks.sight {
        return Ok(Found {
            grants: lacks.grants,
            ..Found::default()
        });
    }
    let choice = filtered(asked.reason.as_deref());
    let count = letters.count(&choice).await?;
    // One more than is shown tells whether there is a next page.
    let seen = letters
        .glance(&choice, asked.after, SHOWN + 1, source.show_payloads)
        .await?;
    let is_more = seen.len() > SHOWN as usize;
    Ok(Found {
        letters: seen.into_iter().take(SHOWN as usize).collect(),
        is_more,
        count: Some(count),
        grants: lacks.grants,
    })
}

/// What is done with letters.
#[derive(Clone, Copy)]
enum Action {
    Retry,
    Drop,
}

impl Action {
    async fn on(self, source: &Source, choice: &Choice) -> postgres::Result<usize> {
        let mut letters = source.desk.letters().await?;
        match self {
            Self::Retry => letters.retry(choice).await,
            Self::Drop => letters.drop(choice).await,
        }
    }

    fn done(self, letters: usize) -> String {
        let what = if letters == 1 {
            "1 dead letter".to_owned()
        } else {
            format!("{letters} dead letters")
        };
        match self {
            Self::Retry => format!("{what} retried: back in the outbox"),
            Self::Drop => format!("{what} dropped for ever"),
        }
    }
}

/// Puts letters back into the outbox.
pub(super) async fn retry(
    State(source): State<Arc<Source>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    act(&source, &headers, body, Action::Retry).await
}

/// Deletes letters for ever, after having asked.
pub(super) async fn drop(
    State(source): State<Arc<Source>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    act(&source, &headers, body, Action::Drop).await
}

async fn act(source: &Source, headers: &HeaderMap, body: Body, action: Action) -> Response {
    let caller = match source.caller(headers) {
        Ok(caller) => caller,
        Err(trouble) => return trouble.to(headers),
    };
    let read = async {
        let fields = Fields::read(body).await?;
        source.is_meant(headers, &caller, &fields)?;
        let choice = fields.choice()?;
        Ok::<_, Trouble>((fields, choice))
    };
    let (fields, choice) = match read.await {
        Ok(read) => read,
        Err(trouble) => return trouble.to(headers),
    };
    let is_confirmed = fields.one("confirm") == Some("yes");
    if matches!(action, Action::Drop) && !is_confirmed {
        return ask(source, headers, &caller, &choice).await;
    }
    let done = source.desk.within(action.on(source, &choice)).await;
    if let Ok(letters) = done {
        match action {
            Action::Retry => info!(letters, "dead letters were retried over HTTP"),
            Action::Drop => info!(letters, "dead letters were dropped over HTTP"),
        }
    }
    tell(source, caller, done.map(|letters| action.done(letters)))
}

/// Nothing is dropped that nobody was asked about.
async fn ask(source: &Source, headers: &HeaderMap, caller: &Caller, choice: &Choice) -> Response {
    let counted = source
        .desk
        .within(async { source.desk.letters().await?.count(choice).await });
    let count = match counted.await {
        Ok(count) => count,
        Err(trouble) => return tell(source, caller.clone(), Err(trouble)),
    };
    match caller {
        Caller::Program => Trouble::new(
            StatusCode::BAD_REQUEST,
            format!("{count} dead letters would be dropped for ever: add confirm=yes"),
        )
        .to(headers),
        Caller::Browser { form, .. } => {
            page(StatusCode::OK, Confirmation::of(count, choice, form).html())
        }
    }
}

/// Whoever clicked goes back to the list, which says what came of it; so a page that is loaded again does nothing again.
fn tell(source: &Source, caller: Caller, done: Result<String, Trouble>) -> Response {
    match caller {
        Caller::Program => match done {
            Ok(words) => Trouble::new(StatusCode::OK, words).text(),
            Err(trouble) => trouble.text(),
        },
        Caller::Browser { cookie, .. } => {
            let is_bad = done.is_err();
            let words = done.unwrap_or_else(|trouble| trouble.words);
            source.sessions.say(&cookie, Said { words, is_bad });
            moved("/dead")
        }
    }
}
