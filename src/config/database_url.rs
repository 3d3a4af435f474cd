//! The address of the database: one URL, one or several hosts, and a password that is never shown.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::url_parameters::Parameters;
use crate::tls;

/// A database URL whose text is a secret: Debug and Display show it without password and parameters.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// `user:password` as written, percent-encoded; empty when there is none.
    login: SecretString,
    /// Each `host` or `host:port`, at least one. A socket's folder has its slashes percent-encoded.
    hosts: Vec<String>,
    database: String,
    /// What follows the `?`, without what the driver does not know. May hold secrets.
    parameters: SecretString,
}

impl DatabaseUrl {
    /// Reads `postgres://user:password@host1:5432,host2:5433/database?sslmode=verify-full`.
    ///
    /// Parameters that only tune a client of another kind (`connect_timeout`, `keepalives` and the like) are left out;
    /// others that could not be honoured are refused.
    ///
    /// # Errors
    /// Says what is wrong, in words that contain nothing of `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        // a secret that was mounted as a file often ends in a line break
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

    /// One URL for each host, in the order given, with the same user, password, database and parameters.
    pub fn per_host(&self) -> Vec<SecretString> {
        self.hosts
            .iter()
            .map(|host| self.with_hosts(host))
            .collect()
    }

    /// The whole of it, for a program that is started with it.
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

