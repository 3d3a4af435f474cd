//! The librdkafka properties that Doorbell sets itself, with the reason why nobody else may; and those that name files, which are tried.

use std::path::Path;

use crate::tls;

/// Whether the file that the property names can be used. What librdkafka would say of it is hard to read.
pub(super) fn check_file(name: &str, value: &str) -> Result<(), String> {
    let path = Path::new(value);
    match name {
        "ssl.ca.location" if value == "probe" || path.is_dir() => Ok(()),
        "ssl.ca.location" => tls::check_roots(path),
        "ssl.certificate.location" => tls::check_certificates(path),
        // Its kind and its password are librdkafka's business.
        "ssl.key.location" | "ssl.keystore.location" => std::fs::File::open(path)
            .map(drop)
            .map_err(|error| format!("cannot read {value}: {error}")),
        _ => Ok(()),
    }
}

/// Why `[kafka.properties]` may not set `name`; `None` when it may.
pub(super) fn owned(name: &str) -> Option<&'static str> {
    Some(match name {
        "bootstrap.servers" | "metadata.broker.list" => "set `brokers` in [kafka] instead",
        "enable.idempotence" => "it is always true: without it, retries reorder and double events",
        "acks" | "request.required.acks" => {
            "it is always `all`: a row is deleted once Kafka has its event safely"
        }
        "message.timeout.ms" | "delivery.timeout.ms" => {
            "it is always 0: an event waits for its broker, however long that is away"
        }
        "retries" | "message.send.max.retries" => {
            "it is always the largest: an event is tried until Kafka has it"
        }
        "transactional.id" => {
            "it belongs to the delivery mode: set `transactional_id` in [[outbox]] with `delivery = \"exactly-once\"`"
        }
        "transaction.timeout.ms" => {
            "it is always 60 s, in the mode exactly-once: with less, a restart of a broker alone ends transactions"
        }
        "queue.buffering.max.messages" => {
            "it follows from `in_flight_rows` in [[outbox]]: set that instead"
        }
        "queue.buffering.max.kbytes" => {
            "it follows from `in_flight_bytes` in [[outbox]]: set that instead"
        }
        "enable.sasl.oauthbearer.unsecure.jwt" => {
            "a token that nobody signed proves nothing: put one into a file and set `token_file` in [kafka]"
        }
        "delivery.report.only.error" => {
            "it is always false: a row is deleted when its delivery is reported"
        }
        _ => return None,
    })
}
