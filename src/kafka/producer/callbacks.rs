//! Callbacks of librdkafka, on the producer's thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tracing::{Span, debug, info, warn};

use super::reports::Reports;
use crate::config::Kafka;
use crate::kafka::connect_error::{Cause, ConnectError, LastConnectError, none_reached};
use crate::kafka::oauth_token;
use crate::sync::lock;

pub(crate) struct ReportingContext {
    pub(crate) reports: Arc<Reports>,
    span: Span,
    /// Whether a broker has answered. From then on an outage is logged; before, the start of the
    /// relay reports it.
    here: AtomicBool,
    /// Whether nothing waits for the first answer of a broker any more.
    met: AtomicBool,
    told: [AtomicBool; Cause::ALL],
    kafka: Kafka,
    last_error: LastConnectError,
    /// Why no broker is connected, until it is known whether one answers.
    doubt: Mutex<Option<String>>,
}

impl ReportingContext {
    pub(crate) fn new(reports: Arc<Reports>, kafka: Kafka) -> Self {
        Self {
            reports,
            span: Span::current(),
            here: AtomicBool::new(false),
            met: AtomicBool::new(false),
            told: Default::default(),
            kafka,
            last_error: LastConnectError::default(),
            doubt: Mutex::default(),
        }
    }

    /// Takes the reason why no broker is connected. Brokers close idle connections, so a producer
    /// without records has to ask before it says so.
    pub(crate) fn take_doubt(&self) -> Option<String> {
        lock(&self.doubt).take()
    }

    pub(crate) fn unreachable(&self, reason: &str) {
        self.tell(Cause::Unreachable, reason);
    }

    pub(crate) fn here(&self) {
        self.here.store(true, Ordering::Relaxed);
        self.met();
    }

    /// Records that a broker has answered. An outage is not logged: the producer only waits.
    pub(crate) fn met(&self) {
        self.met.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_met(&self) -> bool {
        self.met.load(Ordering::Relaxed)
    }

    /// Counts headers of rows that the relay sets itself. Returns whether they are the first.
    pub(crate) fn left_out(&self, headers: u64) -> bool {
        let counted = &self.reports.health.reserved_headers;
        counted.fetch_add(headers, Ordering::Relaxed) == 0
    }

    fn is_here(&self) -> bool {
        self.here.load(Ordering::Relaxed)
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.last_error.is_refusal()
    }

    pub(crate) fn told(&self) -> ConnectError {
        self.last_error.told(&self.kafka)
    }

    /// Logs that rows wait, once until a broker takes a record again. It asks no broker for the
    /// reason: delivery reports wait for this thread.
    fn tell(&self, cause: Cause, reason: &str) {
        if cause != Cause::Token {
            self.reports.health.unreachable(reason);
        }
        let is_told = &self.told[cause as usize];
        if !(self.is_here() || cause == Cause::Name && self.has_met())
            || is_told.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let words = match cause {
            Cause::Unreachable => "Kafka is unreachable: rows wait in the table",
            Cause::Name => {
                "a broker names a host that cannot be resolved: rows for it wait in the table; correct its advertised.listeners, or the DNS"
            }
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

impl ClientContext for ReportingContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth_token::read(self.kafka.token_file.as_deref())
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Err(error) = self.reports.health.take_in(statistics) {
            debug!(target: "librdkafka", %error, "its statistics cannot be read");
        }
    }

    /// librdkafka repeats the same message at every level, so it goes to the debug log.
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
        match (self.last_error.note(code, reason), code) {
            (Cause::Unreachable, RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::SSL) => {
                *lock(&self.doubt) = Some(none_reached(reason));
            }
            (Cause::Unreachable, _) => debug!(target: "librdkafka", error = reason, "{error}"),
            (cause, _) => self.tell(cause, reason),
        }
    }
}

impl ProducerContext for ReportingContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        match result {
            Ok(_) => {
                let forget = |told: &AtomicBool| {
                    told.load(Ordering::Relaxed) && told.swap(false, Ordering::Relaxed)
                };
                // From now on each cause is logged again.
                if self.told.iter().filter(|told| forget(told)).count() > 0 {
                    self.reports.health.reachable();
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
