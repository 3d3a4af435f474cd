//! The words that SQL keeps for itself.

/// The words that PostgreSQL 18 does not take as a table's name without quotes (`pg_get_keywords()`, categories R and
/// T), in order. Quoting one too many does no harm, so other versions need no list of their own.
const WORDS: &str = "\
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate \
    collation column concurrently constraint create cross current_catalog current_date current_role \
    current_schema current_time current_timestamp current_user default deferrable desc distinct do else end \
    except false fetch for foreign freeze from full grant group having ilike in initially inner intersect into \
    is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null offset on \
    only or order outer overlaps placing primary references returning right select session_user similar some \
    symmetric system_user table tablesample then to trailing true union unique user using variadic verbose when \
    where window with \
";

/// Whether `name` needs quotes because of what it means to SQL.
pub(super) fn contains(name: &str) -> bool {
    WORDS.split_ascii_whitespace().any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_only() {
        for word in ["all", "order", "user", "with", "left", "verbose"] {
            assert!(contains(word), "{word}");
        }
        for word in [
            "",
            "outbox",
            "orders",
            "der",
            "events",
            "key",
            "type",
            "all analyse",
        ] {
            assert!(!contains(word), "{word}");
        }
    }
}
