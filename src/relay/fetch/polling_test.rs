//! The hints at invented times.

use proptest::prelude::*;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A relay that found a row at each of `count` distances, and the time of the last one.
fn after_rows(count: u32, distance: Duration) -> (Polling, Instant) {
    let begun = Instant::now();
    let mut pace = Polling::new(None, begun);
    let mut now = begun;
    for _ in 0..count {
        now += distance;
        pace.fetched(1, MILLISECOND / 10, now);
    }
    (pace, now)
}

#[test]
fn a_lone_row_is_not_lingered_for() {
    let (pace, now) = after_rows(1, MILLISECOND);
    assert!(!pace.hints(None, now).stay_awake);
}

#[test]
fn the_longer_a_commit_takes_the_fewer_rows_keep_the_relay_awake() {
    let (pace, now) = after_rows(30, 50 * MILLISECOND);
    assert!(!pace.hints(Some(MILLISECOND / 10), now).stay_awake);
    assert!(pace.hints(Some(20 * MILLISECOND), now).stay_awake);
}

#[test]
fn rows_that_come_often_keep_the_relay_awake_until_five_distances_pass_without_one() {
    let (pace, now) = after_rows(2_000, 2 * MILLISECOND);
    let quick = Some(MILLISECOND / 10);
    assert!(pace.hints(quick, now + 9 * MILLISECOND).stay_awake);
    assert!(!pace.hints(quick, now + 12 * MILLISECOND).stay_awake);
}

#[test]
fn weary_is_who_was_refused_for_a_second_without_a_break() {
    let (mut pace, begun) = after_rows(1, MILLISECOND);
    let mut now = begun;
    while now < begun + PATIENCE {
        pace.refused(now);
        assert!(!pace.hints(None, now).block_on_lock, "at {:?}", now - begun);
        now += 20 * MILLISECOND;
    }
    pace.refused(now);
    assert!(pace.hints(None, now).block_on_lock);

    let mut granted = pace.clone();
    granted.granted();
    assert!(!granted.hints(None, now).block_on_lock);

    let later = now + 11 * LONGEST_PAUSE;
    pace.refused(later);
    assert!(
        !pace.hints(None, later).block_on_lock,
        "a break begins a new count"
    );
}

#[test]
fn the_lock_is_not_waited_for_while_rows_come_often() {
    let (mut pace, mut now) = after_rows(2_000, 2 * MILLISECOND);
    for _ in 0..1_000 {
        now += 2 * MILLISECOND;
        pace.refused(now);
        pace.fetched(1, MILLISECOND / 10, now);
        assert!(!pace.hints(None, now).block_on_lock);
    }
}

#[test]
fn a_ring_is_answered_with_the_lock_held_unless_rows_are_close_or_frequent() {
    let (pace, now) = after_rows(1, MILLISECOND);
    assert!(!pace.hints(None, now + 9 * MILLISECOND).keep_lock);
    assert!(pace.hints(None, now + 10 * MILLISECOND).keep_lock);
    let (pace, now) = after_rows(30, 50 * MILLISECOND);
    let later = now + 50 * MILLISECOND;
    assert!(pace.hints(Some(MILLISECOND / 10), later).keep_lock);
    assert!(!pace.hints(Some(20 * MILLISECOND), later).keep_lock);
}

#[test]
fn a_fixed_distance_is_kept_whatever_happens() {
    let now = Instant::now();
    let mut pace = Polling::new(Some(5 * MILLISECOND), now);
    pace.fetched(0, 50 * MILLISECOND, now);
    assert_eq!(pace.pause(), 5 * MILLISECOND);
    assert!(pace.hints(None, now + Duration::from_secs(60)).stay_awake);
}

proptest! {
    #[test]
    fn pauses_grow_while_nothing_comes_and_begin_anew_with_a_row(empty in 1..50usize, took in 0..300u64) {
        let took = Duration::from_micros(took);
        let now = Instant::now();
        let mut pace = Polling::new(None, now);
        let mut before = pace.pause();
        for _ in 0..empty {
            pace.fetched(0, took, now);
            prop_assert!(pace.pause() > before || pace.pause() == LONGEST_PAUSE);
            prop_assert!(pace.pause() <= LONGEST_PAUSE);
            before = pace.pause();
        }
        pace.fetched(1, took, now);
        prop_assert_eq!(pace.pause(), SHORTEST_PAUSE.max(2 * took));
    }

    #[test]
    fn fetches_take_a_third_of_the_time_at_most_until_the_pause_is_longest(rows in 0..2usize, took in 0..40_000u64) {
        let took = Duration::from_micros(took);
        let now = Instant::now();
        let mut pace = Polling::new(None, now);
        pace.fetched(rows, took, now);
        prop_assert!(pace.pause() >= (2 * took).min(LONGEST_PAUSE));
        prop_assert!(pace.pause() <= LONGEST_PAUSE);
    }

    #[test]
    fn who_hears_nothing_for_the_longest_linger_wants_to_sleep(
        rows in 1..100_000usize, fetches in 1..200u32, distance in 0..100u32, commit in 1..50_000u64,
    ) {
        let begun = Instant::now();
        let mut pace = Polling::new(None, begun);
        let mut now = begun;
        for _ in 0..fetches {
            now += distance * MILLISECOND;
            pace.fetched(rows, MILLISECOND, now);
        }
        let commit = Some(Duration::from_micros(commit));
        prop_assert!(!pace.hints(commit, now + STAY_AWAKE.1).stay_awake);
    }
}
