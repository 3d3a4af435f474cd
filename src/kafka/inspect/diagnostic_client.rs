//! A client that remembers what librdkafka reports, for `doorbell check`.

use std::path::PathBuf;
use std::sync::Mutex;

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;

use crate::config::Kafka;
use crate::kafka::client::{ClientConfigError, client, explain};
use crate::kafka::oauth_token;
use crate::sync::lock;

/// Returns the configuration of a client that creates no topic.
pub(crate) fn config(kafka: &Kafka) -> ClientConfig {
    let mut config = client(kafka);
    config
        .set("allow.auto.create.topics", "false")
        .set_log_level(RDKafkaLogLevel::Emerg);
    config
}

pub(crate) type DiagnosticClient = BaseProducer<DiagnosticContext>;

/// Builds a client. Contacts no broker.
pub(crate) fn open(
    config: &ClientConfig,
    kafka: &Kafka,
) -> Result<DiagnosticClient, ClientConfigError> {
    let context = DiagnosticContext {
        token_file: kafka.token_file.clone(),
        seen: Mutex::default(),
    };
    let client = config.create_with_context(context);
    client.map_err(|error| explain(kafka, &error))
}

/// Remembers what librdkafka reports, and logs in with a token if one is configured.
pub(crate) struct DiagnosticContext {
    token_file: Option<PathBuf>,
    seen: Mutex<Diagnostics>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Diagnostics {
    pub(crate) last: Option<String>,
    /// The last message of a broker that answered and refused the client.
    pub(crate) last_refusal: Option<String>,
    pub(crate) identity: Option<String>,
    /// An error that no retry cures.
    pub(crate) fatal: Option<String>,
    pub(crate) report: Option<Result<(), Code>>,
}

impl DiagnosticContext {
    pub(crate) fn seen(&self) -> Diagnostics {
        lock(&self.seen).clone()
    }
}

impl ClientContext for DiagnosticContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth_token::read(self.token_file.as_deref())
    }

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn stats(&self, statistics: Statistics) {
        lock(&self.seen).identity = statistics.eos.map(|eos| eos.idemp_state);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut seen = lock(&self.seen);
        let reason = reason.to_owned();
        match error.rdkafka_error_code() {
            // It follows the actual reason, and says less.
            Some(Code::AllBrokersDown) => {}
            Some(Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed) => {
                seen.last_refusal = Some(reason);
            }
            Some(
                Code::Fatal
                | Code::UnsupportedFeature
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed,
            ) => seen.fatal = Some(reason),
            // A broker that expects another protocol closes the connection.
            _ if reason.contains("handshake failed") => seen.last_refusal = Some(reason),
            _ => seen.last = Some(reason),
        }
    }
}

impl ProducerContext for DiagnosticContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        lock(&self.seen).report = Some(report);
    }
}
