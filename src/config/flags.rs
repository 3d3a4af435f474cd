//! The command line's part of the configuration.
//!
//! Values stay text here, so that an error in one is reported together with those of the
//! environment and the file. The parser of the command line is not known here.

use std::path::PathBuf;

use secrecy::SecretString;

use super::key::{Key, Section};
use super::keys::KEYS;

#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub config: Option<PathBuf>,
    pub(super) given: Vec<(Flag, SecretString)>,
}

impl Overrides {
    pub fn push(&mut self, flag: Flag, value: impl Into<SecretString>) {
        self.given.push((flag, value.into()));
    }

    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.config = self.config.or(other.config);
        self.given.extend(other.given);
        self
    }

    /// What flags by these names say, such as `--sweep`. Names of no flag are left out.
    pub fn of<'a>(given: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut overrides = Self::default();
        for (name, value) in given {
            let mut flags = KEYS.iter().filter_map(Flag::of);
            if let Some(flag) = flags.find(|flag| flag.name == name) {
                overrides.push(flag, value);
            }
        }
        overrides
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagGroup {
    Global,
    /// Commands that work on outboxes: the keys of `[[outbox]]`, for a configuration with at most
    /// one.
    Outbox,
    Http,
}

/// A flag that stands for a key.
#[derive(Clone, Copy)]
pub struct Flag {
    pub(super) key: &'static Key,
    pub name: &'static str,
    pub value_name: &'static str,
}

impl Flag {
    /// The flags of a group, in the order of their help.
    pub fn all(group: FlagGroup) -> impl Iterator<Item = Self> {
        let all = KEYS.iter().filter_map(Self::of);
        all.filter(move |flag| flag.group() == group)
    }

    fn of(key: &'static Key) -> Option<Self> {
        let (name, value_name) = key.flag?;
        Some(Self {
            key,
            name,
            value_name,
        })
    }

    fn group(self) -> FlagGroup {
        match self.key.section {
            section if section.is_of_outbox() => FlagGroup::Outbox,
            Section::HTTP => FlagGroup::Http,
            _ => FlagGroup::Global,
        }
    }

    pub fn is_repeatable(self) -> bool {
        [Section::COLUMNS, Section::PROPERTIES].contains(&self.key.section)
    }

    pub fn is_file(self) -> bool {
        self.key.section == Section::OUTSIDE
    }

    pub fn help(self) -> String {
        let variables = match (self.key.variable, self.key.file_variable) {
            (Some(variable), Some(file)) => {
                format!(" [env: {variable}, or {file} for a file that holds it]")
            }
            (Some(variable), None) => format!(" [env: {variable}]"),
            _ => String::new(),
        };
        let default = self.key.default.map(|text| format!(" [default: {text}]"));
        format!(
            "{}{variables}{}",
            self.key.help,
            default.unwrap_or_default()
        )
    }
}

impl std::fmt::Debug for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
