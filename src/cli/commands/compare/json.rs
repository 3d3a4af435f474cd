//! Whether two values are the same JSON: by a hash that does not depend on how it is written.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::value::RawValue;

/// Values that are nested deeper are not read as JSON.
const DEEPEST: usize = 128;

/// Returns the hash of a JSON document: white space, the order of keys, escapes and the form of a
/// number do not change it. `None`: it is no JSON.
pub(super) fn json_hash(bytes: &[u8]) -> Option<u64> {
    let document: &RawValue = serde_json::from_slice(bytes).ok()?;
    let mut hasher = DefaultHasher::new();
    feed(document, 0, &mut hasher)?;
    Some(hasher.finish())
}

fn feed(value: &RawValue, depth: usize, hasher: &mut DefaultHasher) -> Option<()> {
    if depth > DEEPEST {
        return None;
    }
    let text = value.get();
    let kind = match text.as_bytes().first()? {
        b'-' | b'0'..=b'9' => b'0',
        other => *other,
    };
    kind.hash(hasher);
    match kind {
        b'{' => {
            let object: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            object.len().hash(hasher);
            for (key, value) in object {
                key.hash(hasher);
                feed(value, depth + 1, hasher)?;
            }
        }
        b'[' => {
            let array: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            array.len().hash(hasher);
            for value in array {
                feed(value, depth + 1, hasher)?;
            }
        }
        b'"' => {
            let text: String = serde_json::from_str(text).ok()?;
            text.hash(hasher);
        }
        // The first letter tells them apart.
        b't' | b'f' | b'n' => {}
        _ => number(text).hash(hasher),
    }
    Some(())
}

/// Returns whether a number is negative, its digits without zeros at either end, and the power of
/// ten that they are multiplied by.
fn number(text: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    let Ok(exponent) = exponent.parse::<i64>() else {
        return (false, text.to_owned(), 0);
    };
    if significant.is_empty() {
        return (false, String::new(), 0);
    }
    let zeros = digits.len() - significant.len();
    let power = exponent.saturating_add(zeros as i64 - fraction.len() as i64);
    (text.starts_with('-'), significant.to_owned(), power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_however_it_is_written() {
        let same = [
            ("1", "1.0"),
            ("100", " 1e2 "),
            ("0.0150", "15E-3"),
            ("0", "-0.00"),
            ("12345678901234567890123", "12345678901234567890123.0"),
            (
                r#"{"a": [1, true], "b": null}"#,
                r#"{"b":null,"a":[1.0,true]}"#,
            ),
            (r#""é""#, "\"\\u00e9\""),
            ("[]", "[ ]"),
        ];
        for (one, other) in same {
            let hash = json_hash(one.as_bytes());
            assert!(hash.is_some(), "{one}");
            assert_eq!(hash, json_hash(other.as_bytes()), "{one} and {other}");
        }
    }

    #[test]
    fn values_that_differ_are_told_apart_and_what_is_no_json_has_no_hash() {
        let different = [
            "1",
            "-1",
            "10",
            "true",
            "false",
            "null",
            "\"1\"",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "[1,1]",
            "0",
            "12345678901234567890123",
            "12345678901234567890124",
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{},"b":1}"#,
            "\"\"",
            "\"null\"",
        ];
        let mut hashes: Vec<_> = different
            .iter()
            .map(|it| json_hash(it.as_bytes()))
            .collect();
        assert!(hashes.iter().all(Option::is_some));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), different.len());
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for none in ["", "x", "{", "1 2", "\"\\ud800\"", deep.as_str()] {
            assert_eq!(json_hash(none.as_bytes()), None, "{none:.20}");
        }
    }
}
