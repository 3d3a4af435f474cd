//! Who wants to change something: a browser that has given the token and comes from our own page, or a program that brings it along.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use super::Source;
use super::answers::{Trouble, moved};
use super::fields::Fields;
use super::guard::{cookie, is_from_here};
use super::sessions::{LIFE, Refusal, Said};
use crate::app::page::Access;

/// Somebody who may.
#[derive(Clone)]
pub(super) enum Caller {
    /// Its session.
    Browser {
        cookie: String,
        /// What its forms bring along.
        form: String,
    },
    /// It had the token in its question.
    Program,
}

impl Source {
    /// Who asks, if it is somebody who may.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Trouble> {
        if !self.sessions.has_token() {
            return Err(Refusal::NoToken.into());
        }
        if let Some(said) = headers.get(AUTHORIZATION) {
            let said = said.to_str().unwrap_or_default();
            let token = said.split_once(' ').map_or("", |(scheme, token)| {
                if scheme.eq_ignore_ascii_case("bearer") {
                    token.trim()
                } else {
                    ""
                }
            });
            self.sessions.check(token, Instant::now())?;
            return Ok(Caller::Program);
        }
        let session = self.session(headers);
        session.map(|(cookie, form)| Caller::Browser { cookie, form }).ok_or_else(|| {
            Trouble::new(
                StatusCode::UNAUTHORIZED,
                "the token was not given, or too long ago: give it below the list, and do it again; programs bring it along as Authorization: Bearer",
            )
        })
    }

    /// A form of another site would bring no word of the session's own, and say where it comes from.
    pub(super) fn is_meant(
        &self,
        headers: &HeaderMap,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<(), Trouble> {
        let Caller::Browser { cookie, .. } = caller else {
            return Ok(());
        };
        from_here(headers)?;
        let form = fields.one("form").unwrap_or_default();
        if self.sessions.is_own(cookie, form, Instant::now()) {
            return Ok(());
        }
        Err(Trouble::new(
            StatusCode::FORBIDDEN,
            "this form is not of your session: load the list anew and do it there",
        ))
    }

    /// What the page offers whoever looks at it, and what is to be said to it.
    pub(super) fn access(&self, headers: &HeaderMap) -> (Access, Option<Said>) {
        if !self.sessions.has_token() {
            return (Access::ReadOnly, None);
        }
        match self.session(headers) {
            None => (Access::Closed, None),
            Some((cookie, form)) => (Access::Open { form }, self.sessions.said(&cookie)),
        }
    }

    fn session(&self, headers: &HeaderMap) -> Option<(String, String)> {
        let cookie = cookie(headers, &self.cookie)?;
        let form = self.sessions.form(cookie, Instant::now())?;
        Some((cookie.to_owned(), form))
    }

    /// `life`: seconds.
    fn bake(&self, value: &str, life: u64) -> Option<HeaderValue> {
        let name = &self.cookie;
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life}");
        HeaderValue::from_str(&text).ok()
    }
}

/// Takes the token once, for a session.
pub(super) async fn enter(
    State(source): State<Arc<Source>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let opened = async {
        from_here(&headers)?;
        let fields = Fields::read(body).await?;
        let token = fields.one("token").unwrap_or_default();
        Ok::<_, Trouble>(source.sessions.open(token, Instant::now())?)
    };
    match opened.await {
        Ok(cookie) => baked(moved("/dead"), source.bake(&cookie, LIFE.as_secs())),
        Err(trouble) => trouble.page(),
    }
}

/// Ends the session.
pub(super) async fn leave(
    State(source): State<Arc<Source>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let left = async {
        let caller = source.caller(&headers)?;
        let fields = Fields::read(body).await?;
        source.is_meant(&headers, &caller, &fields)?;
        if let Caller::Browser { cookie, .. } = caller {
            source.sessions.close(&cookie);
        }
        Ok::<_, Trouble>(())
    };
    match left.await {
        Ok(()) => baked(moved("/dead"), source.bake("", 0)),
        Err(trouble) => trouble.to(&headers),
    }
}

fn baked(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn from_here(headers: &HeaderMap) -> Result<(), Trouble> {
    if is_from_here(headers) {
        return Ok(());
    }
    Err(Trouble::new(
        StatusCode::FORBIDDEN,
        "this form comes from another site",
    ))
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let (code, words) = match refusal {
            Refusal::NoToken => (
                StatusCode::FORBIDDEN,
                "nothing can be changed here: set `token_file` in [http], or DOORBELL_HTTP_TOKEN_FILE, to a file with a token of at least 16 characters; \
                 `doorbell dead` needs none",
            ),
            Refusal::Wrong => (StatusCode::UNAUTHORIZED, "that is not the token"),
            Refusal::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many wrong tokens were given: wait for a minute, or use `doorbell dead`",
            ),
            Refusal::NoChance => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the system gives no random numbers",
            ),
        };
        Self::new(code, words)
    }
}
