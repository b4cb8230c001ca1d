//! What the loop does between two turns: it yields, looks once more, arms what shall wake it, and
//! sleeps. A completion queue is armed, which is a system call and brings an event that takes
//! another, only when nothing was found in it and the loop is to sleep.

use std::time::Duration;

use proto::time::Timestamp;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use shm::SystemError;

use super::pace::Beginning;
use super::vigil::LOOKS_FOR;
use super::{Gateway, GatewayError};

/// Where more connections than that have something to do, turns are full as they are.
const LOOKED_AT: usize = 4;

impl Gateway {
    /// Waits until something happens, or a deadline as seen from the turn that ends. Answers when
    /// that is: the only reading of the clock that a turn needs.
    pub(super) fn await_turn(
        &mut self,
        now: Timestamp,
        events: &mut Vec<epoll::Event>,
    ) -> Result<Timestamp, GatewayError> {
        events.clear();
        if !self.look_out(now, events)? {
            // What came before the queues were armed would not wake the loop.
            if !self.arm(now) {
                self.wait(self.until_deadline(now), events)?;
            }
            self.give_way();
        }
        let then = self.now();
        self.vigil.note(then.saturating_duration_since(now));
        Ok(then)
    }

    /// Looks for a moment whether something happens, if that is worth while, and true if it did.
    /// Whoever else wants this processor gets it.
    fn look_out(
        &mut self,
        now: Timestamp,
        events: &mut Vec<epoll::Event>,
    ) -> Result<bool, GatewayError> {
        if self.shares_processor || !self.vigil.is_worth_while() || self.unarmed.len() > LOOKED_AT {
            return Ok(false);
        }
        let until = self.now().saturating_add(LOOKS_FOR);
        loop {
            let found = self.look(now);
            self.wait(Duration::ZERO, events)?;
            if found || !events.is_empty() {
                return Ok(true);
            }
            if self.now() >= until {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }

    /// Looks whether something has completed that the loop would not be told of.
    fn look(&mut self, now: Timestamp) -> bool {
        let unarmed = std::mem::take(&mut self.unarmed);
        let mut found = false;
        for &index in &unarmed {
            if let Some(entry) = self.connections.get_mut(index)
                && entry.connection.look(now, &mut self.shared)
            {
                found = true;
                self.touch(index);
            }
        }
        self.unarmed = unarmed;
        found
    }

    /// Has every connection's next completion wake the loop; true if some had come before.
    fn arm(&mut self, now: Timestamp) -> bool {
        let mut found = false;
        while let Some(index) = self.unarmed.pop() {
            if let Some(entry) = self.connections.get_mut(index) {
                entry.unarmed = false;
                if entry.connection.arm(now, &mut self.shared) {
                    found = true;
                    self.touch(index);
                }
            }
        }
        found
    }

    /// Lets others add to the turn that begins, if that is worth while.
    fn give_way(&mut self) {
        if !self.shares_processor {
            return;
        }
        match self.shared.pace.begin_turn() {
            Beginning::AtOnce => {}
            Beginning::Yield => std::thread::yield_now(),
            Beginning::TimedYield => {
                let before = self.now();
                std::thread::yield_now();
                let took = self.now().saturating_duration_since(before);
                self.shared.pace.note_yield(took);
            }
        }
    }

    fn until_deadline(&self, now: Timestamp) -> Duration {
        let mut until = self.rescan_at;
        if let Some((deadline, _)) = self.deadlines.first() {
            until = until.min(*deadline);
        }
        if let Some(by) = self.shutdown_by {
            until = self.deadlines.first().map_or(by, |(due, _)| by.min(*due));
        }
        // Rounded up: a timer that is looked at too early would only be looked at again.
        until.saturating_duration_since(now) + Duration::from_millis(1)
    }

    fn wait(&self, limit: Duration, events: &mut Vec<epoll::Event>) -> Result<(), GatewayError> {
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let room = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, room, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(SystemError::of("wait for events")(errno).into()),
        }
    }
}
