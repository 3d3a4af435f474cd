//! The HTTP port of `doorbell run`: pages, metrics and health.
//!
//! | file | what |
//! |---|---|
//! | `port` | binds, serves, stops |
//! | `server` | connections, bounded in number, size and time |
//! | `routes` | paths and their handlers |
//! | `state` | state that all handlers share |
//! | `responses` | kinds of responses, and what a browser may do with them |
//! | `same_origin` | refuses requests for other hosts and forms of other sites |
//! | `auth` | HTTP Basic and Bearer authentication |
//! | `db_gate` | bounds queries of the database |
//! | `form` | fields of queries and forms |
//! | `health` | health of each outbox |
//! | `probe` | asks the port of a relay that runs on this host |
//! | `metrics` | name, help text and source of each metric |
//! | `exposition` | text of `/metrics` |
//! | `ui` | pages |

mod auth;
mod db_gate;
mod exposition;
mod form;
mod health;
mod metrics;
mod port;
mod probe;
mod responses;
mod routes;
mod same_origin;
mod server;
mod state;
mod ui;

pub use metrics::{PROCESS, REGISTRY};
pub(crate) use port::bind;
pub(crate) use probe::Probe;
