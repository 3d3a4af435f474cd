//! The page of relays, in the words of `doorbell status`.

use askama::Template;

use crate::app::status::{described, end};
use crate::postgres::Holder;

/// Who relays an outbox.
pub(in crate::app) struct Led {
    pub(in crate::app) outbox: String,
    pub(in crate::app) leader: Option<Holder>,
    pub(in crate::app) standbys: Vec<Holder>,
}

/// The page.
#[derive(Template)]
#[template(path = "relays.html")]
pub(in crate::app) struct RelayPage {
    outboxes: Vec<Row>,
}

struct Row {
    outbox: String,
    leader: String,
    /// Whether nothing is delivered.
    is_bad: bool,
    standbys: Vec<String>,
}

impl RelayPage {
    pub(in crate::app) fn of(all: Vec<Led>) -> Self {
        Self {
            outboxes: all.into_iter().map(Row::of).collect(),
        }
    }

    pub(in crate::app) fn html(&self) -> askama::Result<String> {
        self.render()
    }
}

impl Row {
    fn of(led: Led) -> Self {
        let (leader, is_bad) = match &led.leader {
            None => ("none: no relay runs for this outbox".to_owned(), true),
            Some(holder) if holder.is_doorbell => (described(holder), false),
            Some(holder) => (
                format!(
                    "its lock is taken by {}, which is no relay: nothing is delivered until that ends; {} ends it",
                    described(holder),
                    end(holder)
                ),
                true,
            ),
        };
        Self {
            outbox: led.outbox,
            leader,
            is_bad,
            standbys: led.standbys.iter().map(described).collect(),
        }
    }
}
