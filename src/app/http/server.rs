//! Connections: bounded in number, in the size of what they send, and in the time they take, whatever comes. They share nothing with the relay but the
//! machine: one thread of their own answers all of them.

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

/// Connections at the same time; others wait in the kernel's queue. A scraper, a few probes and a few pages need a tenth of it.
const CONNECTIONS: usize = 64;
/// A head must come within this time, and so must the next one of a connection that stays open.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Whoever takes nothing of an answer for so long is let go of.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Of what is read at once; a larger head is answered with 431.
const BUFFER: usize = 16 << 10;
/// After accepting failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Answers under way at the end may take so long.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The thread that answers.
pub(super) struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Server {
    /// Begins to answer. Something goes on beside the answers and ends when it is told to; what streams from it ends with it.
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
                error!(%error, "nobody is answered any more by HTTP");
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

    /// Ends it; answers under way are given first.
    pub(super) fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            error!("the thread for HTTP failed: this is a defect of Doorbell");
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
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let (graceful, connections) = (GracefulShutdown::new(), TaskTracker::new());
    connections.spawn(beside);
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => (permit, stream),
                Err(error) => {
                    debug!(%error, "a connection cannot be accepted");
                    sleep(PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let connection = graceful.watch(connection(stream, router.clone()));
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "an HTTP connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    // Whoever is still in the middle of something then loses its connection with the runtime.
    timeout(LAST_ANSWERS, graceful.shutdown()).await.ok();
    Ok(())
}

type Connection =
    http1::Connection<TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router) -> Connection {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        )
}
