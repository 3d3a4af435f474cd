//! The parameters of a database URL: what the driver knows, what may be left out, and what must be refused.

/// What follows the `?`, sorted.
#[derive(Default)]
pub(super) struct Parameters<'a> {
    /// Each `key=value` that the driver is to see, as written.
    pub(super) known: Vec<&'a str>,
    /// The host or the socket's folder that a parameter names, as it would stand before the database.
    pub(super) host: Option<String>,
}

/// The modes of TLS.
const SSL_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// Without these the connection would be weaker than the user asked, or not the one meant: so they are named.
const UNSUPPORTED: [&str; 12] = [
    "channel_binding",
    "gssencmode",
    "passfile",
    "require_auth",
    "requirepeer",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcrl",
    "sslnegotiation",
    "sslpassword",
    "target_session_attrs",
];

impl<'a> Parameters<'a> {
    pub(super) fn parse(query: &'a str) -> Result<Self, String> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            parameters.add(pair)?;
        }
        Ok(parameters)
    }

    fn add(&mut self, pair: &'a str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (key, value) {
            // Doorbell sets these for its own sessions, or looks for the writable host itself
            (
                "connect_timeout" | "tcp_user_timeout" | "client_encoding" | "load_balance_hosts",
                _,
            )
            | ("keepalives" | "keepalives_idle" | "keepalives_interval" | "keepalives_count", _)
            | ("fallback_application_name", _)
            | ("target_session_attrs", "any" | "read-write" | "primary")
            | ("channel_binding" | "gssencmode", "disable" | "prefer") => return Ok(()),
            ("host" | "hostaddr" | "port", value)
                if value.contains(',') || value.contains("%2C") =>
            {
                return Err(
                    "names several hosts or ports in a parameter: write them before the database"
                        .into(),
                );
            }
            ("host" | "hostaddr", "") => return Err("has an empty parameter `host`".into()),
            ("host" | "hostaddr", value) => {
                self.host = Some(as_host(value));
                return Ok(());
            }
            ("port", value) if value.parse().is_ok_and(|port: u16| port > 0) => {}
            ("port", _) => {
                return Err("has a parameter `port` that is not a number from 1 to 65535".into());
            }
            ("sslmode" | "ssl-mode", value) if SSL_MODES.contains(&value) => {}
            ("sslmode" | "ssl-mode", _) => {
                return Err(format!(
                    "has an unknown `sslmode`; known are {}",
                    SSL_MODES.join(", ")
                ));
            }
            (
                "sslrootcert" | "ssl-root-cert" | "ssl-ca" | "sslcert" | "ssl-cert" | "sslkey"
                | "ssl-key",
                _,
            )
            | ("user" | "password" | "dbname" | "application_name" | "options", _) => {}
            (key, _) => return Err(unknown(key)),
        }
        self.known.push(pair);
        Ok(())
    }
}

/// The driver reads `//user@/database?host=…` as a URL without a host, so the host moves to its usual place.
fn as_host(value: &str) -> String {
    match value.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => value.replace('/', "%2F"),
    }
}

fn unknown(key: &str) -> String {
    match UNSUPPORTED.iter().find(|name| **name == key) {
        Some(name) => format!("has the parameter `{name}` with a value that is not supported: leave it out"),
        None => "has an unknown parameter; known are sslmode, sslrootcert, sslcert, sslkey, host, port, user, \
                 password, dbname, application_name and options"
            .into(),
    }
}
