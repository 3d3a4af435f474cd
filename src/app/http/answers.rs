//! How answers look: kind, code, and what a browser may do with them.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

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
