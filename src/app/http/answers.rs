//! How answers look: kind, code, and what a browser may do with them.

use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::app::page::note;
use crate::postgres::Error;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// The page may use what comes from here, and nothing else; and nobody may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Pages with forms need no script.
const FORMS: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A text for programs and for curl.
pub(super) fn answer(code: StatusCode, kind: &'static str, text: String) -> Response {
    (
        code,
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")],
        text,
    )
        .into_response()
}

/// A part of the page that is always there.
pub(super) fn part(kind: &'static str, text: String) -> Response {
    guarded(POLICY, answer(StatusCode::OK, kind, text))
}

/// The page that goes on by itself.
pub(super) fn live(html: askama::Result<String>) -> Response {
    match html {
        Ok(html) => part(HTML, html),
        Err(_) => no_page(),
    }
}

/// A page with forms.
pub(super) fn page(code: StatusCode, html: askama::Result<String>) -> Response {
    match html {
        Ok(html) => guarded(FORMS, answer(code, HTML, html)),
        Err(_) => no_page(),
    }
}

/// Look there: after something was done, so that a page that is loaded again does nothing again.
pub(super) fn moved(to: &'static str) -> Response {
    (
        StatusCode::SEE_OTHER,
        [(LOCATION, to), (CACHE_CONTROL, "no-store")],
    )
        .into_response()
}

/// Why something was not done, or cannot be seen.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) code: StatusCode,
    pub(super) words: String,
}

impl Trouble {
    pub(super) fn new(code: StatusCode, words: impl Into<String>) -> Self {
        Self {
            code,
            words: words.into(),
        }
    }

    /// For whoever asked: programs bring their token along.
    pub(super) fn to(self, headers: &HeaderMap) -> Response {
        if headers.contains_key(AUTHORIZATION) {
            self.text()
        } else {
            self.page()
        }
    }

    pub(super) fn page(self) -> Response {
        self.demanding(page(self.code, note(&self.words)))
    }

    pub(super) fn text(self) -> Response {
        self.demanding(answer(self.code, TEXT, format!("{}\n", self.words)))
    }

    /// Some codes want a header beside them.
    fn demanding(&self, mut response: Response) -> Response {
        let (name, value) = match self.code {
            StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, "Bearer"),
            StatusCode::TOO_MANY_REQUESTS => (RETRY_AFTER, "60"),
            _ => return response,
        };
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        response
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Away { .. } | Error::Lost(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Refused { .. } => StatusCode::CONFLICT,
            Error::Statement { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

fn no_page() -> Response {
    answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "no page\n".into())
}

fn guarded(policy: &'static str, mut answer: Response) -> Response {
    let guards = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` a browser would not say either where a form comes from.
        (REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in guards {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}
