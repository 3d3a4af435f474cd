//! Planted secrets, and the search for them in everything that leaves the program.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// All planted secrets.
#[derive(Default)]
pub(crate) struct Planted {
    /// Each with its name, and the forms in which it may appear.
    secrets: Vec<(String, Vec<String>)>,
    looked: usize,
}

impl Planted {
    /// Adds a secret to search for, and returns it.
    pub(crate) fn plant<'a>(&mut self, name: &str, secret: &'a str) -> &'a str {
        assert!(secret.len() >= 8, "{name} would be found by chance");
        self.secrets.push((name.to_owned(), forms(secret)));
        secret
    }

    /// Checks that the text has none of them.
    #[track_caller]
    pub(crate) fn look(&mut self, place: &str, text: &str) {
        self.looked += text.len();
        if let Some((name, form)) = self.found_in(text) {
            panic!("{name} is in {place}, as {form}:\n{text}");
        }
    }

    pub(crate) fn found_in(&self, text: &str) -> Option<(&str, &str)> {
        self.secrets.iter().find_map(|(name, forms)| {
            let form = forms.iter().find(|form| text.contains(form.as_str()))?;
            Some((name.as_str(), form.as_str()))
        })
    }

    /// Bytes that were searched.
    pub(crate) fn looked(&self) -> usize {
        self.looked
    }
}

/// Its forms: as it is, and in a URL, JSON, Rust's Debug, HTML, base64 and hexadecimal digits.
fn forms(secret: &str) -> Vec<String> {
    let encoded = |keep: fn(u8) -> bool, upper: bool| {
        let mut text = String::new();
        for byte in secret.bytes() {
            match (keep(byte), upper) {
                (true, _) => text.push(char::from(byte)),
                (false, true) => write!(text, "%{byte:02X}").expect("room"),
                (false, false) => write!(text, "%{byte:02x}").expect("room"),
            }
        }
        text
    };
    let mut forms = vec![secret.to_owned()];
    for upper in [true, false] {
        forms.push(encoded(|_| false, upper));
        forms.push(encoded(|byte| byte.is_ascii_alphanumeric(), upper));
        forms.push(encoded(
            |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
            upper,
        ));
    }
    forms.push(
        serde_json::Value::from(secret)
            .to_string()
            .trim_matches('"')
            .to_owned(),
    );
    forms.push(format!("{secret:?}").trim_matches('"').to_owned());
    forms.push(
        secret
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;"),
    );
    forms.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    // In the middle of other text it may begin at any of three places of a base64 group; the ends
    // are then mixed with what is next to it.
    for engine in [STANDARD, URL_SAFE] {
        for before in 0..3 {
            let mixed = [&vec![b'x'; before], secret.as_bytes()].concat();
            let whole = mixed.len() / 3 * 4;
            let text = engine.encode(&mixed);
            forms.push(text[before.div_ceil(3) * 4..whole].to_owned());
        }
    }
    forms.sort();
    forms.dedup();
    forms
}
