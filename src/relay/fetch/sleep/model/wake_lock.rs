//! The database's side: the wake lock, an advisory lock.

use super::State;
use super::relay::Request;
use super::world::Writer;

/// A session that asks for the wake lock exclusively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Relay(usize),
    /// A session whose relay is gone, before the server notices.
    Gone,
}

/// The exclusive requests for the wake lock. The writers record who holds it shared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct WakeLock {
    pub(super) held: Option<Owner>,
    pub(super) queue: Vec<Owner>,
}

impl State {
    pub(super) fn is_shared(&self) -> bool {
        self.writers.iter().any(Writer::holds_key)
    }

    /// Takes the wake lock for this owner, if it is free or the owner holds it.
    pub(super) fn try_lock(&mut self, owner: Owner) -> bool {
        let free =
            self.wake_lock.held.is_none() && self.wake_lock.queue.is_empty() && !self.is_shared();
        if free {
            self.wake_lock.held = Some(owner);
        }
        self.wake_lock.held == Some(owner)
    }

    pub(super) fn request(&mut self, relay: usize) {
        let owner = Owner::Relay(relay);
        self.relays[relay].request = if self.try_lock(owner) {
            Request::Granted
        } else {
            self.wake_lock.queue.push(owner);
            Request::Queued
        };
    }

    pub(super) fn unlock(&mut self, owner: Owner) {
        if self.wake_lock.held == Some(owner) {
            self.wake_lock.held = None;
        }
        self.grant();
    }

    pub(super) fn end_session(&mut self, owner: Owner) {
        self.wake_lock.queue.retain(|waiting| *waiting != owner);
        self.unlock(owner);
    }

    /// Ends the relay of a session, before the server notices.
    pub(super) fn orphan(&mut self, owner: Owner) {
        let WakeLock { held, queue } = &mut self.wake_lock;
        let theirs = held.iter_mut().chain(queue).filter(|one| **one == owner);
        theirs.for_each(|one| *one = Owner::Gone);
    }

    /// Grants a free wake lock to the first in the queue, as the server does on freeing it.
    pub(super) fn grant(&mut self) {
        if self.wake_lock.held.is_some() || self.wake_lock.queue.is_empty() || self.is_shared() {
            return;
        }
        let owner = self.wake_lock.queue.remove(0);
        self.wake_lock.held = Some(owner);
        if let Owner::Relay(relay) = owner {
            self.relays[relay].request = Request::Granted;
        }
    }
}
