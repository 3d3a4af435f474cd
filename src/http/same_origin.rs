//! Refuses requests that a browser was tricked into: those for another host name, and forms of
//! another site.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

use crate::config::{Http, Listen};

/// Host names under which the port may be requested. A site whose name is made to resolve to an
/// address of this port (DNS rebinding) could read it through a browser that reaches it; but the
/// browser then sends the name of that site as Host.
pub(super) struct HostNames(Vec<String>);

impl HostNames {
    pub(super) fn of(http: &Http) -> Self {
        let listen = match &http.listen {
            Listen::At(text) => host_of(text),
            Listen::Default | Listen::Off => "",
        };
        let names = http.hosts.iter().map(String::as_str).chain([listen]);
        Self(names.map(str::to_ascii_lowercase).collect())
    }

    /// Checks the Host of a request. A request without one does not come from a browser.
    ///
    /// # Errors
    /// Names the host that is refused, and what to do.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let mut hosts = headers.get_all(HOST).iter();
        let Some(first) = hosts.next() else {
            return Ok(());
        };
        let name = first.to_str().unwrap_or("?").to_ascii_lowercase();
        let host = host_of(&name);
        let is_ours = is_address(host)
            || host == "localhost"
            || host.ends_with(".localhost")
            || (!host.is_empty() && self.0.iter().any(|known| known == host));
        if is_ours && hosts.next().is_none() {
            return Ok(());
        }
        Err(format!(
            "refused: {name:?} is not a name of this port; request it by its address or as localhost, or add the name to `hosts` in [http], or to DOORBELL_HTTP_HOSTS"
        ))
    }
}

/// Returns `host` of `host:port`.
fn host_of(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    }
}

/// Returns whether the host is an address, which no DNS server can make resolve to another one.
fn is_address(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inner.unwrap_or(host).parse::<IpAddr>().is_ok()
}

/// Whether the browser loads this for another site without a click of its user: such a site could
/// have any of its visitors query the database. A link from a chat or a dashboard is a click.
pub(super) fn is_for_another_site(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|it| it == value);
    is("sec-fetch-site", "cross-site") && !is("sec-fetch-user", "?1")
}

/// Where a form comes from, as far as the browser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// A page of this port.
    Own,
    Other,
    /// The request does not say: it comes from a program, or from a very old browser.
    Unknown,
}

/// Returns where a form comes from. `Sec-Fetch-Site` is what the browser knows. A proxy may have
/// changed the host, so `Origin` is compared only without it.
pub(super) fn site(headers: &HeaderMap) -> Site {
    let text = |name: &str| headers.get(name).map(|it| it.to_str().unwrap_or_default());
    let is_own = if let Some(site) = text("sec-fetch-site") {
        site == "same-origin"
    } else if let Some(origin) = text(ORIGIN.as_str()) {
        let from = origin.split_once("://").map(|(_, host)| host);
        from.is_some() && from == text(HOST.as_str())
    } else {
        return Site::Unknown;
    };
    if is_own { Site::Own } else { Site::Other }
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

    #[test]
    fn a_port_accepts_its_own_names_only() {
        let names = HostNames::of(&Http {
            listen: Listen::At("own.example:8686".into()),
            hosts: vec!["Relay-1".into()],
            ..Http::default()
        });
        let hears = |host: &'static str| names.check(&headers(&[("host", host)])).is_ok();
        let own = "127.0.0.1:8686|127.0.0.1|[::1]:8686|10.1.2.3:8686|localhost:8686|LOCALHOST|\
                   doorbell.localhost:1|Own.Example:8686|relay-1:8686";
        for host in own.split('|') {
            assert!(hears(host), "{host}");
        }
        let others = "evil.example:8686|evil.example|127.0.0.1.evil.example|localhost.evil.example|\
                      evillocalhost||[::1|own.example.:8686|relay-2:8686";
        for host in others.split('|') {
            assert!(!hears(host), "{host}");
        }
        assert!(names.check(&headers(&[])).is_ok());
        let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(names.check(&twice).is_err());
        let unnamed = HostNames::of(&Http::default());
        assert!(unnamed.check(&headers(&[("host", "own.example")])).is_err());
    }

    #[test]
    fn what_another_site_loads_without_a_click_is_told_apart() {
        for (lines, expected) in [
            (&[("sec-fetch-site", "cross-site")][..], true),
            (
                &[("sec-fetch-site", "cross-site"), ("sec-fetch-user", "?1")],
                false,
            ),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[], false),
        ] {
            assert_eq!(is_for_another_site(&headers(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn forms_come_from_our_own_pages() {
        const HOST: (&str, &str) = ("host", "h:1");
        for (line, expected) in [
            (("sec-fetch-site", "same-origin"), Site::Own),
            (("sec-fetch-site", "same-site"), Site::Other),
            (("sec-fetch-site", "cross-site"), Site::Other),
            (("sec-fetch-site", "none"), Site::Other),
            (("origin", "http://h:1"), Site::Own),
            (("origin", "https://h:1"), Site::Own),
            (("origin", "http://h:2"), Site::Other),
            (("origin", "http://evil.example"), Site::Other),
            (("origin", "null"), Site::Other),
            (
                ("x", "a program, or a browser that says nothing"),
                Site::Unknown,
            ),
        ] {
            assert_eq!(site(&headers(&[HOST, line])), expected, "{line:?}");
        }
        let behind_a_proxy = [
            HOST,
            ("origin", "https://relay.example"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert_eq!(site(&headers(&behind_a_proxy)), Site::Own);
        let without_host = headers(&[("origin", "http://h:1")]);
        assert_eq!(site(&without_host), Site::Other);
    }
}
