//! What every client of Kafka starts from.

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use secrecy::ExposeSecret;

use crate::config::{Kafka, is_local};

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClientConfigError(pub(crate) String);

/// The default of `message.max.bytes`: a broker's. librdkafka's own is slightly less, and a payload
/// of one megabyte would not fit.
pub(crate) const DEFAULT_MESSAGE_BYTES: usize = 1_048_588;

/// Returns whether the library knows a property of this name and accepts the value.
pub(crate) fn takes(name: &str, value: &str) -> bool {
    property_fault(name, value).is_none()
}

/// Returns why the library does not take a property; by the name that the user gave, where the
/// library would use another one, and without the value.
pub(crate) fn property_fault(name: &str, value: &str) -> Option<String> {
    let mut config = ClientConfig::new();
    match config.set(name, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => Some(format!(
            "unknown property `{name}`: librdkafka has none of this name; correct it, or remove it"
        )),
        Err(error) if error.to_string().contains("not supported in this build") => Some(format!(
            "`{name}`, or this value of it, is not supported in this build of librdkafka; remove it"
        )),
        Err(_) => Some(format!(
            "`{name}` does not take this value; librdkafka's CONFIGURATION.md lists those that it takes"
        )),
    }
}

/// Which connections over a network are unencrypted.
pub(crate) fn in_plain(kafka: &Kafka) -> Option<String> {
    let protocol = kafka.properties.get("security.protocol");
    let protocol = protocol.map_or("plaintext", |it| it.expose_secret());
    let is_open = !protocol.to_ascii_lowercase().contains("ssl")
        || protocol.eq_ignore_ascii_case("sasl_plaintext");
    let mut brokers = kafka.brokers.split(',').map(str::trim);
    let address = |broker: &&str| {
        let scheme = broker.split_once("://");
        let is_open = scheme.map_or(is_open, |(name, _)| {
            !name.to_ascii_lowercase().ends_with("ssl")
        });
        is_open && !is_local(scheme.map_or(*broker, |(_, address)| address))
    };
    let broker = brokers.find(address)?;
    Some(format!(
        "the connection to Kafka at {broker} is unencrypted: security.protocol is {protocol}"
    ))
}

/// Returns the configuration that every client starts from: the brokers, names, and the user's
/// properties.
pub(crate) fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "doorbell")
        .set("message.max.bytes", DEFAULT_MESSAGE_BYTES.to_string())
        .set("socket.keepalive.enable", "true")
        // Reconnects within a second or two after a broker's restart. The default waits up to ten.
        .set("reconnect.backoff.max.ms", "1000")
        // All levels go from librdkafka's log thread to the log of the relay.
        .set("log_level", "6");
    for (key, value) in &kafka.properties {
        config.set(key, value.expose_secret());
    }
    config
}

/// Properties whose values occur as words in librdkafka's messages and are not secret.
const PLAIN: [&str; 3] = ["security.protocol", "sasl.mechanism", "sasl.mechanisms"];

/// Describes an error in the configuration. librdkafka's message quotes values; this one does not.
pub(crate) fn explain(kafka: &Kafka, error: &KafkaError) -> ClientConfigError {
    let (key, text) = match error {
        KafkaError::ClientConfig(_, text, key, _) => (key.clone(), text.clone()),
        other => ("[kafka.properties]".to_owned(), other.to_string()),
    };
    let text = kafka
        .properties
        .iter()
        .filter(|(name, _)| !name.ends_with(".location") && !PLAIN.contains(&name.as_str()))
        .map(|(_, value)| value.expose_secret())
        .filter(|value| !value.is_empty())
        .fold(text, |text, value| without(&text, value));
    ClientConfigError(format!(
        "Kafka property {key} cannot be used: {text}; correct it under [kafka.properties]"
    ))
}

/// Leaves a value out of a message, where it is not just a part of another word.
fn without(text: &str, value: &str) -> String {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c));
    let (mut left, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(value) {
        let (before, after) = (&rest[..at], &rest[at + value.len()..]);
        left += before;
        let is_part = is_word(left.chars().next_back()) || is_word(after.chars().next());
        left += if is_part { value } else { "…" };
        rest = after;
    }
    left + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_left_out_of_a_message_and_no_part_of_a_word_is() {
        let text = "Invalid value \"x\" for configuration property \"max.x\": x";
        let expected = "Invalid value \"…\" for configuration property \"max.x\": …";
        assert_eq!(without(text, "x"), expected);
        assert_eq!(without("a,secret!", "secret!"), "a,…");
    }
}
