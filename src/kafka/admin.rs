//! A client that asks and orders, and moves no records.

use std::ffi::CString;
use std::path::PathBuf;

use rdkafka::admin::AdminClient;
use rdkafka::bindings;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::types::RDKafkaRespErr;
use tracing::debug;

use super::producer::{ConfigError, client, explain};
use super::token;
use crate::config::Kafka;

/// An administration client that also knows how to log in with a token.
pub(super) struct Admin {
    inner: AdminClient<DefaultClientContext>,
    token_file: Option<PathBuf>,
}

impl Admin {
    /// Contacts nobody yet.
    pub(super) fn new(kafka: &Kafka) -> Result<Self, ConfigError> {
        Self::with(&mut client(kafka), kafka)
    }

    /// The same with more settings than every client has.
    pub(super) fn with(config: &mut ClientConfig, kafka: &Kafka) -> Result<Self, ConfigError> {
        let inner = config
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create()
            .map_err(|error| ConfigError(explain(kafka, &error)))?;
        Ok(Self {
            inner,
            token_file: kafka.token_file.clone(),
        })
    }

    /// The client, with the token of now. To be asked for anew before each request.
    pub(super) fn get(&self) -> &AdminClient<DefaultClientContext> {
        if self.token_file.is_some()
            && let Err(error) = self.give_token()
        {
            // The request will fail, and the relay's other clients say why.
            debug!(error, "no token for the administration client");
        }
        &self.inner
    }

    /// The library gives tokens to producers and consumers, but never asks for one for an administration client.
    #[expect(
        unsafe_code,
        reason = "the only way to the C function; all pointers are to values that outlive the call"
    )]
    fn give_token(&self) -> Result<(), String> {
        let token = token::read(self.token_file.as_deref()).map_err(|error| error.to_string())?;
        let text = |text: String| CString::new(text).map_err(|error| error.to_string());
        let (value, principal) = (text(token.token)?, text(token.principal_name)?);
        let code = unsafe {
            bindings::rd_kafka_oauthbearer_set_token(
                self.inner.inner().native_ptr(),
                value.as_ptr(),
                token.lifetime_ms,
                principal.as_ptr(),
                std::ptr::null_mut(),
                0,
                // Its words might quote the token: the code is enough.
                std::ptr::null_mut(),
                0,
            )
        };
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(format!("{code:?}")),
        }
    }
}
