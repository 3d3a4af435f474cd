//! What all pages have: the top, with navigation, identity of the relay, and log-in.

use std::sync::Arc;

use crate::config::DatabaseUrl;

/// Which relay this is.
pub(crate) struct About {
    pub(crate) version: &'static str,
    /// Name of the machine.
    pub(crate) host: String,
    /// Server and database, without secrets.
    pub(crate) database: String,
}

impl About {
    pub(crate) fn of(database: &DatabaseUrl) -> Self {
        let host = rustix::system::uname();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            host: host.nodename().to_string_lossy().into_owned(),
            database: database.shown(),
        }
    }
}

/// The entry of the navigation that a page belongs to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Here {
    Overview,
    Dead,
    Relays,
    Pause,
    Runbook,
    Elsewhere,
}

/// Whether the client may change something.
#[derive(Clone, PartialEq)]
pub(crate) enum Login {
    /// No token is configured.
    Off,
    Out,
    /// Logged in under this name, which is not checked.
    In(String),
}

/// The frame of one page.
pub(crate) struct Page {
    pub(crate) about: Option<Arc<About>>,
    pub(crate) here: Here,
    pub(crate) login: Login,
}

impl Page {
    /// The frame of an answer that knows nothing of the relay.
    pub(crate) fn bare() -> Self {
        Self {
            about: None,
            here: Here::Elsewhere,
            login: Login::Off,
        }
    }

    /// Names, addresses and titles of the pages.
    pub(crate) fn links(&self) -> [(&'static str, &'static str, bool); 5] {
        [
            ("/", "Overview", Here::Overview),
            ("/dead", "Dead letters", Here::Dead),
            ("/relays", "Relays", Here::Relays),
            ("/pause", "Pause", Here::Pause),
            ("/runbook", "Runbook", Here::Runbook),
        ]
        .map(|(address, name, here)| (address, name, here == self.here))
    }

    pub(crate) fn is_logged_out(&self) -> bool {
        self.login == Login::Out
    }

    pub(crate) fn standing(&self) -> String {
        match &self.login {
            Login::Off => "read-only: no token is configured".into(),
            Login::In(name) if !name.is_empty() => format!("logged in as {name}"),
            _ => "logged in".into(),
        }
    }

    /// Whether there are buttons that change something.
    pub(crate) fn allows_changes(&self) -> bool {
        self.login != Login::Off
    }
}
