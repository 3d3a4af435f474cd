//! Contents of the page, in the words of `doorbell status`.

use askama::Template;

use crate::describe::{described, leader};
use crate::http::ui::Page;
use crate::postgres::Holder;

#[derive(Template)]
#[template(path = "relays/relays.html")]
pub(crate) struct RelaysPage {
    pub(crate) page: Page,
    pub(crate) outboxes: Vec<Relays>,
}

pub(crate) struct Relays {
    outbox: String,
    leader: String,
    /// Set if nothing is delivered.
    is_bad: bool,
    standbys: Vec<String>,
}

impl Relays {
    pub(crate) fn of(outbox: String, holder: Option<&Holder>, standbys: &[Holder]) -> Self {
        let (leader, is_bad) = leader(holder);
        Self {
            outbox,
            leader,
            is_bad,
            standbys: standbys.iter().map(described).collect(),
        }
    }
}
