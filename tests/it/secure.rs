//! TLS and logins, against servers of the tests' own with certificates of the tests' own.

mod cluster;
mod kafka;
mod postgres;

pub(crate) use cluster::{Cluster, OTHER_PASSWORD};
