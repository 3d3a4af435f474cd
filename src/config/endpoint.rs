//! Where spans go: the address of a collector, as the OpenTelemetry variables of the same names have it.

/// The path that belongs to traces, below a collector's address.
const TRACES_PATH: &str = "/v1/traces";

/// A collector's address as the address for its traces.
pub(super) fn of_collector(text: &str) -> Result<String, String> {
    let address = of_traces(text)?;
    Ok(format!("{}{TRACES_PATH}", address.trim_end_matches('/')))
}

/// The address for traces, as it is.
pub(super) fn of_traces(text: &str) -> Result<String, String> {
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
        return Err("must not have a login: headers for a collector are given in OTEL_EXPORTER_OTLP_HEADERS".into());
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let bare = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or(FORM)?,
        None if host.contains(':') => return Err(FORM.into()),
        None => host,
    };
    let illegal = |c: char| c.is_whitespace() || c.is_control() || "?#[]\\\"<>".contains(c);
    if bare.is_empty() || bare.contains(illegal) || path.contains(illegal) {
        return Err(FORM.into());
    }
    if port.is_some_and(|port| !port.parse().is_ok_and(|port: u16| port > 0)) {
        return Err("has a port that is not a number from 1 to 65535".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_has_its_traces_below_its_address() {
        for (text, expected) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            (" https://otel.example/ ", "https://otel.example/v1/traces"),
            (
                "http://[::1]:4318/otlp/",
                "http://[::1]:4318/otlp/v1/traces",
            ),
            ("HTTP://h", "HTTP://h/v1/traces"),
        ] {
            assert_eq!(of_collector(text).as_deref(), Ok(expected));
        }
        let whole = "https://otel.example/one/traces";
        assert_eq!(of_traces(whole).as_deref(), Ok(whole));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost:4318",
            "grpc://h:4317",
            "http://",
            "http://:4318",
            "http://h:",
            "http://h:0",
            "http://h:99999",
            "http://a b:1",
            "http://h:1/a b",
            "http://h:1?x=y",
            "http://::1:4318",
            "http://[::1:4318",
            "http://u:p@h:4318",
        ] {
            let fault = of_collector(text).expect_err(text);
            assert!(!fault.contains("u:p"), "{fault}");
        }
    }
}
