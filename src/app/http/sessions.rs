//! Who has given the token, and may change something. Sessions are in memory, few and short: a restart ends them all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// At the same time; the one that was used longest ago makes room.
const SESSIONS: usize = 64;
/// Without a question.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// In all.
pub(super) const LIFE: Duration = Duration::from_secs(8 * 3600);
/// Wrong tokens within the time, from whoever they come: behind a proxy all have one address.
const WRONG: usize = 10;
const WRONG_WITHIN: Duration = Duration::from_secs(60);

/// A fixed length whatever was given, so that comparing tells nothing of it.
type Hash = [u8; 32];

/// The token, and who has given it.
pub(super) struct Sessions {
    token: Option<Hash>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the hashes of what their cookies hold.
    open: HashMap<Hash, Session>,
    wrong: Vec<Instant>,
}

struct Session {
    /// What each form of the session has to bring along.
    form: String,
    since: Instant,
    used: Instant,
    /// What was done, to be said on the next page.
    said: Option<Said>,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::app) struct Said {
    pub(in crate::app) words: String,
    pub(in crate::app) is_bad: bool,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no token that would let anybody in.
    NoToken,
    /// It is not the token.
    Wrong,
    /// Too many were wrong: no token is looked at for a while.
    TooMany,
    /// The system gives no random numbers.
    NoChance,
}

impl Sessions {
    pub(super) fn new(token: Option<&SecretString>) -> Self {
        Self {
            token: token.map(|token| hash(token.expose_secret())),
            state: Mutex::default(),
        }
    }

    /// Whether anybody can be let in.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether it is the token.
    pub(super) fn check(&self, given: &str, now: Instant) -> Result<(), Refusal> {
        let token = self.token.as_ref().ok_or(Refusal::NoToken)?;
        let mut state = self.state();
        state
            .wrong
            .retain(|at| now.saturating_duration_since(*at) < WRONG_WITHIN);
        if state.wrong.len() >= WRONG {
            return Err(Refusal::TooMany);
        }
        if bool::from(token.ct_eq(&hash(given))) {
            return Ok(());
        }
        state.wrong.push(now);
        Err(Refusal::Wrong)
    }

    /// Opens a session for whoever has the token; what its cookie is to hold.
    pub(super) fn open(&self, given: &str, now: Instant) -> Result<String, Refusal> {
        self.check(given, now)?;
        let (cookie, form) = (random()?, random()?);
        let mut state = self.state();
        state.forget(now);
        if state.open.len() >= SESSIONS {
            let oldest = state.open.iter().min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                state.open.remove(&oldest);
            }
        }
        let session = Session {
            form,
            since: now,
            used: now,
            said: None,
        };
        state.open.insert(hash(&cookie), session);
        Ok(cookie)
    }

    /// What the forms of a session have to bring along; `None`: there is no such session, or its time is over.
    pub(super) fn form(&self, cookie: &str, now: Instant) -> Option<String> {
        let mut state = self.state();
        state.forget(now);
        let session = state.open.get_mut(&hash(cookie))?;
        session.used = now;
        Some(session.form.clone())
    }

    /// Whether a form is one of the session's own.
    pub(super) fn is_own(&self, cookie: &str, form: &str, now: Instant) -> bool {
        let own = self.form(cookie, now);
        own.is_some_and(|own| hash(&own).ct_eq(&hash(form)).into())
    }

    /// Keeps what was done for the session's next page.
    pub(super) fn say(&self, cookie: &str, said: Said) {
        if let Some(session) = self.state().open.get_mut(&hash(cookie)) {
            session.said = Some(said);
        }
    }

    /// Takes what was done.
    pub(super) fn said(&self, cookie: &str) -> Option<Said> {
        self.state().open.get_mut(&hash(cookie))?.said.take()
    }

    /// Ends a session.
    pub(super) fn close(&self, cookie: &str) {
        self.state().open.remove(&hash(cookie));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, now: Instant) {
        let ago = |then: Instant| now.saturating_duration_since(then);
        self.open
            .retain(|_, session| ago(session.used) < IDLE && ago(session.since) < LIFE);
    }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

