//! The relay of one outbox, from its start to its end.
//!
//! `run` calls the others in turn: `startup`, then `pause`, `crash_loop`, `producers` and `term`
//! with its `stages`, until the relay stops.

mod crash_loop;
mod pause;
mod producers;
mod relay;
mod run;
mod stages;
mod startup;
mod term;

pub(crate) use relay::OutboxRelay;
