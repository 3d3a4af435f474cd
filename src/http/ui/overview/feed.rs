//! Samples each outbox once a second, and sends what changed to open pages.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use askama::Template;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::history::History;
use super::several::Several;
use super::view::OutboxPage;
use crate::http::health::OutboxHealth;
use crate::http::ui::Page;
use crate::sync::lock;

/// Open pages that are kept up to date. Each holds a connection, and probes and scrapers must
/// always find a free one.
const MAX_WATCHERS: usize = 16;
/// Time between two samples. A sample costs little, so it is taken even if no page is open: a page
/// that is opened later shows the minutes before.
const INTERVAL: Duration = Duration::from_secs(1);

/// Samples of the last minutes, and a stream of changes for each page: that of the only outbox, or
/// that of all and one for each.
pub(crate) struct Feed {
    histories: Mutex<Vec<History>>,
    /// Changing part of each page, as it was last sent.
    sent: Vec<watch::Receiver<Arc<str>>>,
    permits: Arc<Semaphore>,
}

/// Sending half of the streams of changes.
pub(crate) type Senders = Vec<watch::Sender<Arc<str>>>;

/// Receiving half, for one open page.
pub(crate) struct Watcher {
    sent: watch::Receiver<Arc<str>>,
    _permit: OwnedSemaphorePermit,
}

/// A page that is kept up to date.
#[derive(Template)]
#[template(path = "overview/page.html")]
struct LivePage {
    page: Page,
    title: String,
    /// Name and topic of the outbox; `None` if it is the page of several.
    outbox: Option<(String, String)>,
    /// Address of the stream of changes.
    events: String,
    live: String,
}

/// The changing part of a page.
enum Part {
    One(Box<OutboxPage>),
    Several(Several),
}

impl Part {
    fn render(&self) -> askama::Result<String> {
        match self {
            Self::One(it) => it.render(),
            Self::Several(it) => it.render(),
        }
    }
}

impl Feed {
    pub(crate) fn new(outboxes: usize) -> (Self, Senders) {
        let pages = if outboxes == 1 { 1 } else { 1 + outboxes };
        let channels = (0..pages).map(|_| watch::channel(Arc::from("")));
        let (senders, sent) = channels.unzip();
        let feed = Self {
            histories: Mutex::new((0..outboxes).map(|_| History::default()).collect()),
            sent,
            permits: Arc::new(Semaphore::new(MAX_WATCHERS)),
        };
        (feed, senders)
    }

    /// Samples and sends until it is stopped, which ends the connections of open pages.
    pub(crate) async fn run(
        &self,
        senders: Senders,
        health: impl Fn() -> Vec<OutboxHealth>,
        stop: CancellationToken,
    ) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let outboxes = health();
            self.sample(&outboxes);
            for (at, sender) in senders.iter().enumerate() {
                // One receiver is kept here.
                if sender.receiver_count() > 1
                    && let Ok(live) = self.part(at, &outboxes).render()
                {
                    sender.send_replace(live.into());
                }
            }
        }
    }

    /// Returns the number of the page of an outbox, or of the first one.
    pub(crate) fn number(&self, outboxes: &[OutboxHealth], name: Option<&str>) -> Option<usize> {
        let Some(name) = name else { return Some(0) };
        let at = outboxes.iter().position(|it| it.relay.outbox == name)?;
        Some(if self.sent.len() == 1 { 0 } else { 1 + at })
    }

    pub(crate) fn render(
        &self,
        number: usize,
        page: Page,
        outboxes: &[OutboxHealth],
    ) -> askama::Result<String> {
        let part = self.part(number, outboxes);
        let (title, outbox, path) = match &part {
            Part::One(it) => (it.title(), Some(it.names()), it.state.path.as_str()),
            Part::Several(it) => (it.title(), None, ""),
        };
        LivePage {
            page,
            title,
            outbox,
            events: format!("/page/events{}", path.trim_start_matches("/outbox")),
            live: part.render()?,
        }
        .render()
    }

    /// Returns a stream for one more page; `None` if too many are open.
    pub(crate) fn watch(&self, number: usize) -> Option<Watcher> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let mut sent = self.sent.get(number)?.clone();
        // The last part that was sent may be old.
        sent.mark_unchanged();
        Some(Watcher {
            sent,
            _permit: permit,
        })
    }

    fn sample(&self, outboxes: &[OutboxHealth]) {
        let now = Instant::now();
        for (history, outbox) in self.histories().iter_mut().zip(outboxes) {
            history.add(&outbox.relay, now);
        }
    }

    fn part(&self, number: usize, outboxes: &[OutboxHealth]) -> Part {
        let (histories, is_alone) = (self.histories(), self.sent.len() == 1);
        match number.checked_sub(usize::from(!is_alone)) {
            None => Part::Several(Several::of(outboxes, &histories)),
            Some(at) => Part::One(Box::new(OutboxPage::of(
                &outboxes[at],
                &histories[at],
                is_alone,
            ))),
        }
    }

    fn histories(&self) -> MutexGuard<'_, Vec<History>> {
        lock(&self.histories)
    }
}

impl Watcher {
    /// Waits for a change; `None` if the process ends.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.sent.changed().await.ok()?;
        // An event of the stream may not contain a carriage return.
        Some(self.sent.borrow_and_update().replace('\r', " "))
    }
}
