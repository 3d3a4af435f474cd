//! The page of dead letters, in words.

use askama::Template;

use super::view::time;
use crate::app::http::Said;
use crate::postgres::{CUT, Choice, Glance};

/// What whoever looks at the page may do.
pub(in crate::app) enum Access {
    /// Nothing, since there is no token.
    ReadOnly,
    /// Nothing before the token is given.
    Closed,
    /// Everything.
    Open {
        /// What each form has to bring along.
        form: String,
    },
}

/// What the database said.
#[derive(Default)]
pub(in crate::app) struct Found {
    pub(in crate::app) letters: Vec<Glance>,
    /// Whether there are others behind them.
    pub(in crate::app) is_more: bool,
    /// How many there are in all; `None`: our role may not see them.
    pub(in crate::app) count: Option<i64>,
    /// What our role lacks.
    pub(in crate::app) grants: Vec<String>,
}

/// The page.
#[derive(Template)]
#[template(path = "dead.html")]
pub(in crate::app) struct LetterPage {
    reason: String,
    count: Option<i64>,
    grants: String,
    letters: Vec<Row>,
    show_payloads: bool,
    access: Access,
    said: Option<Said>,
    /// Where the next page is.
    next: Option<String>,
}

struct Row {
    id: i64,
    refused_at: String,
    age: String,
    outbox: String,
    row_id: i64,
    event_type: String,
    key: Option<String>,
    topic: String,
    code: String,
    /// Where all of this code are.
    alike: String,
    reason: String,
    payload_size: i64,
    key_size: i64,
    headers_size: i64,
    attempts: i64,
    payload: Option<String>,
}

impl LetterPage {
    pub(in crate::app) fn of(
        found: Found,
        reason: String,
        show_payloads: bool,
        access: Access,
        said: Option<Said>,
    ) -> Self {
        let last = found.letters.last().map(|it| it.letter.id);
        let next = last.filter(|_| found.is_more);
        Self {
            next: next.map(|id| address(&reason, Some(id))),
            reason,
            count: found.count,
            grants: found.grants.join("\n"),
            letters: found.letters.into_iter().map(Row::of).collect(),
            show_payloads,
            access,
            said,
        }
    }

    /// What the forms bring along, if there are any.
    fn form(&self) -> Option<&str> {
        match &self.access {
            Access::Open { form } => Some(form),
            Access::ReadOnly | Access::Closed => None,
        }
    }

    pub(in crate::app) fn html(&self) -> askama::Result<String> {
        self.render()
    }
}

/// Whether letters are really to be dropped.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(in crate::app) struct Confirmation {
    what: String,
    ids: Vec<i64>,
    reason: Option<String>,
    form: String,
}

impl Confirmation {
    pub(in crate::app) fn of(count: i64, choice: &Choice, form: &str) -> Self {
        let (ids, reason) = match choice {
            Choice::Ids(ids) => (ids.clone(), None),
            Choice::Reason(text) => (Vec::new(), Some(text.clone())),
            Choice::All => (Vec::new(), None),
        };
        let what = match (ids.as_slice(), count) {
            ([id], _) => format!("the dead letter {id}"),
            (_, 1) => "1 dead letter".into(),
            (_, count) => format!("{count} dead letters"),
        };
        Self {
            what,
            ids,
            reason,
            form: form.to_owned(),
        }
    }

    pub(in crate::app) fn html(&self) -> askama::Result<String> {
        self.render()
    }
}

impl Row {
    fn of(glance: Glance) -> Self {
        let Glance { letter, payload } = glance;
        Self {
            id: letter.id,
            refused_at: letter.refused_at,
            age: time(letter.age_seconds),
            outbox: letter.outbox,
            row_id: letter.row_id,
            event_type: cut(letter.event_type),
            key: letter.key.map(cut),
            topic: letter.topic.map_or_else(|| "none".into(), cut),
            alike: address(&letter.code, None),
            code: letter.code,
            reason: cut(letter.reason),
            payload_size: letter.payload_size,
            key_size: letter.key_size,
            headers_size: letter.headers_size,
            attempts: letter.attempts,
            payload: payload.map(cut),
        }
    }
}

/// A text that was cut shows it.
fn cut(mut text: String) -> String {
    if text.chars().count() >= CUT {
        text.push('…');
    }
    text
}

/// Where a list of them is.
pub(in crate::app) fn address(reason: &str, after: Option<i64>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !reason.is_empty() {
        query.append_pair("reason", reason);
    }
    if let Some(after) = after {
        query.append_pair("after", &after.to_string());
    }
    match query.finish().as_str() {
        "" => "/dead".into(),
        query => format!("/dead?{query}"),
    }
}
