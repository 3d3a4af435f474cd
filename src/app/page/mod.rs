//! The page: whether rows flow, how far behind they are, what is wrong and who leads, in one look. Made from what the process knows; it asks the database
//! nothing. Behind it are pages that do, each time they are opened.
//!
//! | file | what |
//! |---|---|
//! | `history` | the last five minutes, a sample a second |
//! | `chart` | a history as SVG |
//! | `view` | all of it in words, for the templates |
//! | `page.html`, `live.html` | the page, and the part of it that changes |
//! | `letters`, `relays`, `note` | the pages of dead letters, of leader and standbys, and of what cannot be |
//! | `frame.html` | what those have around them |

mod chart;
mod history;
mod letters;
mod note;
mod relays;
mod view;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use askama::Template as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::history::History;
use self::view::{Live, Whole};
use super::http::Judged;

pub(super) use self::letters::{Access, Confirmation, Found, LetterPage};
pub(super) use self::note::note;
pub(super) use self::relays::{Led, RelayPage};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// Pages that are kept up to date at the same time; each holds a connection, and probes and scrapers shall always find one.
const WATCHERS: usize = 16;
/// Between two samples. One costs little, so it is taken whether somebody watches or not: who opens the page sees what came before.
const BEAT: Duration = Duration::from_secs(1);

/// What the page is made from.
pub(super) struct Page {
    histories: Mutex<Vec<History>>,
    /// The part that changes, as it was last sent to those who watch.
    sent: watch::Receiver<Arc<str>>,
    room: Arc<Semaphore>,
}

/// Where what is sent to those who watch comes from.
pub(super) type Sender = watch::Sender<Arc<str>>;

/// Somebody who watches.
pub(super) struct Watcher {
    sent: watch::Receiver<Arc<str>>,
    _room: OwnedSemaphorePermit,
}

impl Page {
    pub(super) fn new() -> (Self, Sender) {
        let (sender, sent) = watch::channel(Arc::from(""));
        let page = Self {
            histories: Mutex::default(),
            sent,
            room: Arc::new(Semaphore::new(WATCHERS)),
        };
        (page, sender)
    }

    /// Samples until it is to stop, and tells those who watch. Its end is the end of their connections.
    pub(super) async fn live(
        &self,
        sender: Sender,
        judged: impl Fn() -> Vec<Judged>,
        stop: CancellationToken,
    ) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = stop.cancelled() => return,
            }
            let outboxes = judged();
            self.sample(&outboxes);
            if self.room.available_permits() < WATCHERS
                && let Ok(live) = self.part(&outboxes).render()
            {
                sender.send_replace(live.into());
            }
        }
    }

    /// The whole page.
    pub(super) fn render(&self, outboxes: &[Judged]) -> askama::Result<String> {
        let live = self.part(outboxes);
        Whole {
            title: live.title(),
            live: live.render()?,
        }
        .render()
    }

    /// One more who watches; `None`: there are too many.
    pub(super) fn watch(&self) -> Option<Watcher> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let mut sent = self.sent.clone();
        // What was sent last may be old.
        sent.mark_unchanged();
        Some(Watcher { sent, _room: room })
    }

    fn sample(&self, outboxes: &[Judged]) {
        let now = Instant::now();
        let mut histories = self.histories();
        histories.resize_with(outboxes.len(), History::default);
        for (history, outbox) in histories.iter_mut().zip(outboxes) {
            history.add(&outbox.relay, now);
        }
    }

    fn part(&self, outboxes: &[Judged]) -> Live {
        let mut histories = self.histories();
        histories.resize_with(outboxes.len(), History::default);
        Live::of(outboxes.iter().zip(histories.iter()))
    }

    fn histories(&self) -> std::sync::MutexGuard<'_, Vec<History>> {
        self.histories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// What is new; `None`: the process ends.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.sent.changed().await.ok()?;
        // An event of the stream may not have it.
        Some(self.sent.borrow_and_update().replace('\r', " "))
    }
}
