//! A consumer that waits for records, and notes when each row came.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::message::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage};
use crate::topic;

/// Works in a thread of its own.
pub(crate) struct Consumer {
    arrivals: mpsc::UnboundedReceiver<(i64, Instant)>,
    arrived: HashMap<i64, Instant>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// From where the topic ends now.
    pub(crate) fn start(stage: &Stage, topic: &str) -> anyhow::Result<Self> {
        // The broker answers with the first record, whenever it comes.
        let settings = [("fetch.wait.max.ms", "1000"), ("fetch.min.bytes", "1")];
        let inner = topic::consumer(stage, &settings)?;
        topic::assign(&inner, topic, &topic::ends(stage, topic)?)?;
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(Ok(message)) = inner.poll(Duration::from_millis(100)) else {
                    continue;
                };
                let at = Instant::now();
                if let Some(number) = topic::number(message.payload()) {
                    arrived.send((number, at)).ok();
                }
            }
        });
        Ok(Self {
            arrivals,
            arrived: HashMap::new(),
            stop,
            thread: Some(thread),
        })
    }

    /// When a row arrived for the first time; waits for it.
    pub(crate) async fn arrival(&mut self, number: i64) -> anyhow::Result<Instant> {
        loop {
            if let Some(at) = self.arrived.get(&number) {
                return Ok(*at);
            }
            self.next().await?;
        }
    }

    /// The next record: its row, and when it came.
    pub(crate) async fn next(&mut self) -> anyhow::Result<(i64, Instant)> {
        let (number, at) = timeout(PATIENCE, self.arrivals.recv())
            .await
            .context("a row did not arrive")?
            .context("the consumer ended")?;
        self.arrived.entry(number).or_insert(at);
        Ok((number, at))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
