//! Whose questions are heard: not those of a browser that was led here under another name, and no form of another site.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HOST, ORIGIN};

use crate::config::Listen;

/// What the port is called.
pub(super) struct Names {
    /// Only where it can be reached from this machine alone. A site whose name suddenly stands for 127.0.0.1 could read it through the browser of whoever sits
    /// there: but the browser then sends that site's name.
    local_only: bool,
    /// As it was configured.
    host: String,
}

impl Names {
    pub(super) fn of(listen: &Listen, address: SocketAddr) -> Self {
        let host = match listen {
            Listen::At(text) => host_of(text),
            Listen::Default | Listen::Off => "",
        };
        Self {
            local_only: address.ip().is_loopback(),
            host: host.to_ascii_lowercase(),
        }
    }

    /// # Errors
    /// Says which name is not ours, and what to do. Who sends no name is no browser.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let mut hosts = headers.get_all(HOST).iter();
        let Some(first) = hosts.next().filter(|_| self.local_only) else {
            return Ok(());
        };
        let name = first.to_str().unwrap_or("?").to_ascii_lowercase();
        let host = host_of(&name);
        let is_ours = is_address(host)
            || host == "localhost"
            || host.ends_with(".localhost")
            || (!host.is_empty() && host == self.host);
        if is_ours && hosts.next().is_none() {
            return Ok(());
        }
        Err(format!(
            "this port is open to its own machine alone, and {name:?} is not its name: ask for 127.0.0.1 or localhost; a proxy on this machine must send \
             one of them as Host, or the host that [http] listen names"
        ))
    }
}

/// `host` of `host:port`.
fn host_of(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    }
}

/// Nobody can make an address stand for another one.
fn is_address(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inner.unwrap_or(host).parse::<IpAddr>().is_ok()
}

/// Whether a form comes from our own pages, as far as the browser says. `Sec-Fetch-Site` is what it knows; a proxy may have changed the host that it was
/// sent to, so `Origin` is asked only without it.
pub(super) fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|it| it.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = text(ORIGIN.as_str()) else {
        return true;
    };
    let from = origin.split_once("://").map(|(_, host)| host);
    from.is_some() && from == text(HOST.as_str())
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter();
    let mut pairs = all
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    fn hears(listen: &str, address: &str, host: &'static str) -> bool {
        let listen = Listen::At(listen.into());
        let names = Names::of(&listen, address.parse().expect("an address"));
        names.check(&headers(&[("host", host)])).is_ok()
    }

    #[test]
    fn a_port_of_this_machine_alone_is_asked_by_its_own_names() {
        for host in [
            "127.0.0.1:8686",
            "127.0.0.1",
            "[::1]:8686",
            "10.1.2.3:8686",
            "localhost:8686",
            "LOCALHOST",
            "doorbell.localhost:1",
            "Own.Example:8686",
        ] {
            assert!(hears("own.example:8686", "127.0.0.1:8686", host), "{host}");
        }
        for host in [
            "evil.example:8686",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "",
            "[::1",
            "own.example.:8686",
        ] {
            assert!(!hears("own.example:8686", "127.0.0.1:8686", host), "{host}");
            assert!(!hears("own.example:8686", "[::1]:8686", host), "{host}");
            // Others have their own names for a port that is open to them.
            assert!(hears("own.example:8686", "0.0.0.0:8686", host), "{host}");
        }
        assert!(!hears("127.0.0.1:1", "127.0.0.1:1", "own.example"));
        let names = Names::of(&Listen::Default, ([127, 0, 0, 1], 8686).into());
        assert!(names.check(&headers(&[])).is_ok());
        let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(names.check(&twice).is_err());
    }

    #[test]
    fn forms_come_from_our_own_pages() {
        const HOST: (&str, &str) = ("host", "h:1");
        for (line, expected) in [
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "same-site"), false),
            (("sec-fetch-site", "cross-site"), false),
            (("sec-fetch-site", "none"), false),
            (("origin", "http://h:1"), true),
            (("origin", "https://h:1"), true),
            (("origin", "http://h:2"), false),
            (("origin", "http://evil.example"), false),
            (("origin", "null"), false),
            (("x", "a program, or a browser that says nothing"), true),
        ] {
            assert_eq!(is_from_here(&headers(&[HOST, line])), expected, "{line:?}");
        }
        let behind_a_proxy = [
            HOST,
            ("origin", "https://relay.example"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert!(is_from_here(&headers(&behind_a_proxy)));
        assert!(!is_from_here(&headers(&[("origin", "http://h:1")])));
    }

    #[test]
    fn cookies_are_found_among_others() {
        let headers = headers(&[("cookie", "a=1; doorbell_1=x=y ;b=2"), ("cookie", "c=3")]);
        assert_eq!(cookie(&headers, "doorbell_1"), Some("x=y"));
        assert_eq!(cookie(&headers, "c"), Some("3"));
        assert_eq!(cookie(&headers, "doorbell"), None);
    }
}
