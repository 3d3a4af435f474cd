//! The administration client. It moves no records.

use std::ffi::CString;
use std::path::PathBuf;

use rdkafka::admin::AdminClient;
use rdkafka::bindings;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::types::RDKafkaRespErr;
use tracing::debug;

use super::client::{ClientConfigError, client, explain};
use super::oauth_token;
use crate::config::Kafka;

/// An administration client that can also log in with a token.
pub struct Admin {
    inner: AdminClient<DefaultClientContext>,
    token_file: Option<PathBuf>,
}

impl Admin {
    /// Builds the client. Contacts no broker.
    pub fn new(kafka: &Kafka) -> Result<Self, ClientConfigError> {
        Self::with(&mut client(kafka), kafka)
    }

    pub(super) fn with(
        config: &mut ClientConfig,
        kafka: &Kafka,
    ) -> Result<Self, ClientConfigError> {
        let inner = config
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create()
            .map_err(|error| explain(kafka, &error))?;
        Ok(Self {
            inner,
            token_file: kafka.token_file.clone(),
        })
    }

    /// Returns the client with the current token. To be called again before each request.
    pub fn get(&self) -> &AdminClient<DefaultClientContext> {
        if self.token_file.is_some()
            && let Err(error) = self.give_token()
        {
            // The request will fail, and the relay's other clients report why.
            debug!(error, "no token for the administration client");
        }
        &self.inner
    }

    /// Sets the token. The library requests tokens for producers and consumers, but never for an
    /// administration client.
    #[expect(
        unsafe_code,
        reason = "the only way to the C function; all pointers are to values that outlive the call"
    )]
    fn give_token(&self) -> Result<(), String> {
        let token =
            oauth_token::read(self.token_file.as_deref()).map_err(|error| error.to_string())?;
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
                // Its message might quote the token; the code is enough.
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

/// Checks that the properties can be used: librdkafka reads certificates and keys when a client is
/// built. Contacts no broker.
pub(crate) fn check(kafka: &Kafka) -> Result<(), ClientConfigError> {
    Admin::new(kafka).map(drop)
}
