//! What the file, or the sources laid over each other, say: text that is not validated yet.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::errors::{ConfigErrors, Origin};
use super::key::{Draft, Key, Section};
use super::types::Secret;

/// A value as it was written, with its place. Every value is kept as a secret until it is
/// validated.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) value: Secret,
    pub(super) origin: Origin,
    /// How many values were laid before it: the order of a file.
    place: usize,
}

/// Values by the section and the name of their keys.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<(Section, String), Given>);

#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) values: Values,
    pub(super) outboxes: Vec<OutboxLayer>,
    /// The file could not be read to its end: what seems missing may only be hidden.
    pub(super) unparsable: bool,
}

#[derive(Debug, Default)]
pub(super) struct OutboxLayer {
    /// The line of its `[[outbox]]`, for errors about an outbox that sets nothing.
    pub(super) origin: Option<Origin>,
    pub(super) values: Values,
    pub(super) routes: Vec<RouteLayer>,
}

/// One `[[outbox.route]]`, with its line.
#[derive(Debug)]
pub(super) struct RouteLayer {
    pub(super) origin: Origin,
    pub(super) values: Values,
}

impl Values {
    pub(super) fn lay(&mut self, key: &Key, name: &str, value: Secret, origin: Origin) {
        let (key, place) = ((key.section, name.to_owned()), self.0.len());
        let given = Given {
            value,
            origin,
            place,
        };
        self.0.insert(key, given);
    }

    pub(super) fn get(&self, section: Section, name: &str) -> Option<&Given> {
        self.0.get(&(section, name.to_owned()))
    }

    /// Checks and stores what is given for the key; whether all of it is right.
    pub(super) fn store(&self, key: &Key, draft: &mut Draft, errors: &mut ConfigErrors) -> bool {
        let mut right = true;
        for (name, given) in self.of(key) {
            let text = given.value.read();
            let text = text.map_err(|error| format!("{} {error}", key.noun));
            let stored = text.and_then(|text| key.store(draft, name, text.expose_secret()));
            if let Err(error) = stored {
                errors.push(Some(given.origin.clone()), error);
                right = false;
            }
        }
        right
    }

    /// What is given for the key, with its name: several, in the order of the file, for a key that
    /// stands for names of the user's.
    pub(super) fn of<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = (&'a str, &'a Given)> {
        let given = self.0.iter();
        let given = given.filter(|((section, name), _)| *section == key.section && key.has(name));
        let mut given: Vec<_> = given.collect();
        given.sort_by_key(|(_, given)| given.place);
        given
            .into_iter()
            .map(|((_, name), given)| (name.as_str(), given))
    }
}
