//! Relays, servers and machines that fail, and who takes over.

mod crowd;
mod heartbeat;
mod kafka_lost;
mod leaderless;
mod odd_tables;
mod outages;
mod replicas;
mod standby_server;
mod systemd;
mod takeover;
mod vanished;
