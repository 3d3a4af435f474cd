//! Doorbell relays the rows of a PostgreSQL `outbox` table to Kafka: it is notified at the commit,
//! keeps the order per key, and deletes rows once Kafka has acknowledged them.
//!
//! ```text
//!   cli, http  →  relay  →  { postgres, kafka }  →  event, config
//! ```
//!
//! Arrows point to what a module may use. A program that embeds the relay needs [`Settings`] and
//! [`Relay`]; the binary adds signals, the environment and exit codes.

mod cli;
mod config;
mod describe;
mod event;
mod http;
mod kafka;
mod numbers;
mod otel;
mod postgres;
mod relay;
mod sync;
mod tls;

#[doc(hidden)]
pub use cli::main;
pub use config::{
    Columns, ConfigError, ConfigErrors, Database, DatabaseUrl, Delivery, Http, Kafka, Listen,
    Origin, Outbox, Poison, Profile, RecordTime, Route, RouteRule, Settings, TableName, Telemetry,
    TopicPatterns, Transactions, Variables,
};
pub use event::{Event, RowId};
pub use postgres::inspect::OldSnapshot;
pub use relay::{
    Backlog, Bell, BellState, Change, ChangeKind, Delayed, InFlight, KafkaState, Monitor, Observer,
    Problem, ProblemKind, Relay, RelayError, Role, Rows, Snapshot, Stages, Step, Timing,
};

/// What the benchmark shares with the relay, so that both reach the same servers in the same way.
#[doc(hidden)]
pub mod bench_support {
    pub use crate::cli::{
        Failure, GlobalFlags, INTERRUPTED, end, leave, load_settings, obey_no_color, usage_error,
    };
    pub use crate::event::OutboxId;
    pub use crate::kafka::{Admin, ConnectError, TopicConsumer, metadata, open, reading};
    pub use crate::postgres::Server;
}

/// What the tests of single statements and of the documentation call.
#[doc(hidden)]
pub mod test_support {
    pub use crate::http::{PROCESS, REGISTRY};
    pub use crate::postgres::{Batch, FetchRequest, Reader, Server, Session, Table};
}
