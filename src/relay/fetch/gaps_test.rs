//! Gaps against a small model of PostgreSQL, whose transactions lock the table, draw ids, prepare,
//! commit and roll back in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What may happen next. Numbers choose among the open transactions.
#[derive(Debug, Clone)]
enum Step {
    Begin,
    Draw(usize),
    Prepare(usize),
    Commit(usize),
    RollBack(usize),
    Fetch { limit: usize },
    CheckHolders,
}

#[derive(Debug, Clone)]
struct Transaction {
    name: String,
    ids: Vec<i64>,
}

/// The database, the relay's reading side, and what was delivered.
#[derive(Default)]
struct World {
    next_id: i64,
    next_name: usize,
    open: Vec<Transaction>,
    visible: BTreeSet<i64>,
    committed: BTreeSet<i64>,
    gaps: Gaps,
    cursor: i64,
    delivered: Vec<i64>,
}

impl World {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Begin => {
                self.next_name += 1;
                self.open.push(Transaction {
                    name: format!("3/{}", self.next_name),
                    ids: Vec::new(),
                });
            }
            Step::Draw(which) => {
                self.next_id += 1;
                let id = self.next_id;
                if let Some(transaction) = self.pick(which) {
                    transaction.ids.push(id);
                }
            }
            Step::Prepare(which) => {
                self.next_name += 1;
                let name = format!("-1/{}", self.next_name);
                if let Some(transaction) = self.pick(which) {
                    transaction.name = name;
                }
            }
            Step::Commit(which) if !self.open.is_empty() => {
                let transaction = self.open.remove(which % self.open.len());
                self.visible.extend(&transaction.ids);
                self.committed.extend(&transaction.ids);
            }
            Step::RollBack(which) if !self.open.is_empty() => {
                self.open.remove(which % self.open.len());
            }
            Step::Commit(_) | Step::RollBack(_) => {}
            Step::Fetch { limit } => self.fetch(limit),
            Step::CheckHolders => self.check(),
        }
    }

    fn pick(&mut self, which: usize) -> Option<&mut Transaction> {
        let count = self.open.len();
        (count > 0).then(|| &mut self.open[which % count])
    }

    fn check(&mut self) {
        self.gaps
            .held(self.open.iter().map(|transaction| transaction.name.clone()));
    }

    /// A fetch as the relay does it: gaps first, both cut by the limit.
    fn fetch(&mut self, limit: usize) {
        let look = self.gaps.look();
        let in_gaps: Vec<i64> = self
            .visible
            .iter()
            .copied()
            .filter(|id| look.iter().any(|r| r.0 <= *id && *id <= r.1))
            .take(limit)
            .collect();
        let above: Vec<i64> = self
            .visible
            .range(self.cursor + 1..)
            .copied()
            .take(limit - in_gaps.len())
            .collect();
        for id in &in_gaps {
            self.gaps.found(*id);
        }
        if in_gaps.len() < limit {
            self.gaps.looked();
        }
        self.gaps.saw(self.cursor, above.iter().copied());
        self.cursor = above.last().copied().unwrap_or(self.cursor);
        for id in in_gaps.into_iter().chain(above) {
            self.visible.remove(&id);
            self.delivered.push(id);
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Begin),
        6 => any::<usize>().prop_map(Step::Draw),
        1 => any::<usize>().prop_map(Step::Prepare),
        3 => any::<usize>().prop_map(Step::Commit),
        1 => any::<usize>().prop_map(Step::RollBack),
        3 => (1..6_usize).prop_map(|limit| Step::Fetch { limit }),
        2 => Just(Step::CheckHolders),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_committed_row_is_found_once_and_nothing_stays_open(steps in steps()) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        while !world.open.is_empty() {
            world.step(&Step::Commit(0));
        }
        // One fetch sees all visible rows; the last gaps end after a check and one more fetch.
        world.fetch(usize::MAX);
        world.check();
        world.fetch(usize::MAX);

        let delivered: BTreeSet<i64> = world.delivered.iter().copied().collect();
        prop_assert_eq!(delivered.len(), world.delivered.len(), "a row was fetched twice");
        prop_assert_eq!(&delivered, &world.committed, "a committed row was lost");
        prop_assert!(world.gaps.is_empty(), "{:?}", world.gaps);
    }

    #[test]
    fn taking_out_keeps_ranges_apart_and_complete(low in -50..50_i64, len in 0..20_i64, out in -60..80_i64) {
        let mut ranges = vec![(low, low + len)];
        let inside = low <= out && out <= low + len;
        prop_assert_eq!(take_out(&mut ranges, out), inside);
        let left: Vec<i64> = ranges.iter().flat_map(|r| r.0..=r.1).collect();
        let expected: Vec<i64> = (low..=low + len).filter(|id| *id != out).collect();
        prop_assert_eq!(left, expected);
    }
}

