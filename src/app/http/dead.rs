//! Dead letters by HTTP.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::Source;
use super::answers::page;
use super::desk::Trouble;
use super::fields::{Fields, filtered};
use crate::app::page::{Found, LetterPage, note};
use crate::postgres;

/// Letters on a page.
const SHOWN: u32 = 50;

/// Which of them somebody wants to see.
struct Asked {
    after: i64,
    reason: Option<String>,
}

impl Asked {
    fn of(uri: &Uri) -> Result<Self, String> {
        let fields = Fields::of(uri.query().unwrap_or_default().as_bytes());
        Ok(Self {
            after: fields.number("after")?.unwrap_or(0),
            reason: fields.reason()?.map(str::to_owned),
        })
    }
}

/// The list, a page at a time.
pub(super) async fn list(State(source): State<Arc<Source>>, uri: Uri) -> Response {
    let asked = match Asked::of(&uri) {
        Ok(asked) => asked,
        Err(words) => return page(StatusCode::BAD_REQUEST, note(&words)),
    };
    match source.desk.within(found(&source, &asked)).await {
        Ok(found) => page(StatusCode::OK, shown(&source, asked, found)),
        Err(Trouble { code, words }) => page(code, note(&words)),
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

fn shown(source: &Source, asked: Asked, found: Found) -> askama::Result<String> {
    LetterPage::of(
        found,
        asked.reason.unwrap_or_default(),
        source.show_payloads,
    )
    .html()
}
