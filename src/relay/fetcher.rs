//! First stage: when to look into the table. It does what `doze` says.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{self, sleep_until};

use super::doze::{Action, Doze, Event};
use super::pace::Pace;
use super::position::WIDE_INTERVAL;
use super::scan::{Catch, Scan, at_time};
use super::shared::{Asked, Ending, Pings, Shared};
use crate::postgres::{Key, Reader, Result};

/// A relay that stays awake looks over the ids below its cursor this often: a writer that gives ids by hand is silent as well.
const LOW_LOOK: Duration = Duration::from_secs(1);
/// While it waits for K it does so this often: hardly anybody is silent then.
const LOW_LOOK_WAITING: Duration = Duration::from_secs(2);

/// What the first stage holds.
pub(crate) struct Fetcher {
    pub(crate) scan: Scan,
    pub(crate) rings: watch::Receiver<u64>,
    pub(crate) sweep: Duration,
    pub(crate) pace: Pace,
    pings: Pings,
    doze: Doze,
    next_ping: time::Instant,
    /// When the reason for the next fetch came.
    woken: Instant,
}

impl Fetcher {
    pub(crate) fn new(
        scan: Scan,
        rings: watch::Receiver<u64>,
        sweep: Duration,
        pace: Pace,
        pings: Pings,
    ) -> Self {
        let (doze, _) = Doze::begin();
        Self {
            scan,
            rings,
            sweep,
            pace,
            pings,
            doze,
            next_ping: pings.first(Asked::Key),
            woken: Instant::now(),
        }
    }

    /// Runs until there are to be no more fetches; gives the sessions back.
    pub(crate) async fn run(mut self, mut key: Key) -> (Reader, Key) {
        let mut ended = self.fetch_until_halt(&mut key).await;
        if ended.is_ok() {
            // Nobody comes by from here on, so nobody has to ring: what is in flight may take long to be settled.
            ended = tokio::select! {
                () = self.scan.shared.abandon.cancelled() => Ok(()),
                released = key.release() => released,
            };
        }
        if let Err(error) = ended {
            self.scan.shared.end(Ending::Session(error));
        }
        (self.scan.reader, key)
    }

    async fn fetch_until_halt(&mut self, key: &mut Key) -> Result<()> {
        // An earlier term may have ended asleep.
        key.release().await?;
        let (doze, mut action) = Doze::begin();
        self.doze = doze;
        loop {
            let event = match action {
                Action::Fetch => {
                    if !self.doze.is_settling() && !self.await_rate(key).await? {
                        return Ok(());
                    }
                    self.fetch().await?
                }
                Action::WakeUp => self.wake_up(key).await?,
                Action::TryLock => Some(self.try_lock(key).await?),
                Action::Pause => {
                    let until = time::Instant::now() + self.pace.pause();
                    self.scan.at.look_within(LOW_LOOK);
                    self.rest(Hold::Key(key), Some(until)).await?
                }
                Action::WaitForLock => {
                    self.scan.at.look_within(LOW_LOOK_WAITING);
                    self.wait_for_lock(key).await?
                }
                Action::Sleep => {
                    // Silent writers may have left rows below the cursor while the relay was awake.
                    self.scan.at.look_within(Duration::ZERO);
                    self.rest(Hold::Key(key), None).await?
                }
            };
            let event = match event {
                Some(event) => event,
                None => return Ok(()),
            };
            if event == (Event::Fetched { complete: true }) && self.scan.end_if_drained().await? {
                return Ok(());
            }
            action = self.next(event);
        }
    }

    fn next(&mut self, event: Event) -> Action {
        let now = Instant::now();
        match event {
            Event::Rung => {
                self.scan.at.swept = None;
                self.scan.stirred = true;
                self.scan.rung = true;
                self.woken = now;
            }
            Event::Paused => self.woken = now,
            Event::Granted => self.pace.granted(),
            Event::Refused | Event::Fetched { .. } => {}
        }
        let mood = self.pace.mood(self.scan.shared.commit(), now);
        let action = self.doze.on(event, mood);
        self.scan.counters.bell(self.doze.bell());
        action
    }

    async fn fetch(&mut self) -> Result<Option<Event>> {
        let begun = self.begin_fetch();
        let catch = if self.doze.is_settling() {
            self.scan.settle().await?
        } else {
            self.scan.fetch(self.woken).await?
        };
        Ok(self.end_fetch(begun, catch))
    }

    /// Waits until the rate allows a row, and does meanwhile what is due; `false`: no more fetches. What rings is answered by the fetch that follows.
    async fn await_rate(&mut self, key: &mut Key) -> Result<bool> {
        while let Some(until) = self.scan.rate.due(Instant::now()) {
            self.scan.at.look_within(LOW_LOOK);
            let rested = self.rest(Hold::Key(key), Some(until.into())).await?;
            if rested.is_none() {
                return Ok(false);
            }
            self.scan.stirred = true;
        }
        Ok(true)
    }

    async fn wake_up(&mut self, key: &mut Key) -> Result<Option<Event>> {
        let begun = self.begin_fetch();
        let (released, catch) = tokio::join!(key.release(), self.scan.fetch(self.woken));
        released?;
        Ok(self.end_fetch(begun, catch?))
    }

