//! The relay's surroundings: servers, certificates, proxies and networks.

mod cable;
mod certificates;
mod collector;
mod guarded;
mod proxy;
mod services;

pub(crate) use cable::Cable;
pub(crate) use certificates::{Authority, Identity};
pub(crate) use collector::{Collector, Span};
pub(crate) use guarded::{Guarded, On, Right};
pub(crate) use proxy::Proxy;
pub(crate) use services::{Instance, Services, fetch, not_here};
