//! `doorbell run`.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::exit::{self, Failure, Outcome};
use crate::cli::systemd::Supervisor;
use crate::config::Settings;
use crate::http;
use crate::otel::Traces;
use crate::relay::{Relay, RelayError};

/// A second signal this soon is the first once more: supervisors signal the process and its group.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// Requests SIGTERM from the kernel when the thread that started this process ends. Linux only.
pub(crate) fn end_with_parent() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    Ok(())
}

pub(crate) fn run(
    settings: Settings,
    start_timeout: Option<Duration>,
    poll: Option<Duration>,
) -> Outcome {
    let port = http::bind(&settings.http).map_err(Failure::Usage)?;
    let traces = Traces::start(&settings.telemetry).map_err(Failure::Usage)?;
    let supervisor = Supervisor::of_environment();
    let relay = Relay::new(settings.clone())
        .start_timeout(start_timeout)
        .poll(poll);
    let relay = traces.follow(relay);
    let monitors = relay.monitors();
    let serving = port.serve(&settings, monitors.clone())?;
    let result = on_threads(async {
        let stop = CancellationToken::new();
        let relaying = async {
            let mut relaying = std::pin::pin!(relay.run(stop.clone()));
            tokio::select! {
                result = &mut relaying => return result,
                () = monitors[0].begun() => serving.log_address(),
            }
            relaying.await
        };
        let stuck_after = settings.http.stuck_after;
        let beating = supervisor.follow(&monitors, stuck_after, &stop, || serving.beat());
        let watched = async {
            tokio::select! {
                result = relaying => result,
                never = beating => match never {},
            }
        };
        heeding_signals(watched, &stop).await?.map_err(failure)
    });
    serving.stop();
    traces.end();
    result
}

/// Runs the work on a runtime with a thread for each processor.
pub(crate) fn on_threads<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(work);
    // A broker that does not answer may block a thread of the C library for seconds: do not wait
    // for it.
    runtime.shutdown_background();
    result
}

/// Runs the work to its end: the first signal stops it, a second one exits at once.
pub(crate) async fn heeding_signals<T>(
    work: impl Future<Output = T>,
    stop: &CancellationToken,
) -> std::io::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut work = std::pin::pin!(work);
    let mut first: Option<Instant> = None;
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if let Some(first) = first {
            if first.elapsed() < ONE_SIGNAL {
                continue;
            }
            warn!("second signal: leaving at once; what is in flight may be sent again");
            exit::leave(exit::INTERRUPTED);
        }
        info!("stopping: what is in flight is finished; a second signal leaves at once");
        first = Some(Instant::now());
        stop.cancel();
    }
}

pub(crate) fn failure(error: RelayError) -> Failure {
    match error {
        RelayError::Config(_) | RelayError::Route(_) => Failure::Usage(error.to_string()),
        error => error.into(),
    }
}
