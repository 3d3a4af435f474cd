//! Doorbell carries the rows of a PostgreSQL `outbox` table to Kafka: woken at the commit, in order, and deleted once Kafka has them.
//!
//! ```text
//!   app  →  relay  →  { postgres, kafka }  →  event, config
//! ```
//!
//! Arrows point to what a module may use. A program that embeds the relay needs [`config::Settings`] and [`relay::Relay`];
//! the binary adds signals, the environment and exit codes in [`app`].

pub mod app;
pub mod config;
pub mod event;
pub mod kafka;
pub mod postgres;
pub mod relay;
mod tls;
