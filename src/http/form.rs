//! Fields of a query or a form, URL-encoded.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{StatusCode, Uri};
use tokio::time::timeout;

use super::responses::HttpError;
use crate::postgres::{LetterFilter, Selection};

/// Bytes of a form; a thousand ids fit.
const MAX_BYTES: usize = 16 << 10;
/// Time within which a form must arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Characters of a text to search for: longer than any code, topic or ordinary type, and long
/// enough to tell one reason from another.
const MAX_CHARS: usize = 255;

/// Names and values, in the order in which they were sent.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Returns the fields of an address.
    pub(super) fn of_query(uri: &Uri) -> Self {
        Self::of(uri.query().unwrap_or_default().as_bytes())
    }

    /// Reads a form, up to a size and for a time.
    pub(super) async fn read(body: Body) -> Result<Self, HttpError> {
        match timeout(READ_TIMEOUT, to_bytes(body, MAX_BYTES)).await {
            Ok(Ok(text)) => Ok(Self::of(&text)),
            Ok(Err(_)) => Err(HttpError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the form is too large: send at most {MAX_BYTES} bytes"),
            )),
            Err(_) => Err(HttpError::new(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the form did not arrive within {} s: send it again",
                    READ_TIMEOUT.as_secs()
                ),
            )),
        }
    }

    /// Returns the last value of that name, unless it is empty.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().rev().filter(|(known, _)| known == name);
        named
            .next()
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, HttpError> {
        self.one(name).map(|text| whole(name, text)).transpose()
    }

    /// Returns a text of one line that is not too long.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, HttpError> {
        match self.one(name) {
            Some(text) if text.chars().count() > MAX_CHARS || text.contains(char::is_control) => {
                Err(bad(format!(
                    "`{name}` must be a text of one line and at most {MAX_CHARS} characters"
                )))
            }
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// Returns what the dead letters are to have in common.
    pub(super) fn filter(&self) -> Result<LetterFilter, HttpError> {
        Ok(LetterFilter {
            reason: self.text("reason")?,
            topic: self.text("topic")?,
            event_type: self.text("type")?,
            until: self.number("until")?,
        })
    }

    /// Returns the dead letters that the form selects: these ids, or all that match. A form cannot
    /// select all of them.
    pub(super) fn selection(&self) -> Result<Selection, HttpError> {
        let named = self.0.iter().filter(|(name, _)| name == "id");
        let ids: Vec<i64> = named
            .map(|(name, text)| whole(name, text.trim()))
            .collect::<Result<_, _>>()?;
        let filter = self.filter()?;
        let matches_all = LetterFilter {
            until: filter.until,
            ..LetterFilter::default()
        } == filter;
        match (ids.is_empty(), matches_all) {
            (false, true) => Ok(Selection::Ids(ids)),
            (true, false) => Ok(Selection::Matching(filter)),
            _ => Err(bad(
                "no dead letter is selected: choose one or more, as `id`, or all of a `reason`, `topic` or `type`",
            )),
        }
    }
}

fn whole(name: &str, text: &str) -> Result<i64, HttpError> {
    text.parse()
        .map_err(|_| bad(format!("`{name}` must be a whole number")))
}

pub(super) fn bad(message: impl Into<String>) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The selection, or the error message.
    fn selection(form: &str) -> Result<Selection, String> {
        let fields = Form::of(form.as_bytes());
        fields.selection().map_err(|error| error.message)
    }

    #[test]
    fn values_are_decoded_and_empty_ones_are_absent() {
        let fields = Form::of(b"a=1&a=+2&b=%C3%A9+%26&c=&reason=%20");
        assert_eq!(fields.number("a").ok(), Some(Some(2)));
        assert_eq!(fields.one("b"), Some("é &"));
        assert_eq!((fields.one("c"), fields.one("d")), (None, None));
        assert_eq!(fields.text("reason").ok(), Some(None));
    }

    #[test]
    fn a_form_selects_ids_or_a_reason_and_never_all() {
        assert_eq!(selection("id=1&id=-2"), Ok(Selection::Ids(vec![1, -2])));
        assert_eq!(selection("reason=a+b"), Ok(Selection::reason("a b".into())));
        let topic = selection("topic=orders&until=7").expect("a topic");
        let expected = LetterFilter {
            topic: Some("orders".into()),
            until: Some(7),
            ..LetterFilter::default()
        };
        assert_eq!(topic, Selection::Matching(expected));
        // A text that every reason has would choose all.
        for neither in [
            "",
            "reason=",
            "reason=+",
            "id=1&reason=x",
            "ids=1",
            "until=7",
            "type=",
        ] {
            let words = selection(neither).expect_err(neither);
            assert!(
                words.starts_with("no dead letter is selected"),
                "{neither}: {words}"
            );
        }
        for text in ["x", "1.5", "9223372036854775808", "%D9%A1", ""] {
            let words = selection(&format!("id=1&id={text}")).expect_err(text);
            assert_eq!(words, "`id` must be a whole number");
        }
        for text in ["%00".to_owned(), "x".repeat(256)] {
            let words = selection(&format!("reason={text}")).expect_err(&text);
            assert!(words.starts_with("`reason` must be"), "{words}");
        }
    }
}
