//! The database's side: the advisory lock K.

use super::State;
use super::relay::Request;
use super::world::Writer;

/// Who asks for K alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Relay(usize),
    /// A session whose relay is gone, which the server has not noticed.
    Gone,
}

/// K as far as it is asked for exclusively. Who holds it shared is written with the writers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) held: Option<Owner>,
    pub(super) queue: Vec<Owner>,
}

impl State {
    pub(super) fn is_shared(&self) -> bool {
        self.writers.iter().any(Writer::holds_key)
    }

    /// Takes K for this owner if it is free or its own.
    pub(super) fn try_lock(&mut self, owner: Owner) -> bool {
        let free = self.key.held.is_none() && self.key.queue.is_empty() && !self.is_shared();
        if free {
            self.key.held = Some(owner);
        }
        self.key.held == Some(owner)
    }

    /// Asks for K and waits.
    pub(super) fn request(&mut self, relay: usize) {
        let owner = Owner::Relay(relay);
        self.relays[relay].request = if self.try_lock(owner) {
            Request::Granted
        } else {
            self.key.queue.push(owner);
            Request::Queued
        };
    }

    pub(super) fn unlock(&mut self, owner: Owner) {
        if self.key.held == Some(owner) {
            self.key.held = None;
        }
        self.grant();
    }

    /// The session is over, as the server sees it.
    pub(super) fn end_session(&mut self, owner: Owner) {
        self.key.queue.retain(|waiting| *waiting != owner);
        self.unlock(owner);
    }

    /// The relay behind a session is gone; the server does not know yet.
    pub(super) fn orphan(&mut self, owner: Owner) {
        let all = self.key.held.iter_mut().chain(&mut self.key.queue);
        all.filter(|one| **one == owner)
            .for_each(|one| *one = Owner::Gone);
    }

    /// Hands K to whoever waits first, once nobody holds it: the server does that while it frees the lock.
    pub(super) fn grant(&mut self) {
        if self.key.held.is_some() || self.key.queue.is_empty() || self.is_shared() {
            return;
        }
        let owner = self.key.queue.remove(0);
        self.key.held = Some(owner);
        if let Owner::Relay(relay) = owner {
            self.relays[relay].request = Request::Granted;
        }
    }
}
