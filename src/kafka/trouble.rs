//! What librdkafka said about the brokers: whether they are away, or refuse us.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rdkafka::types::RDKafkaErrorCode as Code;
use secrecy::ExposeSecret;

use crate::config::Kafka;
use crate::tls;

/// What keeps a client from its brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// None can be reached: waiting helps.
    Away,
    /// There is no token to log in with: somebody has to renew it.
    Token,
    /// The login is refused: somebody has to change something.
    Login,
    /// Certificates are refused, by us or by them.
    Certificate,
}

impl Cause {
    /// How many there are.
    pub(super) const ALL: usize = 4;
}

/// Judges what librdkafka says. TLS that fails for another reason than trust may be a broker that is about to stop.
pub(super) fn cause(code: Code, reason: &str) -> Cause {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    // A broker's word on our certificate comes after the handshake, as a failure to receive.
    let theirs = has(&[" alert "]) && has(&["certificate", "unknown ca", "handshake failure"]);
    let ours = has(&[
        "certificate",
        "unsupported protocol",
        "wrong version number",
    ]);
    match code {
        Code::Authentication if reason.contains("acquire SASL OAUTHBEARER") => Cause::Token,
        Code::Authentication | Code::SaslAuthenticationFailed => Cause::Login,
        Code::SSL if ours => Cause::Certificate,
        _ if theirs => Cause::Certificate,
        _ => Cause::Away,
    }
}

/// The last trouble of a client.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    last: Mutex<Option<(Cause, String)>>,
}

impl Trouble {
    /// Notes what librdkafka says; what is wrong.
    pub(super) fn note(&self, code: Code, reason: &str) -> Cause {
        let cause = cause(code, reason);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers are down" follows each reason, and tells none. Of several brokers with the same trouble the first stands for all.
        let is_new = last.as_ref().is_none_or(|(known, _)| *known != cause);
        if code != Code::AllBrokersDown && is_new {
            *last = Some((cause, stable(reason)));
        }
        cause
    }

    /// Whether the last trouble is one that waiting cannot cure.
    pub(super) fn is_refusal(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .is_some_and(|(cause, _)| *cause != Cause::Away)
    }

    /// Why no broker answers, as far as it was said. Blocks where it has to ask a broker itself.
    pub(super) fn told(&self, kafka: &Kafka) -> Silence {
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let brokers = &kafka.brokers;
        match last {
            Some((Cause::Token, reason)) => {
                Silence::Refused(format!("no token for Kafka at {brokers}: {reason}"))
            }
            Some((Cause::Login, reason)) => Silence::Refused(format!(
                "Kafka at {brokers} refuses the login: {reason}; check sasl.mechanism and the user, the password or the token in [kafka.properties]"
            )),
            Some((Cause::Certificate, reason)) => Silence::Refused(certificate(kafka, &reason)),
            Some((Cause::Away, reason)) => {
                Silence::Away(format!("{brokers} does not answer ({reason})"))
            }
            None => Silence::Away(format!("{brokers} does not answer")),
        }
    }
}

/// Why no broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Waiting helps; the end of a sentence that begins with "Kafka at".
    Away(String),
    /// Waiting cannot help; a whole line.
    Refused(String),
}

/// The part that is the same each time: times and counts are left out.
fn stable(reason: &str) -> String {
    let end = reason.find(" (after ").unwrap_or(reason.len());
    reason[..end].trim().to_owned()
}

/// OpenSSL's "certificate verify failed" may mean anything: the broker is asked once more, to learn what.
fn certificate(kafka: &Kafka, reason: &str) -> String {
    let (broker, words) = broker(reason).unwrap_or((("", 0), reason));
    let ((host, port), authority) = (broker, "ssl.ca.location in [kafka.properties]");
    let at = match host {
        "" => kafka.brokers.clone(),
        host => format!("{host}:{port}"),
    };
    let roots = kafka.properties.get("ssl.ca.location");
    let roots = roots.map(|path| PathBuf::from(path.expose_secret()));
    let asked = match words.contains("verif") && roots.as_deref().is_none_or(Path::is_file) {
        true => tls::ask(host, port, roots.as_deref(), authority),
        false => None,
    };
    match asked {
        Some(why) => format!(
            "TLS with Kafka at {at} failed: {}; {}",
            why.problem, why.remedy
        ),
        None => format!(
            "TLS with Kafka at {at} failed: {words}; check security.protocol, ssl.ca.location, ssl.certificate.location and ssl.key.location in [kafka.properties]"
        ),
    }
}

/// From `sasl_ssl://host:9093/1: words` to host, port and words.
fn broker(reason: &str) -> Option<((&str, u16), &str)> {
    let (_, rest) = reason.split_once("://")?;
    let (address, rest) = rest.split_once('/')?;
    let (_, words) = rest.split_once(": ")?;
    let (host, port) = address.rsplit_once(':')?;
    Some(((host.trim_matches(['[', ']']), port.parse().ok()?), words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes() {
        for (code, reason, expected) in [
            (
                Code::Authentication,
                "SASL authentication error",
                Cause::Login,
            ),
            (
                Code::Authentication,
                "Failed to acquire SASL OAUTHBEARER token: x",
                Cause::Token,
            ),
            (
                Code::SSL,
                "ssl://h:1/b: certificate verify failed",
                Cause::Certificate,
            ),
            (
                Code::SSL,
                "ssl://h:1/b: tlsv1 alert unknown ca",
                Cause::Certificate,
            ),
            (Code::SSL, "ssl://h:1/b: connection reset", Cause::Away),
            (
                Code::BrokerTransportFailure,
                "Connection refused",
                Cause::Away,
            ),
            (
                Code::BrokerTransportFailure,
                "Receive failed: sslv3 alert bad certificate: SSL alert number 42",
                Cause::Certificate,
            ),
            (Code::AllBrokersDown, "1/1 brokers are down", Cause::Away),
        ] {
            assert_eq!(cause(code, reason), expected, "{reason}");
        }
    }

    #[test]
    fn the_reason_stays_when_all_brokers_are_down_and_its_times_are_left_out() {
        let trouble = Trouble::default();
        let kafka = Kafka {
            brokers: "h:1".into(),
            token_file: None,
            properties: Default::default(),
        };
        assert_eq!(
            trouble.told(&kafka),
            Silence::Away("h:1 does not answer".into())
        );
        trouble.note(
            Code::BrokerTransportFailure,
            "h:1/b: refused (after 3ms in state CONNECT)",
        );
        trouble.note(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(
            trouble.told(&kafka),
            Silence::Away("h:1 does not answer (h:1/b: refused)".into())
        );
    }

    #[test]
    fn brokers_in_reasons() {
        for (reason, expected) in [
            ("ssl://h:9093/bootstrap: x: y", Some((("h", 9093), "x: y"))),
            ("sasl_ssl://[::1]:9093/1: x", Some((("::1", 9093), "x"))),
            ("x", None),
        ] {
            assert_eq!(broker(reason), expected);
        }
    }
}
