//! A key of the configuration: its section, its names, what its value must be, and where it goes.

use std::ops::RangeInclusive;
use std::time::Duration;

use regex::Regex;

use super::settings::{Outbox, Settings, Transactions};
use super::types::{DatabaseUrl, Route, RouteInput, values};

/// A section of the file, by its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Section(&'static str);

impl Section {
    /// No section: a flag or a variable gives the value, and no file.
    pub(super) const OUTSIDE: Self = Self("");
    pub(super) const DATABASE: Self = Self("[database]");
    pub(super) const KAFKA: Self = Self("[kafka]");
    pub(super) const PROPERTIES: Self = Self("[kafka.properties]");
    pub(super) const RELAY: Self = Self("[relay]");
    pub(super) const HTTP: Self = Self("[http]");
    pub(super) const TELEMETRY: Self = Self("[telemetry]");
    pub(super) const OUTBOX: Self = Self("[[outbox]]");
    pub(super) const COLUMNS: Self = Self("[outbox.columns]");
    pub(super) const HEADERS_FROM: Self = Self("[outbox.headers_from]");
    pub(super) const FIXED_HEADERS: Self = Self("[outbox.fixed_headers]");
    pub(super) const POISON_TOPICS: Self = Self("[outbox.poison_topics]");
    pub(super) const ROUTE: Self = Self("[[outbox.route]]");

    pub(super) fn head(self) -> &'static str {
        self.0
    }

    /// The name of the section that it belongs to, if there is one, and its name within that.
    fn path(self) -> (Option<&'static str>, &'static str) {
        let path = self.0.trim_matches(['[', ']']);
        let parts = path.split_once('.');
        parts.map_or((None, path), |(parent, name)| (Some(parent), name))
    }

    pub(super) fn name(self) -> &'static str {
        self.path().1
    }

    /// Whether it belongs to `parent`; without one, whether it stands at the top of the file.
    pub(super) fn is_within(self, parent: Option<Self>) -> bool {
        self.path().0 == parent.map(Self::name)
    }

    /// Whether there may be several.
    pub(super) fn is_list(self) -> bool {
        self.0.starts_with("[[")
    }

    /// Whether each outbox has one of its own.
    pub(super) fn is_of_outbox(self) -> bool {
        self == Self::OUTBOX || self.is_within(Some(Self::OUTBOX))
    }
}

/// Settings in the making: each key has its place here.
pub(super) struct Draft {
    pub(super) settings: Settings,
    pub(super) outbox: Outbox,
    pub(super) transactions: Transactions,
    pub(super) route: RouteDraft,
}

/// A route in the making.
#[derive(Default)]
pub(super) struct RouteDraft {
    pub(super) input: Option<RouteInput>,
    pub(super) pattern: Option<Regex>,
    pub(super) topic: Option<Route>,
    pub(super) drops: bool,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            settings: Settings::new(DatabaseUrl::unset(), ""),
            outbox: Outbox::default(),
            transactions: Transactions::default(),
            route: RouteDraft::default(),
        }
    }
}

/// Checks a value and stores it; the error continues a sentence that begins with the key's noun.
type Store = fn(&mut Draft, &str) -> Result<(), String>;

/// The same for a name of the user's; the error is a sentence of its own.
type StoreNamed = fn(&mut Draft, &str, &str) -> Result<(), String>;

/// What a value must be, and where it goes.
pub(super) enum Rule {
    Text(Store),
    /// Several texts, which are stored as one with commas.
    List(Store),
    /// Never shown. The file may say `{ file = "..." }` or `{ env = "..." }`.
    Secret(Store),
    /// A secret of which the file says only in which file it is.
    SecretFile(Store),
    Duration(fn(&mut Draft) -> &mut Duration, RangeInclusive<Duration>),
    Count(fn(&mut Draft) -> &mut usize, RangeInclusive<usize>),
    OptionalCount(fn(&mut Draft) -> &mut Option<usize>, RangeInclusive<usize>),
    Size(fn(&mut Draft) -> &mut usize, RangeInclusive<usize>),
    Choice(fn(&mut Draft) -> &mut bool),
    /// Texts by one of these names; by any name where there are none.
    Names(&'static [&'static str], StoreNamed),
    /// Texts, numbers, `true`, `false`, `{ file = "..." }` or `{ env = "..." }` by any name.
    Properties(StoreNamed),
}

pub(super) struct Key {
    pub(super) section: Section,
    /// Its name in the file; what a name stands for, where the names are the user's.
    pub(super) name: &'static str,
    /// What an error calls the value.
    pub(super) noun: &'static str,
    pub(super) rule: Rule,
    /// The value that holds where none is given, as text.
    pub(super) default: Option<&'static str>,
    pub(super) flag: Option<(&'static str, &'static str)>,
    pub(super) variable: Option<&'static str>,
    pub(super) file_variable: Option<&'static str>,
    pub(super) is_exactly_once: bool,
    /// What it does, as the help of its flag and as the reference have it.
    pub(super) help: &'static str,
}

impl Key {
    pub(super) const fn new(
        section: Section,
        name: &'static str,
        noun: &'static str,
        rule: Rule,
        help: &'static str,
    ) -> Self {
        Self {
            section,
            name,
            noun,
            rule,
            default: None,
            flag: None,
            variable: None,
            file_variable: None,
            is_exactly_once: false,
            help,
        }
    }

    pub(super) const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub(super) const fn flag(mut self, flag: &'static str, value: &'static str) -> Self {
        self.flag = Some((flag, value));
        self
    }

    pub(super) const fn variable(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    pub(super) const fn file_variable(mut self, variable: &'static str) -> Self {
        self.file_variable = Some(variable);
        self
    }

    pub(super) const fn exactly_once(mut self) -> Self {
        self.is_exactly_once = true;
        self
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match &self.rule {
            Rule::Names(names, _) => names.is_empty() || names.contains(&name),
            Rule::Properties(_) => true,
            _ => self.name == name,
        }
    }

    /// The names that the key goes by; none where they are the user's.
    pub(super) fn names(&self) -> &[&'static str] {
        match &self.rule {
            Rule::Names(names, _) => names,
            Rule::Properties(_) => &[],
            _ => std::slice::from_ref(&self.name),
        }
    }

    /// Checks the value and stores it. An error repeats nothing of a text that may be a secret.
    pub(super) fn store(&self, draft: &mut Draft, name: &str, text: &str) -> Result<(), String> {
        let stored = match &self.rule {
            Rule::Text(store)
            | Rule::List(store)
            | Rule::Secret(store)
            | Rule::SecretFile(store) => store(draft, text),
            Rule::Duration(place, bounds) => set(place(draft), values::duration(text, bounds)),
            Rule::Count(place, bounds) => set(place(draft), values::count(text, bounds)),
            Rule::OptionalCount(place, bounds) => {
                set(place(draft), values::optional_count(text, bounds))
            }
            Rule::Size(place, bounds) => set(place(draft), values::size(text, bounds)),
            Rule::Choice(place) => set(place(draft), Ok(text == "true")),
            Rule::Names(_, store) | Rule::Properties(store) => return store(draft, name, text),
        };
        stored.map_err(|error| format!("{} {error}", self.noun))
    }
}

pub(super) fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}
