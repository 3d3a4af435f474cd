//! Numbers and durations in sentences.

use std::fmt::Display;
use std::time::Duration;

/// A number with its noun: `1 row`, `2 rows`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    format!("{count} {}", plural(&count, noun))
}

/// A number with its noun and the verb, which is given as it follows a plural: `1 row waits`,
/// `2 rows wait`.
pub(crate) fn counted_verb<N: Display + PartialEq + From<u8>>(
    count: N,
    noun: &str,
    verb: &str,
) -> String {
    let verb = match (count == N::from(1), verb) {
        (false, verb) => verb.to_owned(),
        (true, "are") => "is".to_owned(),
        (true, "were") => "was".to_owned(),
        (true, verb) => format!("{verb}s"),
    };
    format!("{} {verb}", counted(count, noun))
}

/// A noun as it follows this number; its plural has an s.
pub(crate) fn plural<N: PartialEq + From<u8>>(count: &N, noun: &str) -> String {
    let end = if *count == N::from(1) { "" } else { "s" };
    format!("{noun}{end}")
}

/// Formats whole seconds.
pub(crate) fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).trunc()).unwrap_or(Duration::MAX);
    humantime::format_duration(whole).to_string()
}

/// Writes a time of RFC 3339 in UTC as a reader expects it, without the letters.
pub(crate) fn date_and_time(rfc3339: &str) -> String {
    rfc3339.replace('T', " ").replace('Z', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_and_verbs_agree_with_their_number() {
        let all: Vec<String> = [0, 1, 2].map(|it| counted(it, "row")).into();
        assert_eq!(all, ["0 rows", "1 row", "2 rows"]);
        for (verb, one, two) in [
            ("wait", "1 row waits", "2 rows wait"),
            ("are", "1 row is", "2 rows are"),
            ("were", "1 row was", "2 rows were"),
        ] {
            assert_eq!(counted_verb(1_u64, "row", verb), one);
            assert_eq!(counted_verb(2_usize, "row", verb), two);
        }
    }
}
