//! The topics that rows may go to.

use super::check_topic;

/// Names of topics, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPatterns(Vec<String>);

impl Default for TopicPatterns {
    fn default() -> Self {
        Self(vec!["*".into()])
    }
}

impl TopicPatterns {
    /// Reads patterns that are separated by commas.
    ///
    /// # Errors
    /// Says which pattern no topic can have.
    pub fn parse(text: &str) -> Result<Self, String> {
        let patterns = text.split(',').map(|pattern| {
            let pattern = pattern.trim();
            match check_topic(&pattern.replace('*', "a")) {
                Ok(()) => Ok(pattern.to_owned()),
                Err(error) => Err(format!("has {pattern:?}, which cannot be a topic: {error}")),
            }
        });
        patterns.collect::<Result<_, _>>().map(Self)
    }

    /// Whether rows may go to the topic.
    pub fn allow(&self, topic: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, topic))
    }
}

fn matches(pattern: &str, topic: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == topic;
    };
    let Some(mut left) = topic.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (patterns, yes, no) in [
            ("orders", &["orders"][..], &["order", "orders.a"][..]),
            (
                "orders.*",
                &["orders.", "orders.a.b"],
                &["orders", "my.orders.a"],
            ),
            ("a*b*c", &["abc", "axbybzc"], &["ac", "acb", "abcd", "ab"]),
            ("*.dlq, x", &["a.dlq", ".dlq", "x"], &["dlq", "a.dlq.b"]),
            ("aa*aa", &["aaaa"], &["aa", "aaa"]),
            ("*", &["a"], &[]),
        ] {
            let parsed = TopicPatterns::parse(patterns).expect(patterns);
            for topic in yes {
                assert!(parsed.allow(topic), "{patterns} {topic}");
            }
            for topic in no {
                assert!(!parsed.allow(topic), "{patterns} {topic}");
            }
        }
        assert!(TopicPatterns::default().allow("any"));
        for faulty in ["", "a,", "no topic", "a/*", ".."] {
            assert!(TopicPatterns::parse(faulty).is_err(), "{faulty:?}");
        }
    }
}
