//! Fetches, pauses, waits for the wake lock and sleeps, as `sleep` decides.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{self, sleep_until};

use super::cursor::{CHECK_PATIENCE, WIDE_INTERVAL};
use super::polling::Polling;
use super::scan::{FetchOutcome, Scan};
use super::sleep::{SleepAction, SleepEvent, Sleeper};
use crate::postgres::{Reader, Result, WakeLock};
use crate::relay::clock::{at_time, jittered};
use crate::relay::sessions::{Asked, Pings};
use crate::relay::term_state::{TermEnd, TermState};

/// A relay that stays awake checks the ids below its cursor this often: a writer that sets ids by
/// hand is silent as well.
const CHECK_BELOW: Duration = Duration::from_secs(1);
/// A relay with a backlog checks them this often: they are the more, the longer it lasts.
const CHECK_BELOW_BUSY: Duration = Duration::from_secs(5);
/// A relay that waits for the wake lock checks them this often: hardly any writer is silent then.
const CHECK_BELOW_WAITING: Duration = Duration::from_secs(2);

pub(crate) struct Fetcher {
    pub(crate) scan: Scan,
    pub(crate) rings: watch::Receiver<u64>,
    pub(crate) sweep: Duration,
    pub(crate) polling: Polling,
    pings: Pings,
    sleeper: Sleeper,
    next_ping: time::Instant,
    /// When the reason for the next fetch arose.
    woken: Instant,
}

impl Fetcher {
    pub(crate) fn new(
        scan: Scan,
        rings: watch::Receiver<u64>,
        sweep: Duration,
        polling: Polling,
        pings: Pings,
    ) -> Self {
        Self {
            scan,
            rings,
            sweep,
            polling,
            pings,
            sleeper: Sleeper::begin().0,
            next_ping: pings.first(Asked::WakeLock),
            woken: Instant::now(),
        }
    }

    /// Runs until there are to be no more fetches. Returns the sessions.
    pub(crate) async fn run(mut self, mut wake_lock: WakeLock) -> (Reader, WakeLock) {
        let mut ended = self.fetch_until_halt(&mut wake_lock).await;
        if ended.is_ok() {
            // Writers need not ring from here on: rows in flight may take long to be settled.
            ended = tokio::select! {
                () = self.scan.state.abandon.cancelled() => Ok(()),
                released = wake_lock.release() => released,
            };
        }
        if let Err(error) = ended {
            self.scan.state.end(TermEnd::Session(error));
        }
        (self.scan.reader, wake_lock)
    }

    async fn fetch_until_halt(&mut self, wake_lock: &mut WakeLock) -> Result<()> {
        // An earlier term may have ended while it held the lock.
        wake_lock.release().await?;
        let mut action;
        (self.sleeper, action) = Sleeper::begin();
        loop {
            let event = match action {
                SleepAction::Fetch => {
                    let goes_on = self.sleeper.is_settling()
                        || (self.await_rate(wake_lock).await? && self.do_due().await?);
                    if !goes_on {
                        return Ok(());
                    }
                    self.fetch().await?
                }
                SleepAction::WakeUp => self.wake_up(wake_lock).await?,
                SleepAction::TryLock => Some(self.try_lock(wake_lock).await?),
                SleepAction::Pause => {
                    let until = time::Instant::now() + self.polling.pause();
                    self.scan.cursor.check_within(CHECK_BELOW);
                    self.rest(LockUse::Idle(wake_lock), Some(until)).await?
                }
                SleepAction::WaitForLock => {
                    self.scan.cursor.check_within(CHECK_BELOW_WAITING);
                    self.wait_for_lock(wake_lock).await?
                }
                SleepAction::Sleep => {
                    // Silent writers may have left rows below the cursor while the relay was awake.
                    self.scan.cursor.check_within(Duration::ZERO);
                    self.rest(LockUse::Idle(wake_lock), None).await?
                }
            };
            let Some(event) = event else { return Ok(()) };
            if event == (SleepEvent::Fetched { complete: true })
                && self.scan.end_if_drained().await?
            {
                return Ok(());
            }
            action = self.next(event);
        }
    }

