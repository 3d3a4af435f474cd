//! TLS, logins, privileges and secrets.

mod acls;
mod cluster;
mod kafka;
mod migration;
mod postgres;
mod privileges;
mod search_path;
mod secrets;
