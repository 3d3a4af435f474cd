//! Connections: bounded in number, in the size of what they send, and in time. One thread of their
//! own serves all of them, so that they share nothing with the relay but the machine.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use crate::sync::lock;

/// Connections at the same time. A scraper, a few probes and a few pages need a tenth of it.
const MAX_CONNECTIONS: usize = 64;
/// Those of one client address; the rest is left to others.
const MAX_OF_A_CLIENT: usize = 48;
/// Time after which a connection that is kept alive ends. A page that is kept up to date stays.
const MAX_LIFE: Duration = Duration::from_secs(60);
/// Time for the head of a request, also for the next one on a connection that is kept alive.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a client that reads nothing of its response is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a head; a larger one is answered with 431.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Pause after a failed accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for a response that is under way at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The thread that serves the connections.
pub(super) struct HttpServer {
    address: SocketAddr,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl HttpServer {
    /// Starts to serve. `beside` returns a task that runs on the same thread and ends when its
    /// token is cancelled; responses that stream from it end with it.
    pub(super) fn start<F>(
        listener: TcpListener,
        router: Router,
        beside: impl FnOnce(CancellationToken) -> F,
    ) -> std::io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = CancellationToken::new();
        let (stopped, beside) = (stop.clone(), beside(stop.clone()));
        let thread = thread::Builder::new().name("http".into()).spawn(move || {
            if let Err(error) = runtime.block_on(accept(listener, router, beside, stopped)) {
                error!(%error, "the HTTP server failed: no page, metrics or health until the relay is restarted");
            }
        })?;
        Ok(Self {
            address,
            stop,
            thread,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it; responses under way are finished first.
    pub(super) fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            error!("the HTTP thread panicked: this is a bug in Doorbell, please report it");
        }
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    beside: impl Future<Output = ()> + Send + 'static,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(2 * MAX_CONNECTIONS));
    let (connections, tasks) = (Arc::new(Connections::default()), TaskTracker::new());
    tasks.spawn(beside);
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, (stream, peer)) = tokio::select! {
            (permit, accepted) = accepted => match accepted {
                Ok(accepted) => (permit, accepted),
                Err(error) => {
                    debug!(%error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (number, end) = connections.enter(peer.ip(), &stop);
        let (connection, connections) =
            (connection(stream, router.clone()), Arc::clone(&connections));
        tasks.spawn(async move {
            if let Err(error) = serve(connection, end).await {
                debug!(%error, "an HTTP connection ended early");
            }
            connections.leave(number);
            drop(permit);
        });
    }
    drop(listener);
    tasks.close();
    // Clients that are still busy then lose their connection with the runtime.
    timeout(DRAIN_TIMEOUT, tasks.wait()).await.ok();
    Ok(())
}

/// Serves until the client or its time is over; a response under way is finished first.
async fn serve(connection: Connection, end: CancellationToken) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = end.cancelled() => {}
        () = sleep(MAX_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection => ended,
        () = async { end.cancelled().await; sleep(DRAIN_TIMEOUT).await } => Ok(()),
    }
}

/// Open connections, the oldest first. One more than may be open ends the oldest of the client that
/// has most, so that a probe is served whatever others hold open.
#[derive(Default)]
struct Connections(Mutex<(u64, Vec<Open>)>);

struct Open {
    number: u64,
    peer: IpAddr,
    end: CancellationToken,
}

impl Connections {
    /// Adds a connection, and ends another one if there are too many.
    fn enter(&self, peer: IpAddr, stop: &CancellationToken) -> (u64, CancellationToken) {
        let (last, open) = &mut *lock(&self.0);
        let count = |of: IpAddr| open.iter().filter(|it| it.peer == of).count();
        let greedy = if count(peer) >= MAX_OF_A_CLIENT {
            Some(peer)
        } else if open.len() >= MAX_CONNECTIONS {
            open.iter()
                .map(|it| it.peer)
                .max_by_key(|peer| count(*peer))
        } else {
            None
        };
        if let Some(oldest) = open.iter().position(|it| Some(it.peer) == greedy) {
            open.remove(oldest).end.cancel();
        }
        *last += 1;
        let (number, end) = (*last, stop.child_token());
        let handle = end.clone();
        open.push(Open { number, peer, end });
        (number, handle)
    }

    fn leave(&self, number: u64) {
        lock(&self.0).1.retain(|it| it.number != number);
    }
}

type Connection =
    http1::Connection<TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router) -> Connection {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        )
}
