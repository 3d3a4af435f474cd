//! Contents of the pages of dead letters, for their templates.

use std::fmt;

use askama::Template;

use super::query::Query;
use crate::config::Outbox;
use crate::http::form::{Form, bad};
use crate::http::responses::HttpError;
use crate::http::ui::Page;
use crate::http::ui::code::with_code;
use crate::numbers::{age, counted, date_and_time};
use crate::postgres::{
    DETAIL_CHARS, DeadLetter, DeadLetterContents, Facet, LetterRefusal, PREVIEW_CHARS, Selection,
};

/// What the database returned.
#[derive(Default)]
pub(crate) struct FoundLetters {
    pub(crate) letters: Vec<DeadLetter>,
    pub(crate) is_more: bool,
    /// Number of all that match; `None` if the relay's role may not read them.
    pub(crate) count: Option<i64>,
    pub(crate) facets: Vec<Facet>,
    /// Statements that grant the privileges which the relay's role lacks.
    pub(crate) grants: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Action {
    Retry,
    Drop,
}

impl Action {
    /// Returns the parameter of its outcome in the query of the list, which then reports it.
    pub(crate) fn done(self) -> &'static str {
        match self {
            Self::Retry => "retried",
            Self::Drop => "dropped",
        }
    }
}

/// How many dead letters were changed, and how.
#[derive(Clone, Copy)]
pub(crate) struct Outcome(pub(crate) Action, pub(crate) i64);

