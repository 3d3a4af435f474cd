//! The HTTP port of `doorbell run`: metrics, health, and what a page is made of.
//!
//! | file | what |
//! |---|---|
//! | `server` | connections, each bounded in size and time, and bounded in number |
//! | `routes` | what is answered where |
//! | `answers` | kinds of answers, and what a browser may do with them |
//! | `guard` | whose questions are heard |
//! | `sessions` | who has given the token |
//! | `caller` | who wants to change something, and may |
//! | `dead` | dead letters |
//! | `relays` | who leads, and who stands by |
//! | `desk` | the database, asked few at a time |
//! | `fields` | what questions and forms say |
//! | `judged` | whether each relay is well |
//! | `metrics` | what each metric is, and where it comes from |
//! | `exposition` | the text of `/metrics` |

mod answers;
mod caller;
mod dead;
mod desk;
mod exposition;
mod fields;
mod guard;
mod judged;
mod metrics;
mod relays;
mod routes;
mod server;
mod sessions;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use self::desk::Desk;
use self::guard::Names;
use self::server::Server;
use self::sessions::Sessions;
use super::failure::Failure;
use super::page::Page;
use crate::config::{Http, Listen, Settings, defaults};
use crate::relay::Vitals;

pub(super) use judged::Judged;
pub use metrics::{Metric, REGISTRY};
pub(super) use sessions::Said;

/// What was found at the port before anything else was opened.
pub(super) enum Port {
    /// Nobody is to be answered.
    Off,
    /// It is ours.
    Open(TcpListener),
    /// The default one is not to be had, and nobody asked for it.
    Taken(std::io::Error),
}

/// What the answers are made from.
struct Source {
    vitals: Vec<Arc<Vitals>>,
    stuck_after: Duration,
    show_payloads: bool,
    page: Page,
    desk: Desk,
    sessions: Sessions,
    /// The name of their cookies: with the port, since a browser gives those of a machine to all of its ports.
    cookie: String,
    names: Names,
}

impl Source {
    fn new(
        settings: &Settings,
        address: SocketAddr,
        vitals: Vec<Arc<Vitals>>,
        page: Page,
    ) -> Arc<Self> {
        Arc::new(Self {
            vitals,
            stuck_after: settings.http.stuck_after,
            show_payloads: settings.http.show_payloads,
            page,
            desk: Desk::new(settings),
            sessions: Sessions::new(settings.http.token.as_ref()),
            cookie: format!("doorbell_{}", address.port()),
            names: Names::of(&settings.http.listen, address),
        })
    }
}

/// Takes the port.
///
/// # Errors
/// The address that was asked for cannot be had. The one that is the default, and that nobody asked for, is left to whoever has it: several relays on one
/// machine are usual.
pub(super) fn bind(http: &Http) -> Result<Port, Failure> {
    let (address, asked_for) = match &http.listen {
        Listen::Off => return Ok(Port::Off),
        Listen::Default => (defaults::LISTEN, false),
        Listen::At(address) => (address.as_str(), true),
    };
    match TcpListener::bind(address) {
        Ok(listener) => Ok(Port::Open(listener)),
        Err(error) if asked_for => Err(Failure::Usage(format!(
            "the HTTP address {address} cannot be listened at: {error}; set --listen, DOORBELL_LISTEN or [http] listen to another one, or to off"
        ))),
        Err(error) => Ok(Port::Taken(error)),
    }
}

/// The port at work, or why it is not.
pub(super) struct Answering {
    server: Option<Server>,
    taken: Option<std::io::Error>,
}

impl Port {
    /// Begins to answer.
    ///
    /// # Errors
    /// The machine has no thread left.
    pub(super) fn serve(
        self,
        settings: &Settings,
        vitals: Vec<Arc<Vitals>>,
    ) -> std::io::Result<Answering> {
        let (mut server, mut taken) = (None, None);
        match self {
            Self::Off => {}
            Self::Taken(error) => taken = Some(error),
            Self::Open(listener) => {
                let (page, sender) = Page::new();
                let source = Source::new(settings, listener.local_addr()?, vitals, page);
                let router = routes::router(Arc::clone(&source));
                let started = Server::start(listener, router, |stop| async move {
                    source.page.live(sender, || source.judged(), stop).await;
                })?;
                debug!("the HTTP port is open: {}", started.address());
                server = Some(started);
            }
        }
        Ok(Answering { server, taken })
    }
}

impl Answering {
    /// Says where. Not before the relay has begun: what ends it at its start is the one line to read.
    pub(super) fn tell(&self) {
        if let Some(server) = &self.server {
            let address = server.address();
            info!("answering at http://{address}: / /metrics /healthz /readyz /status.json");
        }
        if let Some(error) = &self.taken {
            let address = defaults::LISTEN;
            warn!(
                %error,
                "nobody is answered at {address}: no page, no metrics and no health; set --listen to another address, or to off"
            );
        }
    }

    /// Ends it; answers under way are given first.
    pub(super) fn stop(self) {
        if let Some(server) = self.server {
            server.stop();
        }
    }
}
