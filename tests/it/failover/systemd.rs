//! The relay under systemd: a socket stands for the service manager.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Relay, World, create_topic, doorbell, eventually, within};

struct Systemd(UnixDatagram);

impl Systemd {
    /// Starts a relay that notifies this one.
    fn start(path: &Path, world: &World, flags: &[&str]) -> (Self, Relay) {
        let socket = UnixDatagram::bind(path).expect("a socket");
        let wait = Some(Duration::from_millis(200));
        socket.set_read_timeout(wait).expect("a time-out");
        let mut command = doorbell(world, &[&["run", "--topic", &world.topic], flags].concat());
        command
            .env("NOTIFY_SOCKET", path)
            .env("WATCHDOG_USEC", "200000");
        (Self(socket), Relay::of(&mut command))
    }

    fn message(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[track_caller]
    fn await_message(&self, words: &[&str]) {
        eventually(&format!("{words:?}"), || {
            let message = self.message()?;
            words.iter().all(|it| message.contains(it)).then_some(())
        });
    }
}

#[test]
fn systemd_knows_when_the_relay_is_up_works_and_ends_and_restarts_none_for_rows_that_are_stuck() {
    let world = World::new("systemd");
    create_topic(&world, &world.topic, 1, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let stuck = ["--kafka-brokers", "127.0.0.1:1"];
    let (systemd, _relay) = Systemd::start(&folder.path().join("stuck"), &world, &stuck);
    let words = "STATUS=outbox: Kafka at 127.0.0.1:1 does not answer";
    systemd.await_message(&["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=", words]);
    let is_ready = within(Duration::from_secs(1), || {
        systemd.message()?.contains("READY=1").then_some(())
    });
    assert_eq!(is_ready, None, "it is not up");

    let (systemd, relay) = Systemd::start(&folder.path().join("well"), &world, &[]);
    systemd.await_message(&["READY=1", "STATUS=outbox: leading"]);
    systemd.await_message(&["WATCHDOG=1"]);
    relay.freeze();
    eventually("no beat", || systemd.message().is_none().then_some(()));
    relay.thaw();
    systemd.await_message(&["WATCHDOG=1"]);
    relay.signal(Signal::TERM);
    systemd.await_message(&["STOPPING=1"]);
    assert!(relay.stop().success());
}
