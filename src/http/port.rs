//! The port: bound before the relay connects, served until it ends.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing::{debug, info, warn};

use super::routes;
use super::server::HttpServer;
use super::state::AppState;
use super::ui::overview::Feed;
use crate::config::{Http, Listen, Settings, defaults};
use crate::relay::Monitor;
use crate::sync::lock;

/// Result of binding, before anything else is opened.
pub(crate) enum Port {
    /// Switched off in the configuration.
    Off,
    Open(TcpListener),
    /// The default address, which is not configured, is in use.
    Taken(std::io::Error),
}

/// Binds the port.
///
/// # Errors
/// The configured address cannot be bound. A default address that is in use is no error: several
/// relays on one machine are usual.
pub(crate) fn bind(http: &Http) -> Result<Port, String> {
    let (address, is_configured) = match &http.listen {
        Listen::Off => return Ok(Port::Off),
        Listen::Default => (defaults::LISTEN, false),
        Listen::At(address) => (address.as_str(), true),
    };
    match TcpListener::bind(address) {
        Ok(listener) => Ok(Port::Open(listener)),
        Err(error) if is_configured => Err(format!(
            "cannot bind the HTTP listener to {address}: {error}; set --listen, DOORBELL_LISTEN or [http] listen to another address, or to off"
        )),
        Err(error) => Ok(Port::Taken(error)),
    }
}

pub(crate) struct Serving {
    server: Option<(HttpServer, Arc<Mutex<Instant>>)>,
    taken: Option<std::io::Error>,
}

impl Port {
    /// Starts the server.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn serve(
        self,
        settings: &Settings,
        monitors: Vec<Arc<Monitor>>,
    ) -> std::io::Result<Serving> {
        let (mut server, mut taken) = (None, None);
        match self {
            Self::Off => {}
            Self::Taken(error) => taken = Some(error),
            Self::Open(listener) => {
                let (feed, senders) = Feed::new(monitors.len());
                let state = AppState::new(settings, monitors, feed);
                let router = routes::router(Arc::clone(&state));
                let beat = Arc::clone(&state.beat);
                let started = HttpServer::start(listener, router, |stop| async move {
                    let health = || {
                        state.db.close_unused();
                        state.events_db.close_unused();
                        state.health()
                    };
                    state.feed.run(senders, health, stop).await;
                })?;
                debug!("the HTTP port is bound: {}", started.address());
                server = Some((started, beat));
            }
        }
        Ok(Serving { server, taken })
    }
}

impl Serving {
    /// Logs the address. Called once the relay has started: if it fails at its start, its error is
    /// the only line.
    pub(crate) fn log_address(&self) {
        if let Some((server, _)) = &self.server {
            let address = server.address();
            info!("serving HTTP at http://{address}: / /metrics /healthz /readyz /status.json");
        }
        if let Some(error) = &self.taken {
            let address = defaults::LISTEN;
            warn!(
                %error,
                "cannot bind the HTTP listener to the default {address}: no page, metrics or health; set --listen to another address, or to off"
            );
        }
    }

    /// Tells `/healthz` that the relay's threads, which are not those of the port, are alive.
    pub(crate) fn beat(&self) {
        if let Some((_, beat)) = &self.server {
            *lock(beat) = Instant::now();
        }
    }

    /// Stops the server; responses under way are finished first.
    pub(crate) fn stop(self) {
        if let Some((server, _)) = self.server {
            server.stop();
        }
    }
}
