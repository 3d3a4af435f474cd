//! The URL of the database: one or several hosts, and a password that is never shown.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::addresses::is_local;
use super::url_parameters::Parameters;
use crate::tls;

/// A database URL. Its text is a secret: Debug and Display leave out password and parameters.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// `user:password` as written, percent-encoded; empty if there is none.
    login: SecretString,
    /// Each `host` or `host:port`, at least one. The directory of a socket has its slashes
    /// percent-encoded.
    hosts: Vec<String>,
    database: String,
    /// The parameters that the driver knows, as written. May hold secrets.
    parameters: SecretString,
}

impl DatabaseUrl {
    /// Reads `postgres://user:password@host1:5432,host2:5433/database?sslmode=verify-full`.
    ///
    /// Parameters that only tune libpq (`connect_timeout`, `keepalives` and the like) are left out;
    /// others that cannot be honoured are refused.
    ///
    /// # Errors
    /// Says what is wrong, without repeating anything of `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        // a secret that is mounted as a file often ends in a line break
        let text = text.trim();
        let scheme = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let rest = scheme.ok_or(
            "must begin with postgres://, as in postgres://user:password@host:5432/database",
        )?;
        check_encoding(rest)?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if tail.contains('@') {
            return Err("has an @ after the hosts: in a user or password write / as %2F, ? as %3F and @ as %40".into());
        }
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let parameters = Parameters::parse(query)?;
        let hosts = match (hosts, &parameters.host) {
            ("", Some(host)) => vec![checked_host(host)?],
            ("", None) => {
                return Err(
                    "names no host, as in postgres://user:password@host:5432/database".into(),
                );
            }
            (_, Some(_)) => {
                return Err(
                    "names hosts twice, before the database and as a parameter: keep one".into(),
                );
            }
            (hosts, None) => hosts
                .split(',')
                .map(checked_host)
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            login: login.into(),
            hosts,
            database: path.trim_start_matches('/').into(),
            parameters: parameters.known.join("&").into(),
        })
    }

    /// One URL for each host, in their order, with the same user, password, database and
    /// parameters.
    pub fn per_host(&self) -> Vec<SecretString> {
        self.hosts
            .iter()
            .map(|host| self.with_hosts(host))
            .collect()
    }

    /// The whole URL, for a child process.
    pub fn text(&self) -> SecretString {
        self.with_hosts(&self.hosts.join(","))
    }

    fn with_hosts(&self, hosts: &str) -> SecretString {
        let login = match self.login.expose_secret() {
            "" => String::new(),
            login => format!("{login}@"),
        };
        let parameters = match self.parameters.expose_secret() {
            "" => String::new(),
            parameters => format!("?{parameters}"),
        };
        format!("postgres://{login}{hosts}/{}{parameters}", self.database).into()
    }

    /// The whole URL, with `hidden` in place of its secrets.
    pub(crate) fn without_secrets(&self, hidden: &str) -> String {
        let login = match self.login.expose_secret().split_once(':') {
            Some((user, _)) => format!("{user}:{hidden}"),
            None => self.login.expose_secret().to_owned(),
        };
        let shown = |pair: &str| match pair.split_once('=') {
            // `options` may set anything, also secrets.
            Some((key @ ("password" | "options"), _)) => format!("{key}={hidden}"),
            _ => pair.to_owned(),
        };
        let parameters = self.parameters.expose_secret().split('&').map(shown);
        let shown = Self {
            login: login.into(),
            parameters: parameters.collect::<Vec<_>>().join("&").into(),
            ..self.clone()
        };
        shown.text().expose_secret().to_owned()
    }

    pub(crate) fn unset() -> Self {
        Self {
            login: "".into(),
            hosts: Vec::new(),
            database: String::new(),
            parameters: "".into(),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        !self.hosts.is_empty()
    }

    pub(crate) fn has_password(&self) -> bool {
        let login = self.login.expose_secret();
        let in_login = login.split_once(':').is_some_and(|(_, it)| !it.is_empty());
        in_login || self.parameter(&["password"]).is_some()
    }

    /// Sets the password, which may have any character.
    pub(crate) fn set_password(&mut self, password: &str) {
        let mut parameters = self.parameters.expose_secret().to_owned();
        if !parameters.is_empty() {
            parameters.push('&');
        }
        parameters.push_str("password=");
        for byte in password.bytes() {
            parameters.push_str(&format!("%{byte:02X}"));
        }
        self.parameters = parameters.into();
    }

    pub(crate) fn check_certificates(&self) -> Result<(), String> {
        let file = |names| self.parameter(names).map(PathBuf::from);
        if let Some(roots) = file(&["sslrootcert", "ssl-root-cert", "ssl-ca"]) {
            tls::check_roots(&roots).map_err(|error| format!("names an sslrootcert: {error}"))?;
        }
        match (file(&["sslcert", "ssl-cert"]), file(&["sslkey", "ssl-key"])) {
            (Some(certificate), Some(key)) => tls::check_identity(&certificate, &key)
                .map_err(|error| format!("names an sslcert and an sslkey: {error}")),
            (None, None) => Ok(()),
            (Some(_), None) => Err("has an sslcert without an sslkey: give both".into()),
            (None, Some(_)) => Err("has an sslkey without an sslcert: give both".into()),
        }
    }

    /// The decoded value of a parameter that has one of these names.
    fn parameter(&self, names: &[&str]) -> Option<String> {
        let pairs = self.parameters.expose_secret().split('&');
        let (_, value) = pairs
            .filter_map(|pair| pair.split_once('='))
            .rfind(|(key, _)| names.contains(key))?;
        String::from_utf8(decode(&value.replace('+', " "))?).ok()
    }

    /// Which connections over a network may be unencrypted.
    pub(crate) fn in_plain(&self) -> Option<String> {
        let mode = self.parameter(&["sslmode", "ssl-mode"]);
        let mode = mode.or_else(|| std::env::var("PGSSLMODE").ok());
        let mode = mode.unwrap_or_else(|| "prefer".into());
        let may_be = ["disable", "allow", "prefer"].contains(&mode.as_str());
        let far = self.hosts.iter().find(|host| !is_local(host));
        let host = far.filter(|_| may_be)?;
        Some(format!(
            "the connection to PostgreSQL at {host} may be unencrypted: sslmode is {mode}"
        ))
    }

    /// The name of the database; that of the user where there is none, as to PostgreSQL.
    pub(crate) fn database(&self) -> String {
        let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let user = self.login.expose_secret().split(':').next();
        let user = user.filter(|it| !it.is_empty()).map(str::to_owned);
        let named = Some(self.database.clone()).filter(|it| !it.is_empty());
        let written = named.or_else(|| variable("PGDATABASE"));
        let written = written
            .or(user)
            .or_else(|| variable("PGUSER"))
            .unwrap_or_default();
        let decoded = decode(&written).and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.unwrap_or(written)
    }

    /// `user@host1:5432,host2:5433/database`: the part that may be logged.
    pub fn shown(&self) -> String {
        let login = self.login.expose_secret();
        let user = match login.split_once(':').map_or(login, |(user, _)| user) {
            "" => String::new(),
            user => format!("{user}@"),
        };
        let hosts = self.hosts.join(",").replace("%2F", "/");
        match self.database.as_str() {
            "" => format!("{user}{hosts}"),
            database => format!("{user}{hosts}/{database}"),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.shown())
    }
}

