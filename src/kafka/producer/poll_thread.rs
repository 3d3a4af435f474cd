//! A producer, and the thread that serves its events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tracing::error;

use super::callbacks::ReportingContext;

/// One wait for events while records are in flight. The library's wait spins through the last part
/// of a millisecond, so it is not for idle times.
const WAIT: Duration = Duration::from_millis(100);
/// Interval at which events (an unreachable broker, a token to renew) are served while nothing is
/// in flight.
const TICK: Duration = Duration::from_secs(1);

/// The same interval until a broker has answered for the first time, because the start of the relay
/// waits for it.
const FIRST_TICK: Duration = Duration::from_millis(50);

/// Time for the answer of a broker after idle connections were closed.
const ANSWER: Duration = Duration::from_secs(3);

/// A record that carries a number to its report.
pub(crate) type QueuedRecord<'a> = BaseRecord<'a, [u8], [u8], usize>;

/// A producer with a thread that sleeps while nothing is in flight. The library's own threaded
/// producer waits and spins ten times a second, which would be most of the cost of an idle relay.
pub(crate) struct PolledProducer {
    producer: Arc<BaseProducer<ReportingContext>>,
    state: Arc<PollState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct PollState {
    asleep: AtomicBool,
    stopped: AtomicBool,
}

impl PolledProducer {
    pub(crate) fn new(config: &ClientConfig, context: ReportingContext) -> KafkaResult<Self> {
        let producer: Arc<BaseProducer<ReportingContext>> =
            Arc::new(config.create_with_context(context)?);
        let state = Arc::new(PollState::default());
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

    pub(crate) fn client(&self) -> &Client<ReportingContext> {
        self.producer.client()
    }

    pub(crate) fn shared(&self) -> Arc<BaseProducer<ReportingContext>> {
        Arc::clone(&self.producer)
    }

    pub(crate) fn producer(&self) -> &BaseProducer<ReportingContext> {
        &self.producer
    }

    /// Queues a record. Its report comes through the context.
    pub(crate) fn send(&self, record: QueuedRecord<'_>) -> KafkaResult<()> {
        self.producer.send(record).map_err(|(error, _)| error)?;
        // The thread sets `asleep` before it counts records; here a record is added before `asleep`
        // is read. So at least one side sees the other.
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

impl Drop for PolledProducer {
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

/// Records that no broker is reachable; first asks one, if nothing is in flight and the brokers may
/// only have closed idle connections.
fn judge(producer: &Arc<BaseProducer<ReportingContext>>, reason: String) {
    let context = producer.context();
    if producer.in_flight_count() > 0 || !context.has_met() {
        return context.unreachable(&reason);
    }
    let asked = Arc::clone(producer);
    let ask = move || {
        if asked.client().fetch_metadata(None, ANSWER).is_err() {
            asked.context().unreachable(&reason);
        }
    };
    if let Err(error) = thread::Builder::new().name("ask kafka".into()).spawn(ask) {
        context.unreachable(&error.to_string());
    }
}

fn poll(producer: &Arc<BaseProducer<ReportingContext>>, state: &PollState) {
    // A token that is needed is requested now. Without it no request is sent.
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
        if let Some(reason) = producer.context().take_doubt() {
            judge(producer, reason);
        }
    }
}
