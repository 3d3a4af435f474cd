//! Rows that Kafka can never take.
//!
//! | file | what |
//! |---|---|
//! | `policies` | what a refusal comes to |
//! | `refusal_log` | log lines of refused rows, counted |
//! | `suspects` | rows that were refused together with others |
//! | `rejected` | rows that Kafka can never take |
//! | `held_keys` | keys and topics whose rows wait behind a refused row (pure) |
//! | `topic_book` | what is known of topics (pure) |

mod held_keys;
mod policies;
mod refusal_log;
mod rejected;
mod suspects;
mod topic_book;

pub(crate) use held_keys::{HoldId, Refused};
pub(crate) use policies::{Refusals, largest_record, largest_row};
pub(crate) use suspects::Suspects;
#[cfg(test)]
pub(crate) use topic_book::TopicBook;
pub(crate) use topic_book::TopicNumber;
