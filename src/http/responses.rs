//! Responses: content type, status code, and what a browser may do with them.

use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::ui::note;
use crate::postgres::Error;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// A page may use what comes from this port, and nothing else. No site may frame it.
const LIVE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Pages with forms need no script.
const FORM_POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(super) fn text(code: StatusCode, kind: &'static str, text: String) -> Response {
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")];
    (code, headers, text).into_response()
}

/// Responds with a style sheet or a script of a page.
pub(super) fn asset(kind: &'static str, content: String) -> Response {
    with_policy(LIVE_POLICY, text(StatusCode::OK, kind, content))
}

/// Responds with the page that updates itself.
pub(super) fn live_page(html: askama::Result<String>) -> Response {
    match html {
        Ok(html) => asset(HTML, html),
        Err(_) => not_rendered(),
    }
}

/// Responds with a page that may have forms.
pub(super) fn page(code: StatusCode, html: askama::Result<String>) -> Response {
    match html {
        Ok(html) => with_policy(FORM_POLICY, text(code, HTML, html)),
        Err(_) => not_rendered(),
    }
}

/// Redirects after a change, so that reloading the page does not repeat the change.
pub(super) fn see_other(to: &str) -> Response {
    let headers = [(LOCATION, to), (CACHE_CONTROL, "no-store")];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// Status code and message of a request that failed.
#[derive(Debug)]
pub(super) struct HttpError {
    pub(super) code: StatusCode,
    pub(super) message: String,
}

impl HttpError {
    /// The request names an outbox that this relay does not have.
    pub(super) fn no_outbox(known: impl Iterator<Item = String>) -> Self {
        let known = known.collect::<Vec<_>>().join(", ");
        let message = format!("this relay has no outbox of that name; it has {known}");
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Responds with text to a program, which authenticates with a token, and with a page to a
    /// browser.
    pub(super) fn response_to(self, headers: &HeaderMap) -> Response {
        let scheme = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let is_basic = |it: &[u8]| it.len() > 5 && it[..5].eq_ignore_ascii_case(b"basic");
        if scheme.is_some_and(|it| !is_basic(it)) {
            self.text()
        } else {
            self.page()
        }
    }

    pub(super) fn page(self) -> Response {
        self.with_headers(page(self.code, note(&self.message)))
    }

    pub(super) fn text(self) -> Response {
        self.with_headers(text(self.code, TEXT, format!("{}\n", self.message)))
    }

    /// Adds the header that some codes require.
    fn with_headers(&self, mut response: Response) -> Response {
        let (name, value) = match self.code {
            StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, "Basic realm=\"doorbell\""),
            StatusCode::TOO_MANY_REQUESTS => (RETRY_AFTER, "60"),
            _ => return response,
        };
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        response
    }
}

impl From<(StatusCode, &str)> for HttpError {
    fn from((code, message): (StatusCode, &str)) -> Self {
        Self::new(code, message)
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Unreachable { .. } | Error::Lost(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Refused { .. } => StatusCode::CONFLICT,
            Error::Statement { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

fn not_rendered() -> Response {
    let message = "the page could not be rendered\n".into();
    text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, message)
}

fn with_policy(policy: &'static str, mut response: Response) -> Response {
    let headers = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer`, a browser sends no Origin with a form either.
        (REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