#[test]
fn a_gap_waits_for_its_candidates_and_for_one_look_after_them() {
    let mut gaps = Gaps::default();
    gaps.saw(0, [1, 5]);
    gaps.held(["3/1".into(), "3/2".into()]);
    gaps.looked();
    assert_eq!(gaps.look(), [(2, 4)], "both may still commit");
    gaps.held(["3/2".into(), "3/9".into()]);
    gaps.looked();
    assert_eq!(
        gaps.look(),
        [(2, 4)],
        "3/9 came later, but 3/2 may still commit"
    );
    gaps.held(["3/9".into()]);
    assert_eq!(
        gaps.look(),
        [(2, 4)],
        "3/2 ended: it may have committed since the last look"
    );
    gaps.looked();
    assert!(gaps.is_empty());
}

#[test]
fn a_candidate_that_is_prepared_goes_on_under_its_new_name() {
    let mut gaps = Gaps::default();
    gaps.saw(0, [2]);
    gaps.held(["3/1".into(), "-1/700".into()]);
    gaps.held(["-1/700".into(), "-1/701".into()]);
    gaps.held(["-1/701".into()]);
    gaps.looked();
    assert_eq!(gaps.look(), [(1, 1)], "3/1 is -1/701 now");
    gaps.held([]);
    gaps.looked();
    assert!(gaps.is_empty());
}

#[test]
fn too_many_gaps_become_one_wide_range_that_ends_with_its_candidates() {
    let mut gaps = Gaps::default();
    gaps.saw(0, (1..=3_000).map(|n| n * 2));
    assert!(gaps.is_wide());
    assert_eq!(gaps.count(), 1);
    assert!(gaps.look().is_empty());
    gaps.looked_wide();
    assert!(gaps.is_wide(), "the holders were not read yet");
    gaps.held(["3/1".into()]);
    gaps.looked_wide();
    assert!(gaps.is_wide(), "3/1 may own it");
    gaps.held([]);
    gaps.looked_wide();
    assert!(gaps.is_empty());
}

#[test]
fn a_cursor_that_goes_back_takes_the_gaps_above_with_it() {
    let mut gaps = Gaps::default();
    gaps.saw(0, [10, 20, 30]);
    gaps.forget_above(14);
    assert_eq!(gaps.look(), [(1, 9), (11, 14)]);
    gaps.held(["3/1".into()]);
    gaps.forget_above(0);
    assert!(gaps.is_empty());
}

#[test]
fn the_ends_of_the_number_line_are_ids_like_others() {
    let mut gaps = Gaps::default();
    gaps.saw(i64::MIN, [i64::MAX]);
    assert_eq!(gaps.look(), [(i64::MIN + 1, i64::MAX - 1)]);
    gaps.saw(i64::MAX, []);
    gaps.found(0);
    assert_eq!(gaps.look(), [(i64::MIN + 1, -1), (1, i64::MAX - 1)]);
}
