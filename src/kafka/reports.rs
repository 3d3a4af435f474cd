//! Delivery reports: collected on librdkafka's thread, taken in bulk by whoever deletes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tokio::sync::Notify;
use tracing::{Span, debug, info, warn};

use super::condition::Condition;

/// What came back since the last time it was taken. The numbers are those that the records were sent with.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Kafka has these.
    pub acknowledged: Vec<usize>,
    /// These failed.
    pub failed: Vec<(usize, RDKafkaErrorCode)>,
    /// The producer declared itself broken.
    pub fatal: Option<String>,
}

/// The collector.
#[derive(Debug, Default)]
pub struct Reports {
    delivered: Mutex<Delivered>,
    arrived: Notify,
    condition: Arc<Condition>,
}

impl Reports {
    /// None yet. What its producer meets of the brokers is told to `condition`.
    pub fn new(condition: Arc<Condition>) -> Self {
        Self {
            condition,
            ..Self::default()
        }
    }

    /// Waits until there is something to take. Safe to drop while it waits.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes all there is.
    pub fn take(&self) -> Delivered {
        std::mem::take(&mut *self.lock())
    }

    /// Adds something, and wakes whoever waits if there was nothing before: one wake-up serves thousands of reports.
    fn add(&self, add: impl FnOnce(&mut Delivered)) {
        let first = {
            let mut delivered = self.lock();
            let first = delivered.acknowledged.is_empty() && delivered.failed.is_empty();
            add(&mut delivered);
            first || delivered.fatal.is_some()
        };
        if first {
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Delivered> {
        // The lists are whole at each moment, even after a panic elsewhere.
        self.delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What librdkafka calls.
pub(crate) struct Context {
    pub(crate) reports: Arc<Reports>,
    /// Where the log of librdkafka's threads belongs.
    span: Span,
    /// A broker answered: from then on its absence is news. Before, whoever waits for the first answer tells.
    here: AtomicBool,
    away: AtomicBool,
}

impl Context {
    pub(crate) fn new(reports: Arc<Reports>) -> Self {
        Self {
            reports,
            span: Span::current(),
            here: AtomicBool::new(false),
            away: AtomicBool::new(false),
        }
    }

    /// A broker is known to be there.
    pub(crate) fn here(&self) {
        self.here.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn stats_raw(&self, statistics: &[u8]) {
        if let Err(error) = self.reports.condition.take_in(statistics) {
            debug!(target: "librdkafka", %error, "its statistics cannot be read");
        }
    }

    /// librdkafka says the same thing again and again, at every level: it is there for whoever asks for it.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => {
                self.reports.add(|delivered| {
                    delivered.fatal.get_or_insert_with(|| reason.to_owned());
                });
            }
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL,
            ) => {
                self.reports.condition.is_away(reason);
                if self.here.load(Ordering::Relaxed) && !self.away.swap(true, Ordering::Relaxed) {
                    warn!(
                        parent: &self.span,
                        error = reason,
                        "Kafka cannot be reached: rows wait in the table"
                    );
                }
            }
            _ => debug!(target: "librdkafka", error = reason, "{error}"),
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        match result {
            Ok(_) => {
                if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
                    self.reports.condition.is_there();
                    info!(parent: &self.span, "Kafka answers again");
                }
                self.reports
                    .add(|delivered| delivered.acknowledged.push(ticket));
            }
            Err((error, _)) => {
                let code = error
                    .rdkafka_error_code()
                    .unwrap_or(RDKafkaErrorCode::Unknown);
                self.reports
                    .add(|delivered| delivered.failed.push((ticket, code)));
            }
        }
    }
}
