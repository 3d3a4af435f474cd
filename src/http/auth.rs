//! Authenticates requests that change something: HTTP Basic for people, Bearer for programs.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::responses::HttpError;
use super::same_origin::{Site, site};
use super::ui::Login;
use crate::sync::lock;

/// Wrong tokens within [`WRONG_WITHIN`], whatever their addresses: behind a proxy all clients have
/// one.
const MAX_WRONG: usize = 10;
const WRONG_WITHIN: Duration = Duration::from_secs(60);

/// Hash of a token. Its length is fixed, so that a comparison reveals nothing about the token.
type Hash = [u8; 32];

/// The configured token, and when which wrong ones were sent.
pub(super) struct Auth {
    token: Option<Hash>,
    wrong: Mutex<Vec<(Instant, Hash)>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Authenticated with HTTP Basic under this name, from a page of this relay.
    Browser(String),
    Program,
}

impl Client {
    /// Returns who acts, in one line. Nothing checks the name.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Browser(name) if !name.is_empty() => name.replace(char::is_control, " "),
            Self::Browser(_) | Self::Program => "a client of the HTTP port".into(),
        }
    }
}

/// Status code and message for a token that is not accepted.
type Refusal = (StatusCode, &'static str);

const NO_TOKEN: Refusal = (
    StatusCode::FORBIDDEN,
    "changes over HTTP are off: set `token_file` in [http], or DOORBELL_HTTP_TOKEN_FILE, to a file with a token of at least 16 characters; \
     `doorbell dead` and `doorbell pause` need none",
);
const REQUIRED: Refusal = (
    StatusCode::UNAUTHORIZED,
    "a token is required: log in with your name and the token as the password; programs send `Authorization: Bearer`",
);
const WRONG: Refusal = (
    StatusCode::UNAUTHORIZED,
    "wrong token: send the one that is configured in [http]",
);
const THROTTLED: Refusal = (
    StatusCode::TOO_MANY_REQUESTS,
    "too many wrong tokens: wait for a minute, or use the command line",
);

#[derive(Debug, PartialEq, Eq)]
enum Credentials {
    None,
    /// User name, which is not checked, and password of HTTP Basic.
    Basic(String, String),
    /// Bearer token; empty for another scheme, and for a header that cannot be read.
    Bearer(String),
}

impl Auth {
    pub(super) fn new(token: Option<&SecretString>) -> Self {
        Self {
            token: token.map(|token| hash(token.expose_secret())),
            wrong: Mutex::default(),
        }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Authenticates the client of a request that changes something.
    ///
    /// Browsers send Basic credentials along with a form of any site, so those count only if the
    /// browser says that the form is one of this relay. No site can have a browser send a Bearer
    /// token.
    pub(super) fn client(&self, headers: &HeaderMap) -> Result<Client, HttpError> {
        if !self.has_token() {
            return Err(NO_TOKEN.into());
        }
        let credentials = credentials(headers);
        if let Credentials::Bearer(token) = &credentials {
            self.check(token, Instant::now())?;
            return Ok(Client::Program);
        }
        let site = site(headers);
        if site == Site::Other {
            return Err((StatusCode::FORBIDDEN, "this form comes from another site").into());
        }
        match credentials {
            Credentials::Basic(..) if site == Site::Unknown => Err((
                StatusCode::FORBIDDEN,
                "this request has neither Sec-Fetch-Site nor Origin, which browsers send with a form; programs must send the token as `Authorization: Bearer`",
            )
                .into()),
            Credentials::Basic(name, token) => {
                self.check(&token, Instant::now())?;
                Ok(Client::Browser(name))
            }
            Credentials::None | Credentials::Bearer(_) => Err(REQUIRED.into()),
        }
    }

    /// Returns whether the client of a page has logged in. It sends its token with each page, so
    /// one that is wrong counts once.
    pub(super) fn login(&self, headers: &HeaderMap) -> Login {
        let Credentials::Basic(name, token) = credentials(headers) else {
            return if self.has_token() {
                Login::Out
            } else {
                Login::Off
            };
        };
        let hashed = hash(&token);
        let is_known = lock(&self.wrong).iter().any(|(_, wrong)| *wrong == hashed);
        match self.token {
            None => Login::Off,
            Some(_) if !is_known && self.check(&token, Instant::now()).is_ok() => Login::In(name),
            Some(_) => Login::Out,
        }
    }

    /// Whether a browser has to ask its user for a token before a change: `Ok` if the token that
    /// it sends is right.
    pub(super) fn log_in(&self, headers: &HeaderMap) -> Result<(), HttpError> {
        match (self.has_token(), credentials(headers)) {
            (false, _) => Err(NO_TOKEN.into()),
            (true, Credentials::Basic(_, token)) => Ok(self.check(&token, Instant::now())?),
            (true, _) => Err(REQUIRED.into()),
        }
    }

    fn check(&self, given: &str, now: Instant) -> Result<(), Refusal> {
        let token = self.token.as_ref().ok_or(NO_TOKEN)?;
        let mut wrong = lock(&self.wrong);
        wrong.retain(|(at, _)| now.saturating_duration_since(*at) < WRONG_WITHIN);
        if wrong.len() >= MAX_WRONG {
            return Err(THROTTLED);
        }
        let given = hash(given);
        if bool::from(token.ct_eq(&given)) {
            return Ok(());
        }
        wrong.push((now, given));
        Err(WRONG)
    }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

fn credentials(headers: &HeaderMap) -> Credentials {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Credentials::None;
    };
    let text = value.to_str().unwrap_or_default();
    let (scheme, value) = text.split_once(' ').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("basic")
        && let Ok(bytes) = BASE64_STANDARD.decode(value.trim())
        && let Ok(pair) = String::from_utf8(bytes)
        && let Some((name, password)) = pair.split_once(':')
    {
        return Credentials::Basic(name.to_owned(), password.to_owned());
    }
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    let token = if is_bearer { value.trim() } else { "" };
    Credentials::Bearer(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct horse: battery";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (
                name.parse().expect("a name"),
                value.parse().expect("a value"),
            )
        };
        lines.iter().map(line).collect()
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    fn code(auth: &Auth, lines: &[(&'static str, &str)]) -> Result<Client, u16> {
        auth.client(&headers(lines))
            .map_err(|error| error.code.as_u16())
    }

    #[test]
    fn people_and_programs_are_told_apart_and_a_form_of_another_site_is_refused() {
        let auth = Auth::new(Some(&TOKEN.into()));
        let own = ("sec-fetch-site", "same-origin");
        let people = basic(&format!("anyone:{TOKEN}"));
        let people = ("authorization", people.as_str());
        let program = format!("bearer {TOKEN}");
        let program = ("authorization", program.as_str());
        let other = ("sec-fetch-site", "cross-site");
        for (lines, expected) in [
            (&[people, own][..], Ok(Client::Browser("anyone".into()))),
            (&[program], Ok(Client::Program)),
            (&[people], Err(403)),
            (&[people, other], Err(403)),
            (&[other], Err(403)),
            (&[own], Err(401)),
            (&[], Err(401)),
            (&[("authorization", "Basic ==="), own], Err(401)),
            (&[("authorization", &basic(TOKEN)), own], Err(401)),
            (&[("authorization", &basic("no colon")), own], Err(401)),
            (&[("authorization", TOKEN), own], Err(401)),
        ] {
            assert_eq!(code(&auth, lines), expected, "{lines:?}");
        }
        let none = Auth::new(None);
        assert_eq!(code(&none, &[("authorization", "Bearer "), own]), Err(403));
        assert!(!none.has_token());
    }

    #[test]
    fn after_ten_wrong_tokens_none_is_checked_for_a_minute() {
        let (auth, now) = (Auth::new(Some(&TOKEN.into())), Instant::now());
        for _ in 0..MAX_WRONG {
            assert_eq!(auth.check(&TOKEN[1..], now), Err(WRONG));
        }
        let later = now + WRONG_WITHIN - Duration::from_millis(1);
        assert_eq!(auth.check(TOKEN, later), Err(THROTTLED));
        assert_eq!(auth.check(TOKEN, now + WRONG_WITHIN), Ok(()));
    }

    #[test]
    fn a_wrong_token_that_comes_with_each_page_counts_once() {
        let auth = Auth::new(Some(&TOKEN.into()));
        let login = |pair: &str| auth.login(&headers(&[("authorization", &basic(pair))]));
        for _ in 0..=MAX_WRONG {
            assert!(login("ann:wrong") == Login::Out);
        }
        assert!(login(&format!("ann:{TOKEN}")) == Login::In("ann".into()));
        assert!(Auth::new(None).login(&headers(&[])) == Login::Off);
    }
}
