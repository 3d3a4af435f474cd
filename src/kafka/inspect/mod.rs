//! What `doorbell check` asks the brokers.

pub(crate) mod acl_probe;
pub(crate) mod cluster;
pub(crate) mod diagnostic_client;
pub(crate) mod write_probe;