    /// A ring during the fetch is unseen afterwards: it may be for a row that the fetch's snapshot did not have.
    fn begin_fetch(&mut self) -> Instant {
        self.rings.borrow_and_update();
        Instant::now()
    }

    fn end_fetch(&mut self, begun: Instant, catch: Option<Catch>) -> Option<Event> {
        let Catch { rows, complete } = catch?;
        let now = Instant::now();
        self.pace.fetched(rows, now - begun, now);
        // The next fetch, if it follows at once, has no other reason than this one.
        self.woken = now;
        if self.scan.stirred && self.scan.at.gaps.is_wide() {
            self.scan.at.look_within(WIDE_INTERVAL);
        }
        self.scan.stirred = rows > 0;
        Some(Event::Fetched { complete })
    }

    async fn try_lock(&mut self, key: &mut Key) -> Result<Event> {
        if key.try_lock().await? {
            return Ok(Event::Granted);
        }
        self.pace.refused(Instant::now());
        Ok(Event::Refused)
    }

    /// One wait for K. Rings are answered meanwhile.
    async fn wait_for_lock(&mut self, key: &mut Key) -> Result<Option<Event>> {
        let mut wait = pin!(key.wait());
        loop {
            let Some(event) = self.rest(Hold::Wait(wait.as_mut()), None).await? else {
                // The session is of use again once it has its answer, which comes within a second.
                return tokio::select! {
                    granted = wait => granted.map(|_| None),
                    () = self.scan.shared.abandon.cancelled() => Ok(None),
                };
            };
            if event != Event::Rung {
                return Ok(Some(event));
            }
            let mut action = self.next(event);
            while action == Action::Fetch {
                match self.fetch().await? {
                    Some(event) => action = self.next(event),
                    None => break,
                }
            }
            if !self.scan.stirred {
                // It rang for a row that is not above the cursor.
                self.scan.at.look_within(Duration::ZERO);
            }
        }
    }

    /// Waits for a ring, or until then. What is due meanwhile is done; what finds rows is as good as a ring. `None`: no more fetches.
    async fn rest(
        &mut self,
        mut hold: Hold<'_>,
        until: Option<time::Instant>,
    ) -> Result<Option<Event>> {
        loop {
            let (look, judge) = (self.scan.at.look_due, self.scan.at.swept);
            let next_tending = self.scan.next_tending().map(time::Instant::from_std);
            tokio::select! {
                // Rings may come without end; the others are rare by themselves.
                biased;
                () = self.scan.shared.halt.cancelled() => return Ok(None),
                () = at_time(look) => {
                    self.scan.at.look_due = None;
                    if self.scan.look_below().await? > 0 {
                        return Ok(Some(Event::Rung));
                    }
                }
                () = held(&self.scan.shared, next_tending) => match self.scan.tend().await? {
                    true if self.scan.at.is_behind() => return Ok(Some(Event::Rung)),
                    true => {}
                    false => return Ok(None),
                },
                () = at_time(judge.map(|swept| swept.judged)) => self.scan.judge_sweep(),
                () = sleep_until(self.scan.at.next_sweep) => {
                    self.scan.at.next_sweep = time::Instant::now() + jittered(self.sweep);
                    match self.scan.sweep(self.doze.is_asleep()).await? {
                        None => return Ok(None),
                        Some(Catch { complete: true, .. }) => {}
                        Some(Catch { complete: false, .. }) => return Ok(Some(Event::Rung)),
                    }
                }
                granted = hold.answer() => {
                    return Ok(Some(if granted? { Event::Granted } else { Event::Refused }));
                }
                () = sleep_until(self.next_ping) => {
                    self.next_ping = time::Instant::now() + self.pings.interval();
                    if let Hold::Key(key) = &mut hold {
                        key.ping().await?;
                    }
                }
                // The sender lives as long as the term; if it is gone, so is the term.
                rung = self.rings.changed() => return Ok(rung.is_ok().then_some(Event::Rung)),
                () = at_time(until) => return Ok(Some(Event::Paused)),
            }
        }
    }
}

/// Waits until the keys that wait are to be looked after, or something about the keys that wait has changed.
async fn held(shared: &Shared, next_tending: Option<time::Instant>) {
    tokio::select! {
        () = at_time(next_tending) => {}
        () = shared.held.notified() => {}
    }
}

/// Several relays that were started together do not sweep together: a tenth more or less.
pub(crate) fn jittered(sweep: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    sweep.mul_f64(0.9 + f64::from(nanos % 1_000) / 5_000.0)
}

/// What the session of K does while the first stage rests.
enum Hold<'a> {
    /// Nothing.
    Key(&'a mut Key),
    /// It waits for K.
    Wait(Pin<&'a mut (dyn Future<Output = Result<bool>> + Send)>),
}

impl Hold<'_> {
    /// Whether K was granted; where nobody waits for it, only the loss of the session.
    async fn answer(&mut self) -> Result<bool> {
        match self {
            Self::Key(key) => Err(key.lost().await),
            Self::Wait(wait) => wait.as_mut().await,
        }
    }
}
