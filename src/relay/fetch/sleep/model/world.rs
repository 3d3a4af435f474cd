//! The database's side: writers, their trigger, and the order in which a commit takes effect.

use super::{Bell, Mutant, State};

/// What a transaction or a savepoint in it did. A rollback undoes all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Level {
    pub(super) row: bool,
    pub(super) key: bool,
    pub(super) bell: bool,
}

impl Level {
    fn with(self, other: Self) -> Self {
        Self {
            row: self.row || other.row,
            key: self.key || other.key,
            bell: self.bell || other.bell,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Phase {
    #[default]
    Open,
    Prepared,
    /// Only if a mutant frees or delivers too early: the commit is running and not visible.
    Committing,
    /// Visible. The release of the wake lock and the notifications follow, in any order.
    Committed,
    Ended,
}

/// One writer with one transaction. Writers are kept sorted, so that equal states meet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Writer {
    pub(super) phase: Phase,
    pub(super) silent: bool,
    /// Statements that it may still send.
    left: u8,
    pub(super) level: Level,
    savepoint: Option<Level>,
    /// Its trigger has done its part (for a mutant that remembers).
    remembered: bool,
    /// Relays that its notification still has to reach, a bit each.
    pub(super) rings: u8,
    pub(super) known: bool,
    /// A silent writer was refused: its row waits for the sweep, or for the next ring.
    pub(super) unannounced: bool,
}

impl Writer {
    pub(super) fn new(silent: bool, statements: u8) -> Self {
        Self {
            silent,
            left: statements,
            ..Self::default()
        }
    }

    pub(super) fn holds_key(&self) -> bool {
        self.level.key || self.savepoint.is_some_and(|level| level.key)
    }

    /// Whether its row is in every new snapshot.
    pub(super) fn is_visible(&self) -> bool {
        self.phase == Phase::Committed && self.level.row
    }

    /// Whether its transaction did something and has not ended.
    pub(super) fn is_open(&self) -> bool {
        match self.phase {
            Phase::Open => self.level != Level::default() || self.savepoint.is_some(),
            Phase::Prepared | Phase::Committing => true,
            Phase::Committed => self.level.key || self.rings != 0,
            Phase::Ended => false,
        }
    }

    /// Everything that the transaction did until its end.
    fn whole(&self) -> Level {
        self.level.with(self.savepoint.unwrap_or_default())
    }

    fn current(&mut self) -> &mut Level {
        self.savepoint.as_mut().unwrap_or(&mut self.level)
    }

    fn close(&mut self, phase: Phase) {
        self.level = self.whole();
        (self.savepoint, self.left, self.remembered) = (None, 0, false);
        self.phase = phase;
    }

    /// Forgets what does not matter any more.
    pub(super) fn tidy(&mut self) {
        if self.phase == Phase::Committed && !self.level.row && !self.level.key && self.rings == 0 {
            *self = Self {
                phase: Phase::Ended,
                ..Self::default()
            };
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Insert,
    Savepoint,
    RollBackToSavepoint,
    ReleaseSavepoint,
    Prepare,
    Commit,
    RollBack,
    /// Only after a mutant's `Commit`: the commit becomes visible.
    Appear,
    /// After the commit is visible: the wake lock is released.
    Unlock,
    /// After the commit is visible: its notification reaches a relay.
    Ring(usize),
}

impl Bell {
    pub(super) fn deeds(&self, state: &State, w: usize, mut may: impl FnMut(Deed)) {
        let writer = &state.writers[w];
        match writer.phase {
            Phase::Open => {
                if writer.left > 0 {
                    may(Deed::Insert);
                    match writer.savepoint {
                        Some(_) => may(Deed::RollBackToSavepoint),
                        None if self.savepoints => may(Deed::Savepoint),
                        None => {}
                    }
                }
                if writer.savepoint.is_some() {
                    may(Deed::ReleaseSavepoint);
                }
                if writer.is_open() {
                    may(Deed::Commit);
                    may(Deed::RollBack);
                    if self.prepared && !writer.whole().bell {
                        may(Deed::Prepare);
                    }
                }
            }
            Phase::Prepared => {
                may(Deed::Commit);
                may(Deed::RollBack);
            }
            Phase::Committing => may(Deed::Appear),
            Phase::Committed | Phase::Ended => {}
        }
        let early = writer.phase == Phase::Committing;
        let visible = writer.phase == Phase::Committed;
        if writer.level.key && visible {
            may(Deed::Unlock);
        }
        if visible || (early && self.is(Mutant::RingsBeforeVisible)) {
            (0..2)
                .filter(|relay| writer.rings & (1 << relay) != 0)
                .for_each(|relay| may(Deed::Ring(relay)));
        }
    }

    pub(super) fn write(&self, state: &mut State, w: usize, deed: Deed) {
        match deed {
            Deed::Insert => self.insert(state, w),
            // After a rollback to it, a savepoint is still there, and empty.
            Deed::Savepoint | Deed::RollBackToSavepoint => {
                let writer = &mut state.writers[w];
                writer.left -= 1;
                writer.savepoint = Some(Level::default());
            }
            Deed::ReleaseSavepoint => {
                let writer = &mut state.writers[w];
                writer.level = writer.whole();
                writer.savepoint = None;
            }
            Deed::Prepare => state.writers[w].close(Phase::Prepared),
            Deed::Commit => self.commit(state, w),
            Deed::RollBack => {
                state.writers[w] = Writer {
                    phase: Phase::Ended,
                    ..Writer::default()
                };
            }
            Deed::Appear => state.writers[w].phase = Phase::Committed,
            Deed::Unlock => state.writers[w].level.key = false,
            Deed::Ring(relay) => {
                state.writers[w].rings &= !(1 << relay);
                state.relays[relay].rings = true;
            }
        }
        state.grant();
    }

    fn insert(&self, state: &mut State, w: usize) {
        // A waiting request refuses new ones, as a held lock does.
        let is_free = state.wake_lock.held.is_none() && state.wake_lock.queue.is_empty();
        let writer = &mut state.writers[w];
        writer.left -= 1;
        let granted = writer.holds_key() || is_free;
        let (silent, remembered) = (writer.silent, writer.remembered);
        let level = writer.current();
        level.row = true;
        if self.is(Mutant::TriggerRemembersAcrossSavepoints) && remembered {
            return;
        }
        if !granted {
            level.bell |= !silent;
        } else if !self.is(Mutant::KeyForTheStatementOnly) {
            level.key = true;
        }
        writer.remembered = self.is(Mutant::TriggerRemembersAcrossSavepoints);
    }

    fn commit(&self, state: &mut State, w: usize) {
        let listeners = (0..2)
            .filter(|relay| state.relays[*relay].listening)
            .fold(0, |bits, relay| bits | (1 << relay));
        let writer = &mut state.writers[w];
        writer.close(Phase::Committed);
        if writer.level.bell {
            writer.rings = listeners;
        }
        writer.unannounced = writer.silent && !writer.level.key && !writer.level.bell;
        (writer.level.bell, writer.silent) = (false, false);
        if self.is(Mutant::KeyFreedBeforeVisible) {
            (writer.phase, writer.level.key) = (Phase::Committing, false);
        }
        if self.is(Mutant::RingsBeforeVisible) {
            writer.phase = Phase::Committing;
        }
    }
}
