//! Why no broker answers: whether the brokers are unreachable, or refuse the relay.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rdkafka::types::RDKafkaErrorCode as Code;
use secrecy::ExposeSecret;

use crate::config::Kafka;
use crate::sync::lock;
use crate::tls;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// No broker is reachable. Waiting helps.
    Unreachable,
    /// The host of a broker cannot be resolved. Waiting may help.
    Name,
    /// There is no token to log in with. The operator must renew it.
    Token,
    /// The brokers refuse the login. The operator must change something.
    Login,
    Certificate,
}

impl Cause {
    pub(super) const ALL: usize = 5;
}

/// Derives the cause from a message of librdkafka. If TLS fails for another reason than trust, the
/// broker may just be stopping.
pub(super) fn cause(code: Code, reason: &str) -> Cause {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    // A broker rejects the client's certificate after the handshake, so it shows as a failure to
    // receive.
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
        Code::Resolve => Cause::Name,
        _ => Cause::Unreachable,
    }
}

#[derive(Debug, Default)]
pub(super) struct LastConnectError {
    last: Mutex<Option<(Cause, String)>>,
}

impl LastConnectError {
    /// Records a message of librdkafka, and returns its cause.
    pub(super) fn note(&self, code: Code, reason: &str) -> Cause {
        let cause = cause(code, reason);
        let mut last = lock(&self.last);
        // "All brokers are down" follows each reason without naming it. If several brokers fail for
        // the same cause, the first reason stands for all.
        let is_new = last.as_ref().is_none_or(|(known, _)| *known != cause);
        if code != Code::AllBrokersDown && is_new {
            *last = Some((cause, stable(reason)));
        }
        cause
    }

    /// Returns whether waiting cannot cure the last error.
    pub(super) fn is_refusal(&self) -> bool {
        let last = lock(&self.last);
        last.as_ref()
            .is_some_and(|(cause, _)| !matches!(cause, Cause::Unreachable | Cause::Name))
    }

    /// Returns why no broker answers, as far as it is known. Blocks if it has to ask a broker.
    pub(super) fn told(&self, kafka: &Kafka) -> ConnectError {
        let last = lock(&self.last).clone();
        let brokers = &kafka.brokers;
        match last {
            Some((Cause::Token, reason)) => {
                ConnectError::Refused(format!("no token for Kafka at {brokers}: {reason}"))
            }
            Some((Cause::Login, reason)) => ConnectError::Refused(format!(
                "Kafka at {brokers} refuses the login: {reason}; check sasl.mechanism and the user, the password or the token in [kafka.properties]"
            )),
            Some((Cause::Certificate, reason)) => {
                ConnectError::Refused(certificate(kafka, &reason))
            }
            Some((Cause::Unreachable | Cause::Name, reason)) => {
                ConnectError::Unreachable(format!("{brokers} does not answer ({reason})"))
            }
            None => ConnectError::Unreachable(format!("{brokers} does not answer")),
        }
    }
}

/// Why no broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// Waiting helps. The text completes a sentence that begins with "Kafka at".
    Unreachable(String),
    /// Waiting cannot help. The text is a complete message.
    Refused(String),
}

/// Says how many brokers were tried, instead of librdkafka's "3/3 brokers are down".
pub(super) fn none_reached(reason: &str) -> String {
    let known = reason.strip_suffix(" brokers are down");
    let known = known.and_then(|counts| counts.split_once('/')?.1.parse::<u32>().ok());
    match known {
        None => reason.to_owned(),
        Some(0 | 1) => "the only known broker cannot be reached".into(),
        Some(known) => format!("none of {known} brokers can be reached"),
    }
}

/// Returns the part of a reason that is the same each time, without times and counts.
fn stable(reason: &str) -> String {
    let end = reason.find(" (after ").unwrap_or(reason.len());
    reason[..end].trim().to_owned()
}

/// Explains why a certificate was rejected. OpenSSL's "certificate verify failed" may mean
/// anything, so the broker is asked once more.
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

/// Splits `sasl_ssl://host:9093/1: words` into host, port and words.
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
        use Cause::{Certificate, Login, Token, Unreachable};
        let transport = Code::BrokerTransportFailure;
        let expired = "Receive failed: sslv3 alert bad certificate: SSL alert number 42";
        let no_token = "Failed to acquire SASL OAUTHBEARER token: x";
        for (code, reason, expected) in [
            (Code::Authentication, "SASL authentication error", Login),
            (Code::Authentication, no_token, Token),
            (Code::SSL, "b: certificate verify failed", Certificate),
            (Code::SSL, "b: tlsv1 alert unknown ca", Certificate),
            (Code::SSL, "ssl://h:1/b: connection reset", Unreachable),
            (transport, "Connection refused", Unreachable),
            (transport, expired, Certificate),
            (Code::AllBrokersDown, "1/1 brokers are down", Unreachable),
        ] {
            assert_eq!(cause(code, reason), expected, "{reason}");
        }
    }

    #[test]
    fn the_reason_stays_when_all_brokers_are_down_and_its_times_are_left_out() {
        let last = LastConnectError::default();
        let kafka = Kafka {
            brokers: "h:1".into(),
            ..Kafka::default()
        };
        assert_eq!(
            last.told(&kafka),
            ConnectError::Unreachable("h:1 does not answer".into())
        );
        last.note(
            Code::BrokerTransportFailure,
            "h:1/b: refused (after 3ms in state CONNECT)",
        );
        last.note(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(
            last.told(&kafka),
            ConnectError::Unreachable("h:1 does not answer (h:1/b: refused)".into())
        );
    }

    #[test]
    fn brokers_that_are_down_are_counted_in_words() {
        for (reason, expected) in [
            (
                "0/1 brokers are down",
                "the only known broker cannot be reached",
            ),
            ("3/3 brokers are down", "none of 3 brokers can be reached"),
            ("refused", "refused"),
        ] {
            assert_eq!(none_reached(reason), expected);
        }
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
