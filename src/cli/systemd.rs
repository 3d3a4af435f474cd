//! Notifies systemd: the relay is up, works or is about to end; and beats, so that a process whose
//! event loop is stuck is restarted. A process whose rows are stuck beats on.

use std::convert::Infallible;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::relay::{Monitor, Readiness, Role};

/// Interval of the beats while no watchdog wants more of them.
const BEAT: Duration = Duration::from_secs(1);

/// Characters of a status: systemd ignores a message of 4 KiB or more.
const LONGEST_STATUS: usize = 900;

/// What one beat adds to the time for the start: it lasts as long as PostgreSQL or Kafka is down.
const STARTING: &str = "EXTEND_TIMEOUT_USEC=60000000\n";

/// The supervisor's socket, if there is one.
pub(crate) struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    every: Duration,
}

impl Supervisor {
    /// Takes what systemd has put into the environment.
    pub(crate) fn of_environment() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|it| !it.is_empty());
        let ours = variable("WATCHDOG_PID").is_none_or(|it| it == std::process::id().to_string());
        let micros = variable("WATCHDOG_USEC").and_then(|it| it.parse().ok());
        let watchdog = micros.filter(|_| ours).map(Duration::from_micros);
        let socket = variable("NOTIFY_SOCKET").and_then(|path| {
            let opened = address(&path).and_then(|to| Ok((socket()?, to)));
            let failed = |error| {
                warn!(%error, "cannot notify systemd at NOTIFY_SOCKET={path}: a unit with Type=notify will time out; use Type=exec");
            };
            opened.map_err(failed).ok()
        });
        Self {
            socket,
            every: watchdog.map_or(BEAT, |it| BEAT.min(it / 4).max(BEAT / 100)),
        }
    }

    /// Beats for ever. Each beat crosses the threads of the relay and takes the locks of its state,
    /// so that there is none if one of them is stuck.
    pub(crate) async fn follow(
        &self,
        monitors: &[Arc<Monitor>],
        stuck_after: Duration,
        stop: &CancellationToken,
        beat: impl Fn(),
    ) -> Infallible {
        let mut ticks = interval(self.every);
        let (mut is_up, mut said) = (false, String::new());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
            let all = monitors.to_vec();
            let look = async move { all.iter().map(|it| it.snapshot()).collect::<Vec<_>>() };
            let Some(Ok(relays)) = JoinSet::from_iter([look]).join_next().await else {
                continue;
            };
            beat();
            let mut message = String::from("WATCHDOG=1\n");
            let comes_up = !is_up && relays.iter().all(|it| it.role != Role::Starting);
            if stop.is_cancelled() {
                message += "STOPPING=1\n";
            } else if comes_up {
                message += "READY=1\n";
            } else if !is_up {
                message += STARTING;
            }
            let words = relays.iter().map(|relay| {
                let words = Readiness::of(relay, stuck_after).words.join("; ");
                format!("{}: {words}", relay.outbox).replace('\n', " ")
            });
            let status = words.collect::<Vec<_>>().join("; ");
            let status: String = status.chars().take(LONGEST_STATUS).collect();
            if status != said {
                message += &format!("STATUS={status}\n");
            }
            if self.send(&message) {
                is_up |= comes_up;
                said = status;
            }
        }
    }

    /// Returns whether the message is on its way. A supervisor that does not read now is told again
    /// by the next beat.
    fn send(&self, message: &str) -> bool {
        let send = |(socket, to): &(UnixDatagram, SocketAddr)| {
            socket.send_to_addr(message.as_bytes(), to).is_ok()
        };
        self.socket.as_ref().is_none_or(send)
    }
}

/// A full queue must not block the relay.
fn socket() -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A path, or `@NAME` for one in Linux's abstract namespace.
fn address(path: &str) -> std::io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.strip_prefix('@') {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Outbox;

    #[test]
    fn an_event_loop_that_is_stuck_does_not_beat() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).expect("a socket");
        let to = address(path.to_str().expect("text")).expect("an address");
        let supervisor = Supervisor {
            socket: Some((socket().expect("a socket"), to)),
            every: Duration::from_millis(10),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let worker = runtime.handle().clone();
        let stop = CancellationToken::new();
        let end = stop.clone().drop_guard();
        let relay = std::thread::spawn(move || {
            let monitor = Arc::new(Monitor::new(&Outbox::default()));
            let monitors = vec![monitor; 500];
            runtime.block_on(async {
                tokio::select! {
                    never = supervisor.follow(&monitors, BEAT, &stop, || ()) => match never {},
                    () = stop.cancelled() => {}
                }
            });
        });
        let beats = |read: Duration| {
            systemd.set_read_timeout(Some(read)).expect("a time-out");
            let message = systemd.recv(&mut [0; 4096]);
            message.is_ok_and(|length| length < 4096)
        };
        assert!(beats(Duration::from_secs(30)));
        let (free, freed) = std::sync::mpsc::channel::<()>();
        let stuck = worker.spawn(async move { freed.recv().ok() });
        while beats(Duration::from_millis(200)) {}
        assert!(!stuck.is_finished());
        free.send(()).expect("it waits");
        assert!(beats(Duration::from_secs(30)), "it beats again");
        drop(end);
        relay.join().expect("no panic");
    }
}
