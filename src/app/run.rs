//! `doorbell run`.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::failure::{Failure, Outcome};
use super::{http, traces};
use crate::config::Settings;
use crate::relay::{Relay, RelayError};

/// What a shell reports for a program that a second signal ended.
const LEFT_AT_ONCE: i32 = 130;

/// Has the kernel send SIGTERM when the thread that started this process has ended. Only Linux can.
pub(super) fn end_with_parent() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    Ok(())
}

/// Relays until a signal comes.
pub(super) fn run(
    settings: Settings,
    start_timeout: Option<Duration>,
    poll: Option<Duration>,
) -> Outcome {
    let port = http::bind(&settings.http)?;
    let traces = traces::begin(&settings.telemetry)?;
    let relay = Relay::new(settings.clone())
        .start_timeout(start_timeout)
        .poll(poll)
        .trace(traces.tracer());
    let vitals = relay.vitals();
    let answering = port.serve(&settings, vitals.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let relaying = async {
            let mut relaying = std::pin::pin!(relay.run(stop.clone()));
            tokio::select! {
                result = &mut relaying => return result,
                () = vitals[0].begun() => answering.tell(),
            }
            relaying.await
        };
        heeding_signals(relaying, &stop).await?.map_err(failure)
    });
    // A broker that does not answer may hold a thread of the C library for seconds: it is of no more interest.
    runtime.shutdown_background();
    answering.stop();
    traces.end();
    result
}

/// Runs it to its end: the first signal stops it, a second one leaves at once.
pub(super) async fn heeding_signals<T>(
    work: impl Future<Output = T>,
    stop: &CancellationToken,
) -> std::io::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if stop.is_cancelled() {
            warn!(
                "second signal: leaving at once; rows in flight stay in the table and may be sent again"
            );
            std::process::exit(LEFT_AT_ONCE);
        }
        info!(
            "stopping: no new rows, those in flight are finished; a second signal leaves at once"
        );
        stop.cancel();
    }
}

pub(super) fn failure(error: RelayError) -> Failure {
    match error {
        RelayError::Config(_) | RelayError::Route(_) => Failure::Usage(error.to_string()),
        error => error.into(),
    }
}
