//! `doorbell check`, and its findings.

use serde_json::Value;

use super::World;

/// One run of it.
pub(crate) struct Checkup {
    pub(crate) code: Option<i32>,
    pub(crate) answer: Value,
    pub(crate) stderr: String,
}

impl Checkup {
    /// Checks the world with its route.
    pub(crate) fn of(world: &World, flags: &[&str]) -> Self {
        let route = world.topic.replace("outbox", "{table}");
        let mut arguments = vec!["check", "--json"];
        if !flags.contains(&"--topic") && !flags.contains(&"--config") {
            arguments.extend(["--topic", &route]);
        }
        arguments.extend(flags);
        let output = world.doorbell(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {stderr}"));
        Self {
            code: output.status.code(),
            answer,
            stderr,
        }
    }

    /// All findings of a kind.
    pub(crate) fn all(&self, code: &str) -> Vec<&Value> {
        let findings = self.answer["findings"].as_array().expect("findings");
        findings.iter().filter(|it| it["code"] == code).collect()
    }

    /// Returns the codes of all, in the order in which they are printed.
    pub(crate) fn codes(&self) -> Vec<&str> {
        let findings = self.answer["findings"].as_array().expect("findings");
        findings
            .iter()
            .map(|it| it["code"].as_str().expect("a code"))
            .collect()
    }

    /// Checks that there is a finding of this code and severity with these words in `what`. Returns
    /// its remedy.
    #[track_caller]
    pub(crate) fn finds(&self, severity: &str, code: &str, words: &[&str]) -> String {
        let fits = |it: &&&Value| {
            let what = it["what"].as_str().expect("what");
            it["severity"] == severity && words.iter().all(|word| what.contains(word))
        };
        let all = self.all(code);
        let Some(found) = all.iter().find(fits) else {
            panic!("no {severity} {code} {words:?} in {:#}", self.answer);
        };
        for part in ["why", "remedy"] {
            assert!(found[part].as_str().is_some_and(|it| !it.is_empty()));
        }
        found["remedy"].as_str().expect("a remedy").to_owned()
    }

    #[track_caller]
    pub(crate) fn lacks(&self, codes: &[&str]) {
        for code in codes {
            assert!(self.all(code).is_empty(), "{code} in {:#}", self.answer);
        }
    }
}
