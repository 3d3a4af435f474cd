//! A client that remembers what the library says of itself, for `doorbell check`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;

use super::token;
use crate::config::Kafka;

/// Remembers what librdkafka says of itself, and logs in with a token where that is configured.
#[derive(Clone)]
pub(super) struct Ear {
    token_file: Option<PathBuf>,
    heard: Arc<Mutex<Heard>>,
}

/// What was said last.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    pub(super) last: Option<String>,
    /// The same, of a broker that was there and did not let us in.
    pub(super) last_refusal: Option<String>,
    /// The state of the idempotent producer.
    pub(super) identity: Option<String>,
    /// An error that no retry cures.
    pub(super) fatal: Option<String>,
    /// What became of the record.
    pub(super) report: Option<Result<(), Code>>,
}

impl Ear {
    pub(super) fn of(kafka: &Kafka) -> Self {
        Self {
            token_file: kafka.token_file.clone(),
            heard: Arc::default(),
        }
    }

    pub(super) fn heard(&self) -> Heard {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Ear {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::read(self.token_file.as_deref())
    }

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn stats(&self, statistics: Statistics) {
        self.lock().identity = statistics.eos.map(|eos| eos.idemp_state);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.lock();
        let reason = reason.to_owned();
        match error.rdkafka_error_code() {
            // It follows what went wrong, and says less.
            Some(Code::AllBrokersDown) => {}
            Some(Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed) => {
                heard.last_refusal = Some(reason);
            }
            Some(
                Code::Fatal
                | Code::UnsupportedFeature
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed,
            ) => heard.fatal = Some(reason),
            // A broker that expects another protocol hangs up.
            _ if reason.contains("handshake failed") => heard.last_refusal = Some(reason),
            _ => heard.last = Some(reason),
        }
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        self.lock().report = Some(report);
    }
}
