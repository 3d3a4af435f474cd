//! The properties of librdkafka that Doorbell sets itself, with the reason, and those that name
//! files.

use std::path::Path;

use crate::tls;

pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    // librdkafka reads C strings
    if name.contains('\0') || value.contains('\0') {
        return Err("a property in [kafka.properties] contains a NUL character: remove it".into());
    }
    match owned(name) {
        Some(reason) => Err(format!(
            "`{name}` cannot be set in [kafka.properties]: {reason}"
        )),
        None => check_number(name, value)
            .and_then(|()| check_file(name, value))
            .map_err(|error| format!("`{name}`: {error}")),
    }
}

/// Refuses a unit after a number: librdkafka takes the digits before it, and drops the rest.
fn check_number(name: &str, value: &str) -> Result<(), String> {
    let is_number = [".ms", ".bytes", ".kbytes", ".messages"]
        .iter()
        .any(|end| name.ends_with(end));
    let hex = value.strip_prefix("0x");
    let is_right = value.parse::<f64>().is_ok_and(f64::is_finite)
        || hex.is_some_and(|digits| i64::from_str_radix(digits, 16).is_ok());
    match is_number && !is_right {
        true => Err("must be a number without a unit".into()),
        false => Ok(()),
    }
}

/// Checks the file that the property names, with clearer messages than librdkafka's.
fn check_file(name: &str, value: &str) -> Result<(), String> {
    let path = Path::new(value);
    match name {
        "ssl.ca.location" if value == "probe" || path.is_dir() => Ok(()),
        "ssl.ca.location" => tls::check_roots(path),
        "ssl.certificate.location" => tls::check_certificates(path),
        // its format and its password are checked by librdkafka
        "ssl.key.location" | "ssl.keystore.location" => std::fs::File::open(path)
            .map(drop)
            .map_err(|error| format!("cannot read {value}: {error}")),
        _ => Ok(()),
    }
}

/// The reason why `[kafka.properties]` may not set `name`, if there is one.
fn owned(name: &str) -> Option<&'static str> {
    Some(match name {
        "bootstrap.servers" | "metadata.broker.list" => "set `brokers` in [kafka] instead",
        "enable.idempotence" => {
            "it is always true: without it, retries reorder and duplicate events"
        }
        "acks" | "request.required.acks" => {
            "it is always `all`: a row is deleted only after all in-sync replicas have its event"
        }
        "message.timeout.ms" | "delivery.timeout.ms" => {
            "it is always 0: an event waits for its broker, however long that is unreachable"
        }
        "retries" | "message.send.max.retries" => {
            "it is always the maximum: an event is retried until Kafka has it"
        }
        "transactional.id" => {
            "it belongs to the delivery mode: set `transactional_id` in [[outbox]] with `delivery = \"exactly-once\"`"
        }
        "transaction.timeout.ms" => {
            "it is always 60 s in the mode exactly-once: with less, the restart of a broker is enough to abort transactions"
        }
        "queue.buffering.max.messages" => {
            "it follows from `in_flight_rows` in [[outbox]]: set that instead"
        }
        "queue.buffering.max.kbytes" => {
            "it follows from `in_flight_bytes` in [[outbox]]: set that instead"
        }
        "enable.sasl.oauthbearer.unsecure.jwt" => {
            "an unsigned token proves nothing: put a signed one into a file and set `token_file` in [kafka]"
        }
        "delivery.report.only.error" => {
            "it is always false: a row is deleted when its delivery is reported"
        }
        _ => return None,
    })
}
