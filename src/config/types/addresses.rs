//! Addresses: Kafka's brokers, the HTTP listener, and an OpenTelemetry collector.

/// What librdkafka takes before an address.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// Checks brokers as librdkafka reads them: `host`, `host:port` or `SSL://host:port`, with commas.
pub(crate) fn brokers(text: &str) -> Result<String, String> {
    let text = text.trim();
    for broker in text.split(',').map(str::trim) {
        let (scheme, address) = broker.split_once("://").unwrap_or(("ssl", broker));
        let (host, port) = host_and_port(address);
        let illegal = |c: char| c.is_whitespace() || c.is_control() || "/@,".contains(c);
        let is_known = PROTOCOLS.iter().any(|it| it.eq_ignore_ascii_case(scheme));
        if host.is_empty() || host.contains(illegal) || !is_known {
            return Err(
                "must be host:port, or several with commas, such as kafka1:9092,kafka2:9092".into(),
            );
        }
        check_port(port)?;
    }
    Ok(text.into())
}

/// Reads names of hosts, without ports, separated by commas.
pub(crate) fn hosts(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(|name| name.trim().to_owned());
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let names: Vec<String> = names.collect();
    match names.iter().all(|it| !it.is_empty() && it.chars().all(is_name)) {
        true => Ok(names),
        false => Err(
            "must be the name of a host without a port, or several with commas, such as relay.example,doorbell"
                .into(),
        ),
    }
}

/// Splits an address. The port may be missing, and an IPv6 address stands in brackets.
fn host_and_port(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    }
}

/// Whether an address leads to this machine alone: loopback, or the directory of a socket.
pub(crate) fn is_local(address: &str) -> bool {
    let host = host_and_port(address).0.trim_matches(['[', ']']);
    let is_socket = host.starts_with('/') || host.to_ascii_uppercase().starts_with("%2F");
    let address = host.parse::<std::net::IpAddr>();
    is_socket || host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

fn check_port(port: Option<&str>) -> Result<(), String> {
    match port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port > 0)) {
        true => Ok(()),
        false => Err("has a port that is not a number from 1 to 65535".into()),
    }
}

/// The address of the HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Listen {
    /// The default address, unless another process has bound it: several relays on one machine are
    /// no error.
    #[default]
    Default,
    /// This address, which must be free.
    At(String),
    /// No address.
    Off,
}

impl Listen {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be HOST:PORT, such as 127.0.0.1:8686, or off";
        let text = text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let bare = without_brackets(host).ok_or(FORM)?;
        let illegal = |c: char| c.is_whitespace() || c.is_control() || "/@,[]".contains(c);
        if bare.is_empty() || bare.contains(illegal) {
            return Err(FORM.into());
        }
        match port.parse::<u16>() {
            Ok(_) => Ok(Self::At(text.to_owned())),
            Err(_) => Err("has a port that is not a number from 0 to 65535".into()),
        }
    }
}

/// Takes the brackets off an IPv6 address, which must have them.
fn without_brackets(host: &str) -> Option<&str> {
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']'),
        None => Some(host).filter(|host| !host.contains(':')),
    }
}

const TRACES_PATH: &str = "/v1/traces";

pub(crate) fn of_collector(text: &str) -> Result<String, String> {
    let address = of_traces(text)?;
    Ok(format!("{}{TRACES_PATH}", address.trim_end_matches('/')))
}

pub(crate) fn of_traces(text: &str) -> Result<String, String> {
    const FORM: &str =
        "must be http://HOST:PORT or https://HOST:PORT, such as http://localhost:4318";
    let text = text.trim();
    let (_, rest) = text
        .split_once("://")
        .filter(|(scheme, _)| ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()))
        .ok_or(FORM)?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err(
            "must not have a login: give the collector's headers in OTEL_EXPORTER_OTLP_HEADERS"
                .into(),
        );
    }
    let (host, port) = host_and_port(authority);
    let bare = without_brackets(host).ok_or(FORM)?;
    let illegal = |c: char| c.is_whitespace() || c.is_control() || "?#[]\\\"<>".contains(c);
    if bare.is_empty() || bare.contains(illegal) || path.contains(illegal) {
        return Err(FORM.into());
    }
    check_port(port)?;
    Ok(text.to_owned())
}
