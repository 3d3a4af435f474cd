//! What a question or a form says, as browsers write it.

use crate::postgres::Choice;

/// Of a reason to look for. Longer than any code, and long enough for the part of a reason that tells it from others.
pub(super) const LONGEST_REASON: usize = 200;

/// Names and values.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
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
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, String> {
        self.one(name).map(|text| whole(name, text)).transpose()
    }

    /// Dead letters by a text in their reasons.
    pub(super) fn reason(&self) -> Result<Option<&str>, String> {
        match self.one("reason") {
            Some(text) if text.chars().count() > LONGEST_REASON || text.contains('\0') => Err(
                format!("`reason` must be a text of at most {LONGEST_REASON} characters"),
            ),
            text => Ok(text),
        }
    }
}

fn whole(name: &str, text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| format!("`{name}` must be a whole number"))
}

/// Those with the text in their reasons, or all.
pub(super) fn filtered(reason: Option<&str>) -> Choice {
    reason.map_or(Choice::All, |text| Choice::Reason(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_what_is_empty_is_not_there() {
        let fields = Fields::of(b"a=1&a=+2&b=%C3%A9+%26&c=&reason=%20");
        assert_eq!(fields.number("a"), Ok(Some(2)));
        assert_eq!(fields.one("b"), Some("é &"));
        assert_eq!((fields.one("c"), fields.one("d")), (None, None));
        // A text that every reason has would choose all.
        assert_eq!(fields.reason(), Ok(None));
    }

    #[test]
    fn what_is_no_number_and_no_reason_is_said() {
        for text in ["x", "1.5", "9223372036854775808", "١"] {
            let fields = Fields::of(format!("after={text}").as_bytes());
            assert_eq!(
                fields.number("after"),
                Err("`after` must be a whole number".into())
            );
        }
        for text in ["%00".to_owned(), "x".repeat(201)] {
            let fields = Fields::of(format!("reason={text}").as_bytes());
            assert!(fields.reason().is_err(), "{text}");
        }
    }
}