    /// The whole of it, with `hidden` where it has a password.
    pub(super) fn without_secrets(&self, hidden: &str) -> String {
        let login = match self.login.expose_secret().split_once(':') {
            Some((user, _)) => format!("{user}:{hidden}"),
            None => self.login.expose_secret().to_owned(),
        };
        let shown = |pair: &str| match pair.split_once('=') {
            // `options` may set anything, also what is secret.
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

    pub(super) fn has_password(&self) -> bool {
        let login = self.login.expose_secret();
        let in_login = login.split_once(':').is_some_and(|(_, it)| !it.is_empty());
        in_login || self.parameter(&["password"]).is_some()
    }

    /// Gives it a password, which may have any character.
    pub(super) fn set_password(&mut self, password: &str) {
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

    /// Whether the files that `sslrootcert`, `sslcert` and `sslkey` name can be used.
    pub(super) fn check_certificates(&self) -> Result<(), String> {
        let file = |names| self.parameter(names).map(PathBuf::from);
        if let Some(roots) = file(&["sslrootcert", "ssl-root-cert", "ssl-ca"]) {
            tls::check_roots(&roots).map_err(|fault| format!("names an sslrootcert: {fault}"))?;
        }
        match (file(&["sslcert", "ssl-cert"]), file(&["sslkey", "ssl-key"])) {
            (Some(certificate), Some(key)) => tls::check_identity(&certificate, &key)
                .map_err(|fault| format!("names an sslcert and an sslkey: {fault}")),
            (None, None) => Ok(()),
            (Some(_), None) => Err("has an sslcert without an sslkey: give both".into()),
            (None, Some(_)) => Err("has an sslkey without an sslcert: give both".into()),
        }
    }

    /// The value of a parameter that goes by one of these names, decoded.
    fn parameter(&self, names: &[&str]) -> Option<String> {
        let pairs = self.parameters.expose_secret().split('&');
        let (_, value) = pairs
            .filter_map(|pair| pair.split_once('='))
            .rfind(|(key, _)| names.contains(key))?;
        String::from_utf8(decode(&value.replace('+', " "))?).ok()
    }

    /// `user@host1:5432,host2:5433/database`: what may be logged.
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

/// What must hold everywhere in the URL, so that each part of it can be decoded.
fn check_encoding(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has a space or a control character: write a space as %20".into());
    }
    if text.contains('#') {
        return Err("has a #: write it as %23".into());
    }
    let decoded = decode(text)
        .ok_or("has a % that begins no percent-encoded character: write % itself as %25")?;
    if decoded.contains(&0) {
        return Err("has a NUL character (%00), which PostgreSQL cannot take".into());
    }
    match String::from_utf8(decoded) {
        Ok(_) => Ok(()),
        Err(_) => Err("has percent-encoded bytes that are not UTF-8".into()),
    }
}

/// The bytes of percent-encoded text.
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
    // an IPv6 address stands in brackets, and its colons are its own
    let (host, after) = match text
        .strip_prefix('[')
        .and_then(|inside| inside.split_once(']'))
    {
        Some((address, after)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), after),
        None => {
            let (host, after) = text.split_at(text.find(':').unwrap_or(text.len()));
            let illegal = |c: char| "<>[]\\^|`{}\"".contains(c);
            // the driver decodes a socket's folder, but no name
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
        (false, ..) => Err("has a host that is no name or address (an IPv6 address stands in brackets)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        for (text, shown, expected) in [
            ("postgres://h", "h", vec!["postgres://h/"]),
            ("postgresql://h/db", "h/db", vec!["postgres://h/db"]),
            (
                " postgres://u:p@h:5432/db\n",
                "u@h:5432/db",
                vec!["postgres://u:p@h:5432/db"],
            ),
            ("postgres://u:p:w@h/", "u@h", vec!["postgres://u:p:w@h/"]),
            (
                "postgres://u:p@w@h/db",
                "u@h/db",
                vec!["postgres://u:p@w@h/db"],
            ),
            ("postgres://:p@h/db", "h/db", vec!["postgres://:p@h/db"]),
            (
                "postgres://u%40x:p%2F%25@h/db",
                "u%40x@h/db",
                vec!["postgres://u%40x:p%2F%25@h/db"],
            ),
            (
                "postgres://u:p@h1:5432,h2:5433,h3/db?sslmode=require",
                "u@h1:5432,h2:5433,h3/db",
                vec![
                    "postgres://u:p@h1:5432/db?sslmode=require",
                    "postgres://u:p@h2:5433/db?sslmode=require",
                    "postgres://u:p@h3/db?sslmode=require",
                ],
            ),
            (
                "postgres://u@[::1]:5432,[fe80::1]/db",
                "u@[::1]:5432,[fe80::1]/db",
                vec!["postgres://u@[::1]:5432/db", "postgres://u@[fe80::1]/db"],
            ),
            (
                "postgres://u@/db?host=%2Fvar%2Frun/postgresql&port=5433",
                "u@/var/run/postgresql/db",
                vec!["postgres://u@%2Fvar%2Frun%2Fpostgresql/db?port=5433"],
            ),
            (
                "postgres://u@%2Frun%2Fpg/db",
                "u@/run/pg/db",
                vec!["postgres://u@%2Frun%2Fpg/db"],
            ),
            (
                "postgres:///db?hostaddr=::1",
                "[::1]/db",
                vec!["postgres://[::1]/db"],
            ),
            (
                "postgres://h/db?connect_timeout=5&&options=-c%20x%3D1&target_session_attrs=primary&password=p",
                "h/db",
                vec!["postgres://h/db?options=-c%20x%3D1&password=p"],
            ),
        ] {
            assert_eq!(per_host(text), expected, "{text}");
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

    #[test]
    fn faults_say_what_is_wrong_and_nothing_of_the_text() {
        for (text, part) in [
            ("", "must begin with postgres://"),
            ("host=db user=HUNTER2", "must begin with postgres://"),
            ("mysql://u:HUNTER2@h/db", "must begin with postgres://"),
            ("postgres://u:HUNTER2@/db", "names no host"),
            ("postgres://", "names no host"),
            ("postgres://u:HUNTER2@h1,/db", "host that is no name"),
            (
                "postgres://u:HUNTER2@h:0/db",
                "not a number from 1 to 65535",
            ),
            ("postgres://u:HUNTER2@h:/db", "not a number from 1 to 65535"),
            (
                "postgres://u:HUNTER2@h:65536/db",
                "not a number from 1 to 65535",
            ),
            (
                "postgres://u:HUNTER2@h1:1,h2:x/db",
                "not a number from 1 to 65535",
            ),
            ("postgres://u:HUNTER2@::1/db", "host that is no name"),
            ("postgres://u:HUNTER2@[::g]/db", "host that is no name"),
            ("postgres://u:HUNTER2@[::1]5432/db", "not a number"),
            ("postgres://u:HUNTER2@<host>/db", "host that is no name"),
            ("postgres://u:HUNTER2@h%41/db", "host that is no name"),
            ("postgres:///db?host=a/b", "host that is no name"),
            ("postgres://u:HUNTER2/x@h/db", "write / as %2F"),
            ("postgres://u:12/HUNTER2@h/db", "write / as %2F"),
            ("postgres://u:12?HUNTER2@h/db", "? as %3F"),
            ("postgres://u:HUNTER2#x@h/db", "%23"),
            ("postgres://u:HUNTER2 x@h/db", "%20"),
            ("postgres://u:HUNTER2%@h/db", "%25"),
            ("postgres://u:HUNTER2%4@h/db", "%25"),
            ("postgres://u:HUNTER2%é@h/db", "%25"),
            ("postgres://u:HUNTER2%+1@h/db", "%25"),
            ("postgres://u:HUNTER2%00@h/db", "NUL"),
            ("postgres://u:HUNTER2%ff@h/db", "UTF-8"),
            ("postgres://h/db?pasword=HUNTER2", "unknown parameter"),
            ("postgres://h/db?HUNTER2", "unknown parameter"),
            ("postgres://h/db?sslpassword=HUNTER2", "`sslpassword`"),
            (
                "postgres://h/db?channel_binding=require",
                "`channel_binding`",
            ),
            (
                "postgres://h/db?target_session_attrs=standby",
                "`target_session_attrs`",
            ),
            ("postgres://h/db?sslmode=HUNTER2", "verify-full"),
            ("postgres://h/db?port=HUNTER2", "`port`"),
            ("postgres://u:HUNTER2@/db?host=h1,h2", "several hosts"),
            ("postgres://u:HUNTER2@/db?host=", "empty parameter"),
            ("postgres://u:HUNTER2@h/db?host=h", "twice"),
        ] {
            let fault = DatabaseUrl::parse(text).expect_err(text);
            assert!(fault.contains(part), "{text}: {fault}");
            assert!(!fault.contains("HUNTER2"), "{text}: {fault}");
        }
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
                Err(fault) => prop_assert!(!fault.contains("HUNTER2"), "{}", fault),
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
