//! Runs of several kinds, round by round.

use serde::Serialize;
use serde_json::{Value, json};

use super::figures::Spread;
use crate::fixture::Fixture;

/// Runs in the order in which they were made, each with its round and its kind.
#[derive(Debug)]
pub(crate) struct Rounds<K, R>(Vec<(u32, K, R)>);

impl<K: Copy + PartialEq, R> Rounds<K, R> {
    /// Each round with each kind, in an order that changes from round to round: none always comes
    /// first, or always after the same one. So whatever changes on the machine meets all of them.
    pub(crate) async fn measure(
        fixture: &mut Fixture,
        (part, rounds): (&str, u32),
        kinds: &[K],
        name: impl Fn(K) -> String,
        mut run: impl AsyncFnMut(&mut Fixture, K) -> anyhow::Result<R>,
    ) -> anyhow::Result<Self> {
        let mut all = Self::new();
        for round in 0..rounds {
            let mut order = kinds.to_vec();
            order.rotate_left((round / 2) as usize % kinds.len());
            if round % 2 == 1 {
                order.reverse();
            }
            for kind in order {
                let step = format!("{part} {}/{rounds}: {}", round + 1, name(kind));
                fixture.progress.step(step);
                all.push(round, kind, run(fixture, kind).await?);
            }
        }
        Ok(all)
    }

    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, round: u32, kind: K, run: R) {
        self.0.push((round, kind, run));
    }

    /// Makes several runs of each, of other kinds and of the same round.
    pub(crate) fn split<L, S>(
        self,
        mut parts: impl FnMut(u32, K, R) -> Vec<(L, S)>,
    ) -> Rounds<L, S> {
        let of = |(round, kind, run)| {
            let parts = parts(round, kind, run).into_iter();
            parts.map(move |(kind, run)| (round, kind, run))
        };
        Rounds(self.0.into_iter().flat_map(of).collect())
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &R> {
        self.0.iter().map(|(_, _, run)| run)
    }

    pub(crate) fn of(&self, kind: K) -> impl Iterator<Item = &R> {
        let same = self.0.iter().filter(move |(_, of, _)| *of == kind);
        same.map(|(_, _, run)| run)
    }

    /// Each kind once, in order.
    pub(crate) fn kinds(&self) -> Vec<K>
    where
        K: Ord,
    {
        let mut kinds: Vec<K> = self.0.iter().map(|(_, kind, _)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// A figure of all runs of one kind.
    pub(crate) fn spread(&self, kind: K, figure: fn(&R) -> f64) -> Spread {
        Spread::of(self.of(kind).map(figure))
    }

    /// A figure of one run; NaN where there was none.
    pub(crate) fn figure(&self, round: u32, kind: K, figure: fn(&R) -> f64) -> f64 {
        let mut runs = self.0.iter();
        let found = runs.find(|(at, of, _)| (*at, *of) == (round, kind));
        found.map_or(f64::NAN, |(_, _, run)| figure(run))
    }

    /// The figure of one kind over that of another, in each round that has both.
    pub(crate) fn ratios(&self, kind: K, base: K, figure: fn(&R) -> f64) -> Vec<f64> {
        let rounds = self.0.iter().filter(|(_, of, _)| *of == kind);
        let ratios = rounds.map(|(round, _, run)| figure(run) / self.figure(*round, base, figure));
        ratios.filter(|ratio| !ratio.is_nan()).collect()
    }

    pub(crate) fn count(&self) -> u32 {
        let rounds = self.0.iter().map(|(round, ..)| round + 1);
        rounds.max().unwrap_or(0)
    }
}

impl<K, R: Serialize> Rounds<K, R> {
    /// All in order, each with its round.
    pub(crate) fn json(&self) -> Value {
        let run = |(round, _, run): &(u32, K, R)| {
            let mut run = json!(run);
            run["round"] = json!(round + 1);
            run
        };
        self.0.iter().map(run).collect()
    }
}