    fn next(&mut self, event: SleepEvent) -> SleepAction {
        let now = Instant::now();
        match event {
            SleepEvent::Rung => {
                self.scan.cursor.swept = None;
                self.scan.active = true;
                self.scan.rung = true;
                self.scan.schedule.look_with_next_fetch();
                self.woken = now;
            }
            SleepEvent::Paused => self.woken = now,
            SleepEvent::Granted => {
                self.polling.granted();
                self.woken = now;
            }
            SleepEvent::Refused | SleepEvent::Fetched { .. } => {}
        }
        let mut hints = self.polling.hints(self.scan.state.commit(), now);
        // Writers would ring for as long as a batch waits for the second stage.
        hints.keep_lock &= self.scan.batches.capacity() > 0;
        let action = self.sleeper.on(event, hints);
        self.scan.counters.bell(self.sleeper.bell());
        action
    }

    async fn fetch(&mut self) -> Result<Option<SleepEvent>> {
        let begun = self.begin_fetch();
        let outcome = if self.sleeper.is_settling() {
            self.scan.settle(self.woken).await?
        } else {
            self.scan.fetch(self.woken).await?
        };
        Ok(self.end_fetch(begun, outcome))
    }

    /// Waits until the rate limit allows a row, and does meanwhile what is due. Returns `false`
    /// when there are to be no more fetches. The fetch that follows answers the rings.
    async fn await_rate(&mut self, wake_lock: &mut WakeLock) -> Result<bool> {
        while let Some(until) = self.scan.rate.due(Instant::now()) {
            self.scan.cursor.check_within(CHECK_BELOW);
            let rest = self.rest(LockUse::Idle(wake_lock), Some(until.into()));
            if rest.await?.is_none() {
                return Ok(false);
            }
            self.scan.active = true;
        }
        Ok(true)
    }

    /// Does what is due between full batches, which leave no time to rest. Returns `false` when
    /// there are to be no more fetches.
    async fn do_due(&mut self) -> Result<bool> {
        let (cursor, now) = (&mut self.scan.cursor, time::Instant::now());
        if cursor.check_due.is_some_and(|due| due <= now) {
            cursor.check_due = None;
            self.scan.check_below(CHECK_PATIENCE).await?;
        }
        Ok(self.scan.cursor.next_sweep > now || self.sweep().await?.is_some())
    }

    async fn sweep(&mut self) -> Result<Option<FetchOutcome>> {
        self.scan.cursor.next_sweep = time::Instant::now() + jittered(self.sweep);
        self.scan.sweep(self.sleeper.is_asleep()).await
    }

    async fn wake_up(&mut self, wake_lock: &mut WakeLock) -> Result<Option<SleepEvent>> {
        let begun = self.begin_fetch();
        let (released, outcome) = tokio::join!(wake_lock.release(), self.scan.fetch(self.woken));
        released?;
        Ok(self.end_fetch(begun, outcome?))
    }

    /// Marks the rings as seen. The snapshot may miss the row of a ring during the fetch.
    fn begin_fetch(&mut self) -> Instant {
        self.rings.borrow_and_update();
        Instant::now()
    }

    fn end_fetch(&mut self, begun: Instant, outcome: Option<FetchOutcome>) -> Option<SleepEvent> {
        let outcome = outcome?;
        let (rows, complete) = (outcome.rows + outcome.due, outcome.complete);
        let now = Instant::now();
        self.polling.fetched(rows, now - begun, now);
        // If the next fetch follows at once, this one is its reason.
        self.woken = now;
        if self.scan.active && self.scan.cursor.gaps.is_wide() {
            self.scan.cursor.check_within(WIDE_INTERVAL);
        }
        if !complete {
            self.scan.cursor.check_within(CHECK_BELOW_BUSY);
        }
        self.scan.active = rows > 0;
        Some(SleepEvent::Fetched { complete })
    }

    async fn try_lock(&mut self, wake_lock: &mut WakeLock) -> Result<SleepEvent> {
        if wake_lock.try_lock().await? {
            return Ok(SleepEvent::Granted);
        }
        self.polling.refused(Instant::now());
        Ok(SleepEvent::Refused)
    }

