//! Delivery reports: collected on librdkafka's thread, taken in bulk by whoever deletes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tokio::sync::Notify;
use tracing::{Span, debug, info, warn};

use super::condition::Condition;
use super::token;
use super::trouble::{Cause, Silence, Trouble};
use crate::config::Kafka;

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
    /// Nobody waits for the first answer of a broker.
    met: AtomicBool,
    /// Each cause of its absence that was told.
    told: [AtomicBool; Cause::ALL],
    kafka: Kafka,
    trouble: Trouble,
}

impl Context {
    pub(crate) fn new(reports: Arc<Reports>, kafka: Kafka) -> Self {
        Self {
            reports,
            span: Span::current(),
            here: AtomicBool::new(false),
            met: AtomicBool::new(false),
            told: Default::default(),
            kafka,
            trouble: Trouble::default(),
        }
    }

    /// A broker is known to be there.
    pub(crate) fn here(&self) {
        self.here.store(true, Ordering::Relaxed);
        self.met();
    }

    /// A broker has answered, and nobody has to be told when it goes: its producer only waits.
    pub(super) fn met(&self) {
        self.met.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_met(&self) -> bool {
        self.met.load(Ordering::Relaxed)
    }

    fn is_here(&self) -> bool {
        self.here.load(Ordering::Relaxed)
    }

    /// Whether the last word was one that waiting cannot cure.
    pub(super) fn is_refused(&self) -> bool {
        self.trouble.is_refusal()
    }

    /// Why no broker answers, as far as it was said.
    pub(super) fn told(&self) -> Silence {
        self.trouble.told(&self.kafka)
    }

    /// Says once, until a broker takes a record again, that rows wait. No broker is asked for its reasons: reports wait for this thread.
    fn tell(&self, cause: Cause, reason: &str) {
        if cause != Cause::Token {
            self.reports.condition.is_away(reason);
        }
        let is_told = &self.told[cause as usize];
        if !self.is_here() || is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let words = match cause {
            Cause::Away => "Kafka cannot be reached: rows wait in the table",
            Cause::Token => {
                "no new token for Kafka: rows wait in the table once the old one has expired"
            }
            Cause::Login => {
                "Kafka refuses the login: rows wait in the table; check the user, the password or the token in [kafka.properties]"
            }
            Cause::Certificate => {
                "TLS with Kafka fails: rows wait in the table; check the certificates of the broker and in [kafka.properties]"
            }
        };
        warn!(parent: &self.span, error = reason, "{words}");
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::read(self.kafka.token_file.as_deref())
    }

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
        let code = error
            .rdkafka_error_code()
            .unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::Fatal {
            self.reports.add(|delivered| {
                delivered.fatal.get_or_insert_with(|| reason.to_owned());
            });
            return;
        }
        match (self.trouble.note(code, reason), code) {
            (Cause::Away, RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::SSL) => {
                self.tell(Cause::Away, reason);
            }
            (Cause::Away, _) => debug!(target: "librdkafka", error = reason, "{error}"),
            (cause, _) => self.tell(cause, reason),
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        match result {
            Ok(_) => {
                let forget = |told: &AtomicBool| {
                    told.load(Ordering::Relaxed) && told.swap(false, Ordering::Relaxed)
                };
                // Each is to be told anew.
                if self.told.iter().filter(|told| forget(told)).count() > 0 {
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
