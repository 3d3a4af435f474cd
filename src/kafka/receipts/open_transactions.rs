//! Waits for open transactions.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::error::ReceiptsError;
use super::store::{PATIENCE, Receipts, TURN};
use crate::kafka::consumer::client::TopicConsumer;
use crate::sync::lock;

/// Each partition of each topic with the offset up to which all has to be committed or aborted.
/// Kept over the tries of one recovery: what other producers write later does not count.
pub(crate) type Goals = HashMap<String, Vec<(i32, i64)>>;

impl Receipts {
    /// Waits until everything that the topics hold now is either committed or aborted. Until then
    /// the outcome is unknown. Blocks.
    pub(crate) fn await_stable(
        &self,
        topics: &[String],
        goals: &Mutex<Goals>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), ReceiptsError> {
        for topic in topics {
            // Nothing is read any more from a topic that no longer exists.
            let Some(partitions) = self.partition_ids(topic)? else {
                continue;
            };
            self.whole.poll(Duration::ZERO);
            // A consumer that does not know the topic would ask for it at growing intervals.
            self.whole
                .fetch_metadata(Some(topic), PATIENCE)
                .map_err(|error| self.away(&error))?;
            let mut until = self.ends(&self.whole, topic, &partitions)?;
            let earlier = lock(goals).get(topic).cloned().unwrap_or_default();
            for (end, (_, goal)) in until.iter_mut().zip(earlier) {
                end.1 = end.1.min(goal);
            }
            lock(goals).insert(topic.clone(), until.clone());
            let begun = Instant::now();
            loop {
                let stable = self.ends(&self.consumer, topic, &partitions)?;
                let mut open = until
                    .iter()
                    .zip(&stable)
                    .filter(|(end, stable)| end.1 > stable.1);
                let Some(((partition, end), _)) = open.next() else {
                    break;
                };
                if !wanted() {
                    return Err(ReceiptsError::Cancelled);
                }
                if begun.elapsed() > PATIENCE {
                    let reason = format!(
                        "a transaction is open in topic {topic}, partition {partition}, before offset {end}: the outcome of its records is unknown"
                    );
                    return Err(self.away(&reason));
                }
                std::thread::sleep(TURN);
            }
        }
        Ok(())
    }

    /// Returns each partition with the offset where it ends for this consumer.
    pub(super) fn ends(
        &self,
        consumer: &TopicConsumer,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<(i32, i64)>, ReceiptsError> {
        let mut ask = TopicPartitionList::new();
        for partition in partitions {
            ask.add_partition_offset(topic, *partition, Offset::End)
                .map_err(|error| self.away(&error))?;
        }
        // One request for all partitions: with the end in place of a time, the answer is the end.
        let answer = consumer
            .offsets_for_times(ask, PATIENCE)
            .map_err(|error| self.away(&error))?;
        let end = |it: &TopicPartitionListElem<'_>| {
            it.error().map_err(|error| self.away(&error))?;
            match it.offset() {
                Offset::Offset(end) => Ok((it.partition(), end)),
                _ => Err(self.away(&"a partition's end is not known")),
            }
        };
        answer.elements().iter().map(end).collect()
    }
}
