//! A program that embeds the relay: its own configuration, its own observer, its own end.
//!
//!     DATABASE_URL=... KAFKA_BROKERS=... cargo run --example embed -- doorbell.toml
//!
//! Prints a line for each row that the relay has sent and deleted. Stops on Ctrl-C once the rows in
//! flight are settled, and prints what the relay did.

use std::sync::Arc;
use std::time::Instant;

use doorbell::{Observer, Relay, RelayError, Settings, Snapshot, Step};
use tokio_util::sync::CancellationToken;

struct Printer;

impl Observer for Printer {
    // The relay's own tasks call this, so it must return quickly.
    fn passed(&self, step: Step, rows: &mut dyn Iterator<Item = i64>, _at: Instant) {
        if step == Step::Deleted {
            rows.for_each(|id| println!("row {id} is delivered"));
        }
    }
}

/// Relays until `stop`, and returns the state of each outbox at the end.
pub(crate) async fn relay(
    settings: Settings,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
) -> Result<Vec<Snapshot>, RelayError> {
    let relay = Relay::new(settings).observe(observer);
    // The same can be read at any time while the relay runs.
    let outboxes = relay.monitors();
    relay.run(stop).await?;
    Ok(outboxes.iter().map(|outbox| outbox.snapshot()).collect())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or("doorbell.toml".to_owned());
    let text = std::fs::read_to_string(path)?;
    // Variables override the file, as with `doorbell run`. The error lists every fault.
    let settings = Settings::from_toml(&text, &|name| std::env::var(name).ok())?;

    let stop = CancellationToken::new();
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = relay(settings, Arc::new(Printer), stop.clone()) => ended?,
        () = interrupted => return Ok(()),
    };
    for outbox in ended {
        println!("{}: {} rows deleted", outbox.outbox, outbox.rows.deleted);
    }
    Ok(())
}
