//! What a question or a form says, as browsers write it.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use tokio::time::timeout;

use super::answers::Trouble;
use crate::postgres::Choice;

/// Of a form; a thousand ids fit into it.
const LARGEST: usize = 16 << 10;
/// A form must come within this time.
const SLOWEST: Duration = Duration::from_secs(5);

/// Of a reason to look for. Longer than any code, and long enough for the part of a reason that tells it from others.
pub(super) const LONGEST_REASON: usize = 200;

/// Names and values.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// A form, if it is small and comes soon.
    pub(super) async fn read(body: Body) -> Result<Self, Trouble> {
        match timeout(SLOWEST, to_bytes(body, LARGEST)).await {
            Ok(Ok(text)) => Ok(Self::of(&text)),
            Ok(Err(_)) => Err(Trouble::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a form has at most {LARGEST} bytes"),
            )),
            Err(_) => Err(Trouble::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the form did not come within {} s", SLOWEST.as_secs()),
            )),
        }
    }

    /// The last value of that name; one that is empty is none.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().rev().filter(|(known, _)| known == name);
        named
            .next()
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// A whole number of that name.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Trouble> {
        self.one(name).map(|text| whole(name, text)).transpose()
    }

    /// A text to look for in the reasons of dead letters.
    pub(super) fn reason(&self) -> Result<Option<&str>, Trouble> {
        match self.one("reason") {
            Some(text) if text.chars().count() > LONGEST_REASON || text.contains('\0') => Err(bad(
                format!("`reason` must be a text of at most {LONGEST_REASON} characters"),
            )),
            text => Ok(text),
        }
    }

    /// Which dead letters something is to be done with: these ids, or all with this text in their reasons. Never simply all.
    pub(super) fn choice(&self) -> Result<Choice, Trouble> {
        let named = self.0.iter().filter(|(name, _)| name == "id");
        let ids: Vec<i64> = named
            .map(|(name, text)| whole(name, text.trim()))
            .collect::<Result<_, _>>()?;
        match (ids.is_empty(), self.reason()?) {
            (false, None) => Ok(Choice::Ids(ids)),
            (true, Some(text)) => Ok(Choice::Reason(text.to_owned())),
            _ => Err(bad("say which: one or more `id`, or one `reason`")),
        }
    }
}

fn whole(name: &str, text: &str) -> Result<i64, Trouble> {
    text.parse()
        .map_err(|_| bad(format!("`{name}` must be a whole number")))
}

fn bad(words: impl Into<String>) -> Trouble {
    Trouble::new(StatusCode::BAD_REQUEST, words)
}

/// Those with the text in their reasons, or all.
pub(super) fn filtered(reason: Option<&str>) -> Choice {
    reason.map_or(Choice::All, |text| Choice::Reason(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The choice or what is wrong with it.
    fn choice(form: &str) -> Result<Choice, String> {
        let fields = Fields::of(form.as_bytes());
        fields.choice().map_err(|trouble| trouble.words)
    }

    #[test]
    fn values_are_decoded_and_what_is_empty_is_not_there() {
        let fields = Fields::of(b"a=1&a=+2&b=%C3%A9+%26&c=&reason=%20");
        assert_eq!(fields.number("a").ok(), Some(Some(2)));
        assert_eq!(fields.one("b"), Some("é &"));
        assert_eq!((fields.one("c"), fields.one("d")), (None, None));
        assert_eq!(fields.reason().ok(), Some(None));
    }

    #[test]
    fn a_choice_is_ids_or_a_reason_and_never_simply_all() {
        assert_eq!(choice("id=1&id=-2"), Ok(Choice::Ids(vec![1, -2])));
        assert_eq!(choice("reason=a+b"), Ok(Choice::Reason("a b".into())));
        // A text that every reason has would choose all.
        for neither in ["", "reason=", "reason=+", "id=1&reason=x", "ids=1"] {
            let words = choice(neither).expect_err(neither);
            assert!(words.starts_with("say which"), "{neither}: {words}");
        }
        for text in ["x", "1.5", "9223372036854775808", "%D9%A1", ""] {
            let words = choice(&format!("id=1&id={text}")).expect_err(text);
            assert_eq!(words, "`id` must be a whole number");
        }
        for text in ["%00".to_owned(), "x".repeat(201)] {
            let words = choice(&format!("reason={text}")).expect_err(&text);
            assert!(words.starts_with("`reason` must be"), "{words}");
        }
    }
}
