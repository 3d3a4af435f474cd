//! The parameters of a database URL: those the driver knows, those to leave out, and those to
//! refuse.

#[derive(Default)]
pub(crate) struct Parameters<'a> {
    /// Each `key=value` for the driver, as written.
    pub(crate) known: Vec<&'a str>,
    /// The host or the socket's directory that a parameter names, in the form that stands before
    /// the database.
    pub(crate) host: Option<String>,
}

const SSL_MODES: &str = "disable, allow, prefer, require, verify-ca, verify-full";

/// Parameters without which the connection would be weaker than requested, or another one. They are
/// refused by name.
const UNSUPPORTED: &str = "channel_binding gssencmode passfile require_auth requirepeer service \
    ssl_max_protocol_version ssl_min_protocol_version sslcrl sslnegotiation sslpassword target_session_attrs";

impl<'a> Parameters<'a> {
    pub(crate) fn parse(query: &'a str) -> Result<Self, String> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            parameters.add(pair)?;
        }
        Ok(parameters)
    }

    fn add(&mut self, pair: &'a str) -> Result<(), String> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (key, value) {
            // Doorbell sets these for its own sessions, or finds the writable host itself
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
            ("sslmode" | "ssl-mode", value) if SSL_MODES.split(", ").any(|it| it == value) => {}
            ("sslmode" | "ssl-mode", _) => {
                return Err(format!("has an unknown `sslmode`; known are {SSL_MODES}"));
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

/// The driver reads `//user@/database?host=…` as a URL without a host, so the host moves to its
/// usual place.
fn as_host(value: &str) -> String {
    match value.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => value.replace('/', "%2F"),
    }
}

fn unknown(key: &str) -> String {
    match UNSUPPORTED.split(' ').find(|name| *name == key) {
        Some(name) => format!("has the parameter `{name}` with a value that is not supported: remove it"),
        None => "has an unknown parameter; known are sslmode, sslrootcert, sslcert, sslkey, host, port, user, \
                 password, dbname, application_name and options"
            .into(),
    }
}