/// 256 bits as hexadecimal digits.
fn random() -> Result<String, Refusal> {
    let mut bytes = Hash::default();
    getrandom::fill(&mut bytes).map_err(|_| Refusal::NoChance)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct horse battery";

    fn sessions() -> Sessions {
        Sessions::new(Some(&TOKEN.into()))
    }

    #[test]
    fn the_token_opens_sessions_that_are_all_different() {
        let (sessions, now) = (sessions(), Instant::now());
        let one = sessions.open(TOKEN, now).expect("it is the token");
        let other = sessions.open(TOKEN, now).expect("it is the token");
        let form = sessions.form(&one, now).expect("it is open");
        assert_ne!(one, other);
        assert_ne!(form, one);
        assert!(sessions.is_own(&one, &form, now));
        assert!(!sessions.is_own(&other, &form, now));
        assert!(!sessions.is_own(&one, "", now));
        assert_eq!(sessions.form(TOKEN, now), None);
        sessions.close(&one);
        assert_eq!(sessions.form(&one, now), None);
        assert!(sessions.form(&other, now).is_some());
    }

    #[test]
    fn without_a_token_nobody_is_let_in() {
        let sessions = Sessions::new(None);
        assert_eq!(sessions.open("", Instant::now()), Err(Refusal::NoToken));
        assert!(!sessions.has_token());
    }

    #[test]
    fn after_ten_wrong_tokens_none_is_looked_at_for_a_minute() {
        let (sessions, now) = (sessions(), Instant::now());
        let open = sessions.open(TOKEN, now).expect("it is the token");
        for _ in 0..WRONG {
            let almost = &TOKEN[1..];
            assert_eq!(sessions.check(almost, now), Err(Refusal::Wrong));
        }
        let later = now + WRONG_WITHIN - Duration::from_millis(1);
        assert_eq!(sessions.check(TOKEN, later), Err(Refusal::TooMany));
        assert!(sessions.form(&open, later).is_some(), "who is in stays in");
        assert_eq!(sessions.check(TOKEN, now + WRONG_WITHIN), Ok(()));
    }

    #[test]
    fn sessions_end_when_nobody_uses_them_and_after_a_day_of_work() {
        let (sessions, begun) = (sessions(), Instant::now());
        let used = sessions.open(TOKEN, begun).expect("it is the token");
        let unused = sessions.open(TOKEN, begun).expect("it is the token");
        let mut now = begun;
        while now + IDLE / 2 < begun + LIFE {
            now += IDLE / 2;
            assert!(sessions.form(&used, now).is_some());
        }
        assert_eq!(sessions.form(&unused, begun + IDLE), None);
        assert_eq!(sessions.form(&used, begun + LIFE), None);
    }

    #[test]
    fn there_are_only_so_many_and_the_one_unused_for_longest_makes_room() {
        let (sessions, begun) = (sessions(), Instant::now());
        let at = |seconds: usize| begun + Duration::from_secs(seconds as u64);
        let all: Vec<_> = (0..SESSIONS)
            .map(|n| sessions.open(TOKEN, at(n)).expect("it is the token"))
            .collect();
        assert!(sessions.form(&all[0], at(SESSIONS)).is_some());
        let new = sessions
            .open(TOKEN, at(SESSIONS + 1))
            .expect("there is room");
        let is_open = |cookie| sessions.form(cookie, at(SESSIONS + 2)).is_some();
        assert!(is_open(&new) && is_open(&all[0]) && !is_open(&all[1]));
    }

    #[test]
    fn what_was_done_is_said_once() {
        let (sessions, now) = (sessions(), Instant::now());
        let cookie = sessions.open(TOKEN, now).expect("it is the token");
        let said = Said {
            words: "1 retried".into(),
            is_bad: false,
        };
        sessions.say(&cookie, said.clone());
        assert_eq!(sessions.said(&cookie), Some(said));
        assert_eq!(sessions.said(&cookie), None);
    }
}
