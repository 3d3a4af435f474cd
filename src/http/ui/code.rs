//! Words with code in backticks, as HTML.

use askama::filters::{Html, escape};

pub(super) fn escaped(text: &str) -> String {
    escape(text, Html).map_or(String::new(), |text| text.to_string())
}

/// Escapes words, and sets what stands in backticks as code. The words after a backtick that has no
/// second one stay as they are.
pub(super) fn with_code(words: &str) -> String {
    let mut html = String::new();
    let mut rest = words;
    while let Some((before, code, after)) = next_code(rest) {
        html += &format!("{}<code>{}</code>", escaped(before), escaped(code));
        rest = after;
    }
    html + &escaped(rest)
}

fn next_code(words: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = words.split_once('`')?;
    let (code, after) = rest.split_once('`')?;
    Some((before, code, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_set_apart_and_everything_is_escaped() {
        assert_eq!(
            with_code("run `a <b>` & `c`, not `d"),
            "run <code>a &#60;b&#62;</code> &#38; <code>c</code>, not `d"
        );
    }
}
