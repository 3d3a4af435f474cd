//! Delivery reports: collected on librdkafka's thread, taken in bulk by the settler.

use std::sync::{Arc, Mutex};

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::Notify;

use crate::kafka::health::Health;
use crate::sync::lock;

/// Reports since they were last taken. Records are named by their tickets.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    pub acknowledged: Vec<usize>,
    pub failed: Vec<(usize, RDKafkaErrorCode)>,
    pub fatal: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Reports {
    delivered: Mutex<Delivered>,
    arrived: Notify,
    pub(crate) health: Arc<Health>,
}

impl Reports {
    /// Returns an empty collector. Its producer reports the state of the brokers to `health`.
    pub(crate) fn new(health: Arc<Health>) -> Self {
        Self {
            health,
            ..Self::default()
        }
    }

    /// Waits until there are reports to take. Cancel-safe.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(crate) fn take(&self) -> Delivered {
        std::mem::take(&mut *lock(&self.delivered))
    }

    /// Adds a report. Wakes the reader only if there was none before: one wake-up serves thousands
    /// of reports.
    pub(crate) fn add(&self, add: impl FnOnce(&mut Delivered)) {
        let first = {
            let mut delivered = lock(&self.delivered);
            let first = delivered.acknowledged.is_empty() && delivered.failed.is_empty();
            add(&mut delivered);
            first || delivered.fatal.is_some()
        };
        if first {
            self.arrived.notify_one();
        }
    }
}
