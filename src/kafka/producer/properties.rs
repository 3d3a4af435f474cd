//! Text in the form of `java.util.Properties`, in which other outboxes keep several headers in one
//! column.

use std::collections::BTreeMap;

/// Parses the names and values. The last of two values of a name counts, as in Java. Where Java
/// refuses a text, for a `\u` without four digits, its letters stay.
pub(super) fn properties(text: &str) -> BTreeMap<String, String> {
    let lines = logical_lines(&text.replace("\r\n", "\n"));
    lines.iter().map(|line| pair(line)).collect()
}

/// Joins lines that end with a backslash with the next one, and leaves out comments.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut continues = false;
    for line in text.split(['\n', '\r']) {
        let line = line.trim_start_matches(is_blank);
        if !continues && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let is_open = backslashes % 2 == 1;
        let part = &line[..line.len() - usize::from(is_open)];
        match lines.last_mut().filter(|_| continues) {
            Some(last) => last.push_str(part),
            None => lines.push(part.to_owned()),
        }
        continues = is_open;
    }
    lines
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Splits a line at its first separator that is not escaped: `=`, `:` or a blank.
fn pair(line: &str) -> (String, String) {
    let mut is_escaped = false;
    let is_end = |c: char| {
        let ends = !is_escaped && (is_blank(c) || c == '=' || c == ':');
        is_escaped = !is_escaped && c == '\\';
        ends
    };
    let (name, rest) = line.split_at(line.find(is_end).unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (
        unescaped(name),
        unescaped(rest.trim_start_matches(is_blank)),
    )
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str()) {
            ('\\', rest) => match chars.next() {
                Some('t') => plain.push('\t'),
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('f') => plain.push('\x0c'),
                Some('u') => match rest.get(1..5).and_then(code_unit) {
                    Some(c) => {
                        plain.push(c);
                        chars = rest[5..].chars();
                    }
                    None => plain.push('u'),
                },
                other => plain.extend(other),
            },
            _ => plain.push(c),
        }
    }
    plain
}

/// Half of a surrogate pair is no character.
fn code_unit(hex: &str) -> Option<char> {
    let is_hex = hex.bytes().all(|it| it.is_ascii_hexdigit());
    let unit = u32::from_str_radix(hex, 16).ok().filter(|_| is_hex);
    unit.and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_parsed(text: &str, expected: &[(&str, &str)]) {
        let found = properties(text);
        let found: Vec<_> = found
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn text_is_parsed_as_java_does() {
        assert_parsed("", &[]);
        assert_parsed(
            "#Tue Dec 01 10:00:00 UTC 2026\r\ntraceparent=00-0af7-b7ad-01\r\ntracestate=a\\=1,b\\=2\r\n",
            &[
                ("traceparent", "00-0af7-b7ad-01"),
                ("tracestate", "a=1,b=2"),
            ],
        );
        assert_parsed(" a : b\nc d\n!e\nf\n", &[("a", "b"), ("c", "d"), ("f", "")]);
        assert_parsed(
            "a=1\\\n  2\n\\u0062\\:=\\t\\\\",
            &[("a", "12"), ("b:", "\t\\")],
        );
        assert_parsed("a=\\u00e9\\ud83d\\uzz\\", &[("a", "éud83duzz")]);
        assert_parsed("a=1\\\r\n  2\r\nb", &[("a", "12"), ("b", "")]);
        assert_parsed("a=\\u+0ab", &[("a", "u+0ab")]);
        assert_parsed("a=1\na=2", &[("a", "2")]);
        assert_parsed("é\\u", &[("éu", "")]);
    }
}
