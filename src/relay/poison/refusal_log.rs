//! Log lines of refused rows: the first of a kind at once, the others as a count each minute.

use std::collections::hash_map::Entry;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tracing::{debug, error};

use crate::kafka::Refusal;
use crate::sync::lock;

const INTERVAL: Duration = Duration::from_secs(60);

/// Rows since the last line of their kind.
#[derive(Debug)]
struct Untold {
    told: Instant,
    rows: u64,
    /// The last of them.
    last: (i64, String),
}

/// What is not logged yet, by whether the rows are held and by the code of the reason.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<FxHashMap<(bool, String), Untold>>);

impl RefusalLog {
    /// Logs a refused row, or counts it.
    pub(super) fn add(&self, is_held: bool, id: i64, refusal: &Refusal) {
        let now = Instant::now();
        let mut kinds = lock(&self.0);
        let kind = kinds.entry((is_held, refusal.code.clone()));
        let is_new = matches!(kind, Entry::Vacant(_));
        let it = kind.or_insert_with(|| Untold {
            told: now,
            rows: 0,
            last: Default::default(),
        });
        if is_new || it.rows == 0 && now >= it.told + INTERVAL {
            it.told = now;
            tell(is_held, None, id, &refusal.reason);
        } else {
            (it.rows, it.last) = (it.rows + 1, (id, refusal.reason.clone()));
            debug!(row.id = id, error = refusal.reason, "one more refused row");
        }
    }

    /// When counted rows are to be logged.
    pub(crate) fn due(&self) -> Option<Instant> {
        let kinds = lock(&self.0);
        let untold = kinds.values().filter(|it| it.rows > 0);
        untold.map(|it| it.told + INTERVAL).min()
    }

    /// Logs the rows that were counted and are due by then.
    pub(crate) fn tell(&self, by: Option<Instant>) {
        for ((is_held, _), it) in lock(&self.0).iter_mut() {
            if it.rows > 0 && by.is_none_or(|by| it.told + INTERVAL <= by) {
                tell(*is_held, Some(it.rows), it.last.0, &it.last.1);
                (it.told, it.rows) = (Instant::now(), 0);
            }
        }
    }
}

fn tell(is_held: bool, rows: Option<u64>, id: i64, reason: &str) {
    let words = match is_held {
        true => {
            "Kafka cannot take this row: it stays in the table and is tried again, and later rows of its key wait behind it"
        }
        false => {
            "Kafka cannot take this row: it goes to the dead letters, see `doorbell dead list`"
        }
    };
    error!(rows, row.id = id, error = reason, "{words}");
}
