//! A producer and the thread that takes its events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tracing::error;

use super::reports::Context;

/// One wait for events while records are under way. The library's wait spins through the last part of a millisecond, so it is not for idle times.
const WAIT: Duration = Duration::from_millis(100);
/// While nothing is under way, events (a broker that is away, a token to renew) are taken this often.
const TICK: Duration = Duration::from_secs(1);

/// The same until a broker has answered for the first time: somebody waits for it.
const FIRST_TICK: Duration = Duration::from_millis(50);

/// A record that carries a number to its report.
pub(super) type Record<'a> = BaseRecord<'a, [u8], [u8], usize>;

/// The library's own threaded producer waits and spins ten times a second, which is most of what an idle relay would cost. This one sleeps while nothing
/// is under way.
pub(super) struct Polled {
    producer: Arc<BaseProducer<Context>>,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    asleep: AtomicBool,
    stopped: AtomicBool,
}

impl Polled {
    /// Builds the producer and starts the thread.
    pub(super) fn new(config: &ClientConfig, context: Context) -> KafkaResult<Self> {
        let producer: Arc<BaseProducer<Context>> = Arc::new(config.create_with_context(context)?);
        let state = Arc::new(State::default());
        let (polled, its_state) = (Arc::clone(&producer), Arc::clone(&state));
        let thread = thread::Builder::new()
            .name("delivery reports".into())
            .spawn(move || poll(&polled, &its_state))
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self {
            producer,
            state,
            thread: Some(thread),
        })
    }

    /// What the producer knows about its brokers.
    pub(super) fn client(&self) -> &Client<Context> {
        self.producer.client()
    }

    /// The producer itself, for a question that blocks.
    pub(super) fn shared(&self) -> Arc<BaseProducer<Context>> {
        Arc::clone(&self.producer)
    }

    /// The producer itself, for what blocks.
    pub(super) fn producer(&self) -> &BaseProducer<Context> {
        &self.producer
    }

    /// Puts a record into the queue; its report comes through the context.
    pub(super) fn send(&self, record: Record<'_>) -> KafkaResult<()> {
        self.producer.send(record).map_err(|(error, _)| error)?;
        // The thread says that it sleeps before it counts records, and here one is added before it is looked whether it sleeps: one of the two
        // sees the other.
        if self.state.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Ok(())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the thread for delivery reports failed: this is a defect of Doorbell");
        }
    }
}

fn poll(producer: &BaseProducer<Context>, state: &State) {
    // Where a token is needed, it is asked for now: without it no request is sent.
    producer.poll(Duration::ZERO);
    while !state.stopped.load(Ordering::SeqCst) {
        state.asleep.store(true, Ordering::SeqCst);
        if producer.in_flight_count() == 0 {
            thread::park_timeout(match producer.context().has_met() {
                true => TICK,
                false => FIRST_TICK,
            });
            state.asleep.store(false, Ordering::SeqCst);
            producer.poll(Duration::ZERO);
        } else {
            state.asleep.store(false, Ordering::SeqCst);
            producer.poll(WAIT);
        }
    }
}