/// Checks what must hold everywhere in the URL, so that each part of it can be decoded.
fn check_encoding(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has a space or a control character: write a space as %20".into());
    }
    if text.contains('#') {
        return Err("has a #: write it as %23".into());
    }
    let decoded = decode(text)
        .ok_or("has a % that does not begin a percent-encoded character: write % itself as %25")?;
    if decoded.contains(&0) {
        return Err("has a NUL character (%00), which PostgreSQL does not accept".into());
    }
    match String::from_utf8(decoded) {
        Ok(_) => Ok(()),
        Err(_) => Err("has percent-encoded bytes that are not UTF-8".into()),
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    Some(bytes)
}

fn checked_host(text: &str) -> Result<String, String> {
    // an IPv6 address stands in brackets, and its colons do not begin a port
    let (host, after) = match text
        .strip_prefix('[')
        .and_then(|inside| inside.split_once(']'))
    {
        Some((address, after)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), after),
        None => {
            let (host, after) = text.split_at(text.find(':').unwrap_or(text.len()));
            let illegal = |c: char| "<>[]\\^|`{}\"".contains(c);
            // the driver decodes the directory of a socket, but no host name
            let encoded = host.contains('%') && !host.to_ascii_uppercase().starts_with("%2F");
            (
                !host.is_empty() && !host.contains(illegal) && !encoded,
                after,
            )
        }
    };
    let port = after.strip_prefix(':').map(str::parse::<u16>);
    match (host, after, port) {
        (true, "", _) => Ok(text.into()),
        (true, _, Some(Ok(1..))) => Ok(text.into()),
        (true, ..) => Err("has a port that is not a number from 1 to 65535 (in a password, write / as %2F, : as %3A \
                           and @ as %40)"
            .into()),
        (false, ..) => Err("has a host that is not a name or an address (an IPv6 address stands in brackets)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::rows;
    use proptest::prelude::*;

    fn per_host(text: &str) -> Vec<String> {
        let url = DatabaseUrl::parse(text).expect(text);
        url.per_host()
            .iter()
            .map(|url| url.expose_secret().to_owned())
            .collect()
    }

    #[test]
    fn urls() {
        for (text, expected) in rows(
            "
            postgres://h -> h postgres://h/
            postgresql://h/db -> h/db postgres://h/db
            postgres://u:p@h:5432/db -> u@h:5432/db postgres://u:p@h:5432/db
            postgres://u:p:w@h/ -> u@h postgres://u:p:w@h/
            postgres://u:p@w@h/db -> u@h/db postgres://u:p@w@h/db
            postgres://:p@h/db -> h/db postgres://:p@h/db
            postgres://u%40x:p%2F%25@h/db -> u%40x@h/db postgres://u%40x:p%2F%25@h/db
            postgres://u:p@h1:5432,h2:5433,h3/db?sslmode=require -> u@h1:5432,h2:5433,h3/db \
                postgres://u:p@h1:5432/db?sslmode=require postgres://u:p@h2:5433/db?sslmode=require \
                postgres://u:p@h3/db?sslmode=require
            postgres://u@[::1]:5432,[fe80::1]/db -> u@[::1]:5432,[fe80::1]/db \
                postgres://u@[::1]:5432/db postgres://u@[fe80::1]/db
            postgres://u@/db?host=%2Fvar%2Frun/postgresql&port=5433 -> u@/var/run/postgresql/db \
                postgres://u@%2Fvar%2Frun%2Fpostgresql/db?port=5433
            postgres://u@%2Frun%2Fpg/db -> u@/run/pg/db postgres://u@%2Frun%2Fpg/db
            postgres:///db?hostaddr=::1 -> [::1]/db postgres://[::1]/db
            postgres://h/db?connect_timeout=5&&options=-c%20x%3D1&target_session_attrs=primary&password=p -> \
                h/db postgres://h/db?options=-c%20x%3D1&password=p
            ",
        ) {
            let mut expected = expected.split(' ');
            let shown = expected.next().expect("what is shown");
            let padded = format!(" {text}\n");
            assert_eq!(per_host(&padded), expected.collect::<Vec<_>>(), "{text}");
            let url = DatabaseUrl::parse(text).expect(text);
            assert_eq!(url.shown(), shown, "{text}");
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("DatabaseUrl({shown})"));
        }
    }

    #[test]
    fn a_password_of_any_characters_can_be_added() {
        for (text, has) in [
            ("postgres://h", false),
            ("postgres://u@h", false),
            ("postgres://u:@h", false),
            ("postgres://u:p@h", true),
            ("postgres://h/db?password=p", true),
        ] {
            let url = DatabaseUrl::parse(text).expect(text);
            assert_eq!(url.has_password(), has, "{text}");
        }
        let mut url = DatabaseUrl::parse("postgres://u@h/db?sslmode=require").expect("a URL");
        url.set_password("a&=%+ ü");
        let [text] = &url.per_host()[..] else {
            panic!("one host")
        };
        assert_eq!(
            text.expose_secret(),
            "postgres://u@h/db?sslmode=require&password=%61%26%3D%25%2B%20%C3%BC"
        );
        assert_eq!(url.parameter(&["password"]).as_deref(), Some("a&=%+ ü"));
        assert_eq!(url.shown(), "u@h/db");
    }

    proptest! {
        #[test]
        fn a_password_of_any_characters_stays_hidden(
            password in "HUNTER2[ -~é]{0,8}",
            at in prop::sample::select(vec!["u:<>@h1:5432,h2/db", "u:<>@/db", "u@h/db?password=<>", "u:<>", "u:1<>@h"]),
        ) {
            let text = format!("postgres://{}", at.replace("<>", &password));
            // `u:<>` without an @ is a host with a port, and a host may be shown
            match DatabaseUrl::parse(&text) {
                Err(error) => prop_assert!(!error.contains("HUNTER2"), "{}", error),
                Ok(url) => prop_assert!(!format!("{url} {url:?}").contains("HUNTER2"), "{}", url),
            }
        }

        #[test]
        fn any_text_is_an_url_or_a_fault(text in "(postgres://)?([a-z0-9:@/?#%,&=\\[\\]é]{0,30}|.*)") {
            if let Ok(url) = DatabaseUrl::parse(&text) {
                for single in url.per_host() {
                    prop_assert!(DatabaseUrl::parse(single.expose_secret()).is_ok());
                }
            }
        }
    }
}
