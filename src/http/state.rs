//! State that all handlers share.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::auth::Auth;
use super::db_gate::DbGate;
use super::exposition::CommonLabels;
use super::health::{OutboxHealth, assess};
use super::same_origin::HostNames;
use super::ui::overview::Feed;
use super::ui::{About, Here, Page};
use crate::config::Settings;
use crate::relay::Monitor;

/// Requests of pages that ask the database at the same time.
const PAGES: usize = 2;
/// Questions that are open or wait for a delivery: a quarter of the connections.
const WAITERS: usize = 16;

pub(super) struct AppState {
    monitors: Vec<Arc<Monitor>>,
    stuck_after: Duration,
    /// When the relay's threads were last alive.
    pub(super) beat: Arc<Mutex<Instant>>,
    pub(super) labels: CommonLabels,
    pub(super) show_payloads: bool,
    pub(super) feed: Feed,
    pub(super) db: DbGate,
    pub(super) events_db: DbGate,
    pub(super) waiters: Semaphore,
    pub(super) auth: Auth,
    pub(super) names: HostNames,
    about: Arc<About>,
}

impl AppState {
    pub(super) fn new(settings: &Settings, monitors: Vec<Arc<Monitor>>, feed: Feed) -> Arc<Self> {
        Arc::new(Self {
            monitors,
            stuck_after: settings.http.stuck_after,
            beat: Arc::new(Mutex::new(Instant::now())),
            labels: CommonLabels::of(settings),
            show_payloads: settings.http.show_payloads,
            feed,
            db: DbGate::new(settings, PAGES),
            events_db: DbGate::new(settings, WAITERS),
            waiters: Semaphore::new(WAITERS),
            auth: Auth::new(settings.http.token.as_ref()),
            names: HostNames::of(&settings.http),
            about: Arc::new(About::of(&settings.database.url)),
        })
    }

    /// Returns whether one of the relays in this process remembers to have sent an event.
    pub(super) fn was_sent(&self, event: Uuid) -> bool {
        self.monitors.iter().any(|it| it.sent.has_event(event))
    }

    /// Returns the monitor of an outbox, by its number.
    pub(super) fn monitor(&self, outbox: usize) -> &Monitor {
        &self.monitors[outbox]
    }

    pub(super) fn health(&self) -> Vec<OutboxHealth> {
        assess(&self.monitors, self.stuck_after)
    }

    /// Returns the frame of a page for the client that requests it.
    pub(super) fn page(&self, here: Here, headers: &HeaderMap) -> Page {
        Page {
            about: Some(Arc::clone(&self.about)),
            here,
            login: self.auth.login(headers),
        }
    }
}
