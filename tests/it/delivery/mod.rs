//! What is sent, in which order, and what a record holds.

mod altered_table;
mod basics;
mod embedded;
mod fetch;
mod gaps;
mod pooler;
mod record;
mod replaced_table;
mod stress;
mod strict_order;
mod surroundings;
mod traces;
