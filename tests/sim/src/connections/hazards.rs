//! What happens to the connections: a child that takes nothing for a while, and how each one ends.

use std::time::Duration;

use super::request::Flood;
use super::{STEPS_AT_MOST, World};
use crate::note;

/// Less than anybody waits for anything.
pub(super) const STALL: Duration = Duration::from_secs(1);

impl World<'_> {
    /// The first client's child takes nothing from its first answer on, until nothing moves any more; then
    /// a little, and nothing again, so that a ring is full wherever in it the oldest message is.
    pub(super) fn stall(&mut self) {
        self.run(STEPS_AT_MOST, |world| world.lines[0].client.answered > 0);
        let (number, group) = (self.lines[0].client.number, self.lines[0].group);
        let Some(child) = self.child_of(number) else {
            return;
        };
        for _ in 0..2 {
            note!("child {child} takes nothing");
            self.stalled = Some((child, self.now.saturating_add(STALL)));
            self.run(STEPS_AT_MOST, |_| false);
            let others = self.lines.iter().filter(|line| line.group != group);
            for line in others.filter(|line| !line.is_replaced) {
                assert!(
                    line.client.is_content(),
                    "client {} waits for another's child",
                    line.client.number
                );
            }
            let client = &self.lines[0].client;
            if client.floods == Some(Flood::Bytes) && client.has_unsent() {
                self.stage.tally.add("full rings", 1);
            }
            note!("child {child} goes on");
            self.stalled = None;
            for _ in 0..self.stage.chance.below(12) {
                self.child_turn(child);
            }
        }
        if let Some(child) = self.children.get_mut(&child) {
            child.resume(self.stage);
        }
    }

    /// One end after the other, each in its way.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            if line.is_replaced {
                continue;
            }
            let number = line.client.number;
            let child = self.child_of(number);
            let line = &mut self.lines[index];
            match self.stage.chance.below(4) {
                0 => {
                    note!("client {number} vanishes");
                    self.stage.tally.add("vanished clients", 1);
                    line.client.is_alive = false;
                    self.fail(index);
                }
                1 => {
                    note!("the child of client {number} dies");
                    self.stage.tally.add("dead children", 1);
                    child.and_then(|child| self.children.remove(&child));
                }
                2 => {
                    note!("the child of client {number} closes");
                    if let Some(child) = child.and_then(|child| self.children.get_mut(&child)) {
                        child.close(number);
                    }
                }
                _ => {
                    note!("the device removes connection {number}");
                    self.stage.tally.add("removed devices", 1);
                    if let Some(connection) = &mut line.connection {
                        connection.handle_device_removal(self.now);
                        line.client.is_alive = false;
                    }
                }
            }
            let steps = self.stage.chance.below(60);
            self.run(steps, |_| false);
        }
        // Whoever was never announced, or whose child closed nothing, goes in the end.
        for index in 0..self.lines.len() {
            self.lines[index].client.is_alive = false;
            self.fail(index);
        }
        self.run(STEPS_AT_MOST, |world| {
            world.lines.iter().all(|line| line.connection.is_none())
        });
        for line in &self.lines {
            assert!(
                line.connection.is_none(),
                "connection {} never ends",
                line.client.number
            );
        }
    }
}
