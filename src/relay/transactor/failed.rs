//! A transaction that cannot be committed: it is aborted, and what comes of its rows.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tracing::{debug, info};

use super::super::blame::{Blame, blame};
use super::super::once::Event;
use super::super::shared::Ending;
use super::super::window::Ticket;
use super::{Abandoned, Open, Transactor};
use crate::kafka::{Code, Producer, Trouble, told};

impl Transactor {
    /// Aborts, and finds out whose fault it was.
    pub(super) async fn abort(&mut self, open: &mut Open) -> Result<Event, Abandoned> {
        let aborted = self.blocking(Producer::abort).await?;
        open.undecided = false;
        if let Err(error) = aborted {
            debug!(%error, "the transaction was not aborted; the next producer ends it");
            if error.trouble == Trouble::Fenced {
                open.error = Some(error);
            }
        }
        open.failed.extend(self.shared().reports.take().failed);
        let rows = self.shared().window().on_the_wire(open.first, open.end);
        let whole = open.error.as_ref().and_then(|error| error.code);
        let suspected = rows.iter().any(|ticket| self.is_suspect(*ticket));
        let blame = blame(&rows, &open.failed, whole, suspected);
        open.blamed = blame != Blame::Nobody;
        match blame {
            Blame::Rows {
                mut convicts,
                suspects,
            } => {
                let refusals = &self.publisher.refusals;
                let (again, suspects): (Vec<_>, Vec<_>) = suspects
                    .into_iter()
                    .partition(|(ticket, _)| refusals.was_refused(self.shared(), *ticket));
                convicts.extend(again);
                for (ticket, code) in convicts {
                    refusals.refuse(self.shared(), ticket, told(code));
                }
                self.suspect(&suspects);
                self.shared().end(Ending::Rebatch);
            }
            Blame::Somebody => {
                let smaller = (rows.len() / 2).max(1);
                info!(
                    rows = rows.len(),
                    error = open.error.as_ref().map(ToString::to_string),
                    "a transaction was refused and no row named: its rows are sent again in smaller ones"
                );
                let mut memory = self.memory();
                memory.transaction_rows = Some(smaller);
                drop(memory);
                self.shared().end(Ending::Rebatch);
            }
            Blame::Nobody => {}
        }
        Ok(Event::Done)
    }

    /// The term ends with the transaction open. Whoever reads committed records of its partitions waits until it is ended, for others' records too.
    pub(super) async fn abort_at_last(&self) {
        let producer = Arc::clone(&self.publisher.producer);
        match spawn_blocking(move || producer.abort_at_last()).await {
            Ok(Ok(())) => debug!("the open transaction is aborted"),
            Ok(Err(error)) => debug!(%error, "the open transaction is left to the next producer"),
            Err(panic) => {
                debug!(error = %panic, "the open transaction is left to the next producer")
            }
        }
    }

    fn is_suspect(&self, ticket: Ticket) -> bool {
        let row = self.shared().window().sent(ticket);
        row.is_some_and(|(row, _)| self.memory().suspects.contains(&row))
    }

    fn suspect(&self, suspects: &[(Ticket, Code)]) {
        let mut rows = Vec::new();
        for (ticket, _) in suspects {
            rows.extend(self.shared().window().give_up(*ticket));
        }
        let mut memory = self.memory();
        if let (Some((_, code)), true) = (suspects.first(), memory.suspects.is_empty()) {
            info!(
                rows = rows.len(),
                error = %code,
                "a batch was refused: its rows are sent again one by one"
            );
        }
        memory.suspects.extend(rows);
    }

    /// This producer is of no more use. Unless a row's fault has ended the term already, this does.
    pub(super) fn end(&self, open: &Open) {
        if open.blamed {
            return;
        }
        let reason = match (&open.error, open.failed.first()) {
            (Some(error), _) => error.reason.clone(),
            (None, Some((_, code))) => code.to_string(),
            (None, None) => "the answer to a commit came late: what it did is read".to_owned(),
        };
        let fenced = open
            .error
            .as_ref()
            .is_some_and(|error| error.trouble == Trouble::Fenced);
        self.shared().end(if fenced {
            Ending::Fenced(reason)
        } else {
            Ending::Producer(reason)
        });
    }
}