    /// Waits once for the wake lock, and answers rings meanwhile.
    async fn wait_for_lock(&mut self, wake_lock: &mut WakeLock) -> Result<Option<SleepEvent>> {
        let mut wait = pin!(wake_lock.wait());
        loop {
            let Some(event) = self.rest(LockUse::Waiting(wait.as_mut()), None).await? else {
                // The session can be used again after the answer, which comes within a second.
                return tokio::select! {
                    granted = wait => granted.map(|_| None),
                    () = self.scan.state.abandon.cancelled() => Ok(None),
                };
            };
            if event != SleepEvent::Rung {
                return Ok(Some(event));
            }
            let mut action = self.next(event);
            while action == SleepAction::Fetch {
                match self.fetch().await? {
                    Some(event) => action = self.next(event),
                    None => break,
                }
            }
            if !self.scan.active {
                // The ring was for a row that is not above the cursor.
                self.scan.cursor.check_within(Duration::ZERO);
            }
        }
    }

    /// Waits for a ring, or until then, and does meanwhile what is due; found rows count as a ring.
    /// Returns nothing when there are to be no more fetches.
    async fn rest(
        &mut self,
        mut lock_use: LockUse<'_>,
        until: Option<time::Instant>,
    ) -> Result<Option<SleepEvent>> {
        loop {
            let (look, judge) = (self.scan.cursor.check_due, self.scan.cursor.swept);
            let held_keys_due = self.scan.held_keys_due().map(time::Instant::from_std);
            let timer = self.scan.schedule.timer;
            tokio::select! {
                // Rings may come without end; the others are rare.
                biased;
                () = self.scan.state.halt.cancelled() => return Ok(None),
                () = at_time(look) => {
                    self.scan.cursor.check_due = None;
                    if self.scan.check_below(CHECK_PATIENCE).await? > 0 {
                        return Ok(Some(SleepEvent::Rung));
                    }
                }
                () = held(&self.scan.state, held_keys_due) => match self.scan.retry_held_keys().await? {
                    true if self.scan.cursor.is_behind() || self.scan.drains => return Ok(Some(SleepEvent::Rung)),
                    true => {}
                    false => return Ok(None),
                },
                () = at_time(timer) => match self.scan.fetch_due(Instant::now()).await? {
                    None => return Ok(None),
                    Some(FetchOutcome { complete: true, .. }) if !self.scan.drains => {}
                    Some(_) => return Ok(Some(SleepEvent::Rung)),
                },
                () = at_time(judge.map(|swept| swept.judged)) => self.scan.judge_sweep(),
                () = sleep_until(self.scan.cursor.next_sweep) => match self.sweep().await? {
                    None => return Ok(None),
                    Some(FetchOutcome { complete: true, .. }) => {}
                    Some(FetchOutcome { complete: false, .. }) => return Ok(Some(SleepEvent::Rung)),
                },
                granted = lock_use.answer() => {
                    return Ok(Some(if granted? { SleepEvent::Granted } else { SleepEvent::Refused }));
                }
                () = sleep_until(self.next_ping) => {
                    self.next_ping = time::Instant::now() + self.pings.interval();
                    if let LockUse::Idle(wake_lock) = &mut lock_use {
                        wake_lock.session.ping().await?;
                    }
                }
                // The listener's end of the channel lives as long as the term.
                rung = self.rings.changed() => return Ok(rung.is_ok().then_some(SleepEvent::Rung)),
                () = at_time(until) => return Ok(Some(SleepEvent::Paused)),
            }
        }
    }
}

/// Waits until held keys are due, or have changed.
async fn held(shared: &TermState, held_keys_due: Option<time::Instant>) {
    tokio::select! {
        () = at_time(held_keys_due) => {}
        () = shared.held.notified() => {}
    }
}

/// What the session of the wake lock does while the first stage rests.
enum LockUse<'a> {
    Idle(&'a mut WakeLock),
    Waiting(Pin<&'a mut (dyn Future<Output = Result<bool>> + Send)>),
}

impl LockUse<'_> {
    /// Returns whether the lock was granted. Without a wait, returns only a loss of the session.
    async fn answer(&mut self) -> Result<bool> {
        match self {
            Self::Idle(wake_lock) => Err(wake_lock.session.lost().await),
            Self::Waiting(wait) => wait.as_mut().await,
        }
    }
}