impl Outcome {
    pub(crate) fn of(action: Action, fields: &Form) -> Result<Option<Self>, HttpError> {
        match fields.number(action.done())? {
            Some(count) if count < 0 => Err(bad(format!("`{}` must be a count", action.done()))),
            count => Ok(count.map(|count| Self(action, count))),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(action, count) = *self;
        let place = match action {
            _ if count == 0 => ": none matches any more",
            Action::Retry => ": back in the outbox",
            Action::Drop => " for ever",
        };
        write!(
            f,
            "{} {}{place}",
            counted(count, "dead letter"),
            action.done()
        )
    }
}

#[derive(Template)]
#[template(path = "dead_letters/list.html")]
pub(crate) struct LettersPage {
    page: Page,
    query: Query,
    filter: String,
    /// Name, label, and values with their numbers, of what can be chosen from.
    choices: Vec<(&'static str, &'static str, Vec<Choice>)>,
    /// Whether there are several outboxes.
    names_outbox: bool,
    count: Option<i64>,
    grants: String,
    letters: Vec<Row>,
    /// Whether all letters of this page are selected, and the address of the page where they are
    /// not, or are.
    is_selected: bool,
    other_selection: String,
    outcome: Option<Outcome>,
    /// Address of the next page, and of the first.
    next: Option<String>,
    first: Option<String>,
}

struct Choice {
    value: String,
    words: String,
    is_chosen: bool,
}

struct Row {
    letter: DeadLetter,
    age: String,
    address: String,
    /// Address of the list of all with this code.
    alike: String,
}

impl LettersPage {
    pub(crate) fn of(
        page: Page,
        outboxes: &[Outbox],
        found: FoundLetters,
        query: Query,
        (after, is_selected): (i64, bool),
        outcome: Option<Outcome>,
    ) -> Self {
        let names_outbox = outboxes.len() > 1;
        let last = found.letters.last().map(|it| it.id.to_string());
        let next = last.filter(|_| found.is_more);
        let facets = |kind, words, chosen: &Option<String>| {
            (kind, words, choices(&found.facets, kind, chosen.as_deref()))
        };
        let mut choices = vec![
            facets("topic", "Topic", &query.filter.topic),
            facets("type", "Type", &query.filter.event_type),
        ];
        if names_outbox {
            choices.insert(0, ("outbox", "Outbox", chosen_of(outboxes, &query)));
        }
        let mut others = Vec::new();
        let after = after.to_string();
        if after != "0" {
            others.push(("after", after.as_str()));
        }
        if !is_selected {
            others.push(("select", "page"));
        }
        Self {
            choices,
            names_outbox,
            next: next.map(|id| query.address("/dead", &[("after", &id)])),
            first: (after != "0").then(|| query.address("/dead", &[])),
            other_selection: query.address("/dead", &others),
            count: found.count,
            grants: found.grants.join("\n"),
            letters: found
                .letters
                .into_iter()
                .map(|it| Row::of(it, &query))
                .collect(),
            page,
            filter: query.text(&[]),
            query,
            is_selected,
            outcome,
        }
    }
}

fn choices(facets: &[Facet], kind: &str, chosen: Option<&str>) -> Vec<Choice> {
    let of_kind = facets
        .iter()
        .filter(|it| it.kind == kind && !it.value.is_empty());
    let mut all: Vec<_> = of_kind
        .map(|it| Choice {
            value: it.value.clone(),
            words: format!("{} ({})", it.value, it.letters),
            is_chosen: chosen == Some(&it.value),
        })
        .collect();
    if let Some(value) = chosen
        && all.iter().all(|it| !it.is_chosen)
    {
        all.push(Choice {
            value: value.to_owned(),
            words: format!("{value} (0)"),
            is_chosen: true,
        });
    }
    all
}

fn chosen_of(outboxes: &[Outbox], query: &Query) -> Vec<Choice> {
    let names = outboxes.iter().map(|it| it.table.to_string());
    names
        .map(|name| Choice {
            is_chosen: query.outbox.as_ref() == Some(&name),
            words: name.clone(),
            value: name,
        })
        .collect()
}

impl Row {
    fn of(mut letter: DeadLetter, query: &Query) -> Self {
        mark(&mut letter, PREVIEW_CHARS);
        let mut alike = query.clone();
        alike.filter.reason = Some(letter.code.clone());
        Self {
            age: age(letter.age_seconds),
            address: query.address(&format!("/dead/{}", letter.id), &[]),
            alike: alike.address("/dead", &[]),
            letter,
        }
    }
}

/// Marks the texts that were cut.
fn mark(letter: &mut DeadLetter, chars: usize) {
    let optional = [&mut letter.key, &mut letter.topic];
    let texts = [&mut letter.event_type, &mut letter.reason].into_iter();
    for text in texts.chain(optional.into_iter().flatten()) {
        cut(text, chars);
    }
}

fn cut(text: &mut String, chars: usize) {
    if text.chars().count() >= chars {
        text.push('…');
    }
}

/// The page of one dead letter.
#[derive(Template)]
#[template(path = "dead_letters/letter.html")]
pub(crate) struct LetterPage {
    page: Page,
    letter: DeadLetter,
    /// HTML.
    reason: String,
    age: String,
    created_at: String,
    /// Names and values, if they are an object and were not cut.
    headers: Vec<(String, String)>,
    /// The text of others.
    raw_headers: Option<String>,
    /// The columns that only the configuration names.
    columns: Option<String>,
    payload: Option<String>,
    show_payloads: bool,
    refusals: Vec<LetterRefusal>,
    /// Query and address of the list that this page was opened from.
    filter: String,
    list: String,
}

impl LetterPage {
    pub(crate) fn of(
        page: Page,
        contents: DeadLetterContents,
        mut refusals: Vec<LetterRefusal>,
        query: &Query,
        show_payloads: bool,
    ) -> Self {
        let DeadLetterContents {
            mut letter,
            created_at,
            headers,
            columns,
            mut payload,
        } = contents;
        mark(&mut letter, DETAIL_CHARS);
        letter.refused_at = date_and_time(&letter.refused_at);
        for it in &mut refusals {
            it.refused_at = date_and_time(&it.refused_at);
            it.retried_at = it.retried_at.as_deref().map(date_and_time);
        }
        if let Some(text) = &mut payload {
            cut(text, DETAIL_CHARS);
        }
        let parsed = headers.as_deref().map(serde_json::from_str);
        let (headers, raw_headers) = match parsed {
            Some(Ok(serde_json::Value::Object(all))) => {
                let shown = |(name, value): (String, serde_json::Value)| match value {
                    serde_json::Value::String(text) => (name, text),
                    other => (name, other.to_string()),
                };
                (all.into_iter().map(shown).collect(), None)
            }
            _ => (Vec::new(), headers),
        };
        Self {
            page,
            age: age(letter.age_seconds),
            reason: with_code(&letter.reason),
            letter,
            created_at: date_and_time(&created_at),
            headers,
            raw_headers,
            columns,
            payload,
            show_payloads,
            refusals,
            filter: query.text(&[]),
            list: query.address("/dead", &[]),
        }
    }
}

/// The question before dead letters are changed.
#[derive(Template)]
#[template(path = "dead_letters/confirm.html")]
pub(crate) struct Confirmation {
    page: Page,
    is_drop: bool,
    what: String,
    /// Names and values of the form that confirms.
    fields: Vec<(&'static str, String)>,
    list: String,
}

impl Confirmation {
    pub(crate) fn of(
        page: Page,
        action: Action,
        (count, last): (i64, Option<i64>),
        selection: Selection,
        chosen: &Query,
        list: &Query,
    ) -> Self {
        let mut fields = vec![("filter", list.text(&[]))];
        fields.extend(
            chosen
                .fields()
                .into_iter()
                .map(|(name, value)| (name, value.to_owned())),
        );
        let what = match selection {
            Selection::Ids(ids) => {
                let named: Vec<_> = ids.iter().map(i64::to_string).collect();
                fields.extend(named.iter().map(|id| ("id", id.clone())));
                match named.as_slice() {
                    [id] => format!("the dead letter {id}"),
                    ids => format!("{}: {}", counted(count, "dead letter"), ids.join(", ")),
                }
            }
            Selection::Matching(_) => {
                fields.extend(last.map(|last| ("until", last.to_string())));
                format!("{}{}", counted(count, "dead letter"), chosen.words())
            }
        };
        Self {
            page,
            is_drop: action == Action::Drop,
            what,
            fields,
            list: list.address("/dead", &[]),
        }
    }
}
