//! What one side came to at one rate, and without rows.

use serde::Serialize;

use super::cost::RowCost;
use crate::report::figures::{Latency, Samples};
use crate::report::rounds::Rounds;
use crate::sides::Side;

/// What one side came to in one round: at each rate, and without rows.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) rates: Vec<AtRate>,
    pub(super) idle: Idle,
}

/// What one side came to at one rate in one round.
#[derive(Debug, Serialize)]
pub(super) struct AtRate {
    pub(super) side: Side,
    pub(super) rate: u32,
    /// What the writers came to.
    pub(super) rows_per_second: f64,
    pub(super) milliseconds: Latency,
    #[serde(flatten)]
    pub(super) cost: RowCost,
    #[serde(rename = "raw_us")]
    pub(super) samples: Samples,
}

#[derive(Debug, Serialize)]
pub(super) struct Idle {
    pub(super) side: Side,
    /// Of one core.
    pub(super) cpu_percent: f64,
    pub(super) peak_memory_mib: Option<f64>,
}

/// What is measured, by round: one side at one rate.
pub(super) type Rates = Rounds<(Side, u32), AtRate>;
