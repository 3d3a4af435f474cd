//! Aborts a transaction that cannot be committed, and decides what becomes of its rows.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::{debug, info};

use super::super::attribution::{Culprit, attribute};
use super::super::protocol::Input;
use super::{Abandoned, LONG, Open, Transactor};
use crate::kafka::{Code, Producer, Refusal, TIMEOUT, TransactionErrorKind};
use crate::relay::in_flight::Ticket;
use crate::relay::term_state::TermEnd;

impl Transactor {
    /// Aborts the transaction, and attributes its failure.
    pub(super) async fn abort(&mut self, open: &mut Open) -> Result<Input, Abandoned> {
        let aborted = self.blocking(Producer::abort).await?;
        open.undecided = false;
        if let Err(error) = aborted {
            debug!(%error, "the transaction was not aborted; the next producer ends it");
            if error.kind == TransactionErrorKind::Fenced {
                open.error = Some(error);
            }
        }
        open.failed.extend(self.shared().reports.take().failed);
        let rows = self.shared().window().on_the_wire(open.first, open.end);
        let whole = open.error.as_ref().and_then(|error| error.code);
        let suspected = rows.iter().any(|ticket| self.is_suspect(*ticket));
        let culprit = attribute(&rows, &open.failed, whole, suspected);
        open.is_attributed |= culprit != Culprit::None;
        match culprit {
            Culprit::Rows {
                mut rejected,
                suspects,
            } => {
                let refusals = &self.publisher.refusals;
                let (again, suspects): (Vec<_>, Vec<_>) = suspects
                    .into_iter()
                    .partition(|(ticket, _)| refusals.was_refused(self.shared(), *ticket));
                rejected.extend(again);
                for (ticket, code) in rejected {
                    refusals.refuse(self.shared(), ticket, Refusal::from(code));
                }
                self.suspect(&suspects);
                self.shared().end(TermEnd::Rebatch);
            }
            Culprit::Unknown => {
                let smaller = (rows.len() / 2).max(1);
                info!(
                    rows = rows.len(),
                    error = open.error.as_ref().map(ToString::to_string),
                    "a transaction was refused and no row named: its rows are sent again in smaller ones"
                );
                self.suspects().bound_transactions(smaller);
                self.shared().end(TermEnd::Rebatch);
            }
            Culprit::None => {}
        }
        Ok(Input::Done)
    }

    /// Aborts the transaction that is open when the term ends. Until then, consumers of its
    /// partitions that read committed records do not get any later record.
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
        row.is_some_and(|(row, _)| self.suspects().contains(&row))
    }

    fn suspect(&self, suspects: &[(Ticket, Code)]) {
        let mut rows = Vec::new();
        for (ticket, _) in suspects {
            rows.extend(self.shared().window().give_up(*ticket));
        }
        let refusals = &self.publisher.refusals;
        let smaller = |(_, code): &(Ticket, Code)| refusals.makes_smaller(self.shared(), *code);
        if suspects.first().is_some_and(smaller) {
            return;
        }
        let count = rows.len();
        if let (Some((_, code)), true) = (suspects.first(), self.suspects().add(rows)) {
            info!(
                rows = count,
                error = %code,
                "a batch was refused: its rows are sent again one by one"
            );
        }
    }

    /// Ends the term, because this producer failed, unless the failure of a row has already ended
    /// it.
    pub(super) fn end(&self, open: &Open) {
        if open.is_attributed {
            return;
        }
        self.shared().give_up();
        let took = open.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        if took > LONG {
            let rows = (open.end - open.first) / 2;
            self.suspects().bound_transactions(rows.max(1));
        }
        let reason = match (&open.error, open.failed.first()) {
            (Some(error), _) => error.reason.clone(),
            (None, Some((_, code))) => code.to_string(),
            (None, None) => {
                "the answer to a commit came late; reading whether it took effect".to_owned()
            }
        };
        let fenced = open
            .error
            .as_ref()
            .is_some_and(|error| error.kind == TransactionErrorKind::Fenced);
        self.shared().end(match fenced {
            true if took >= TIMEOUT => TermEnd::Producer(format!(
                "the brokers ended a transaction that was open for {} s ({reason})",
                took.as_secs()
            )),
            true => TermEnd::Fenced(reason),
            false => TermEnd::Producer(reason),
        });
    }
}
