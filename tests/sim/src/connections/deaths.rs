//! Connections that are lost while others go on, and the death of smbdirectd between any two steps of a
//! turn: its sockets are closed at once, but what it posted that names a child's memory goes on until the
//! kernel is done with its queue pairs, later, when another one serves already. Clients connect again,
//! read back what they have written, and ask once more for what was not answered.

use std::collections::BTreeSet;

use super::{Line, World, begin};
use crate::note;
use crate::run::Sabotage;

impl World<'_> {
    pub(super) fn kill(&mut self) {
        let index = self.stage.chance.index(self.lines.len());
        let steps = self.stage.chance.below(Self::GATEWAY_STEPS + 1);
        self.gateway_steps(index, steps);
        note!("smbdirectd dies behind step {steps} of a turn for connection {index}");
        self.stage.tally.add("dead smbdirectds", 1);
        let is_heard = !self.stage.goes_wrong(Sabotage::UnheardDeath, 1);
        for line in &mut self.lines {
            let Some(connection) = line.connection.take() else {
                continue;
            };
            if let Some((relay, _)) = connection.relay()
                && !is_heard
            {
                self.unheard.extend(relay.try_clone_to_owned());
            }
            // The connection goes, what it posted does not.
            let mut queues = line.queues.take();
            drop(connection);
            let left = queues.orphan();
            line.queues.replace(queues);
            line.is_lost = !line.is_replaced;
            self.stage
                .tally
                .add("requests that outlive smbdirectd", left);
        }
        let next = begin(self.shared.limits.clone());
        self.remains.push(std::mem::replace(&mut self.shared, next));
        self.smbdirectd += 1;
    }

    /// A client's connection is lost, while others go on: at the device, or its child hangs up or dies.
    pub(super) fn lose(&mut self) {
        let mut lines: Vec<usize> = (0..self.lines.len()).collect();
        lines.retain(|index| {
            let line = &self.lines[*index];
            !line.is_replaced && !line.is_lost && line.client.is_alive
        });
        let reads = |index: &usize| self.lines[*index].queues.borrow().has_reads();
        let index = match lines.iter().copied().find(reads) {
            Some(index) => index,
            None if lines.is_empty() => return,
            None => self.stage.chance.one_of(&lines),
        };
        let client = self.lines[index].client.number;
        let child = self.child_of(client);
        match (child, self.stage.chance.below(4)) {
            (Some(child), 0) => {
                note!("child {child} dies");
                self.stage.tally.add("children that die among others", 1);
                self.children.remove(&child);
                self.child_died = true;
                return;
            }
            (Some(child), 1) => {
                let child = self.children.get_mut(&child);
                if child.is_some_and(|child| child.hang_up(client, self.smbdirectd)) {
                    note!("the child hangs up on connection {index}");
                    self.stage.tally.add("children that hang up", 1);
                    self.lines[index].is_lost = true;
                    self.lines[index].is_hung_up = true;
                    return;
                }
            }
            _ => {}
        }
        let line = &mut self.lines[index];
        line.is_lost = true;
        note!("connection {index} is lost");
        self.stage.tally.add("lost connections", 1);
        line.client.is_alive = false;
        self.fail(index);
    }

    /// The kernel has destroyed the queue pairs.
    pub(super) fn bury(&mut self) {
        note!("nothing is left of it");
        for line in self.lines.iter().filter(|line| line.connection.is_none()) {
            line.queues.borrow_mut().bury();
        }
        self.remains.clear();
    }

    pub(super) fn reconnect(&mut self, index: usize) {
        let line = &mut self.lines[index];
        note!("client {} connects again", line.client.number);
        self.progress += 1;
        self.stage.tally.add("clients that connect again", 1);
        line.is_lost = false;
        line.is_replaced = true;
        let (group, lost) = (line.group, line.client.lose());
        self.connect(group, |can_invalidate, chance, now| {
            lost.connect_again(can_invalidate, chance, now)
        });
    }

    /// A child has given up what it had of those that died, and that alone.
    pub(super) fn check_children(&mut self) {
        let children: Vec<u64> = self.children.keys().copied().collect();
        for number in children {
            self.child_turn(number);
            let served = self.children.get(&number).map(|child| &child.served);
            for served in served.into_iter().flatten() {
                assert_eq!(
                    served.smbdirectd, self.smbdirectd,
                    "child {number} holds on to a channel of client {} to a smbdirectd that is dead",
                    served.client
                );
            }
        }
        let lines = self.lines.iter().filter(|line| !line.is_replaced);
        // What a dead child served may not have ended yet.
        let is_up = |line: &&Line| line.connection.is_some() && !self.child_died;
        for line in lines.filter(is_up) {
            let number = line.client.number;
            let child = self.children.values().find(|child| child.serves(number));
            let mut served = child.into_iter().flat_map(|child| &child.served);
            assert!(
                served.any(|served| served.client == number && !served.ended),
                "the child of client {number} has dropped a channel that is up"
            );
        }
        let mut owners = BTreeSet::new();
        for child in self.children.values() {
            child.check_count();
            assert!(
                child.served.is_empty() || owners.insert(child.group),
                "two processes serve a client"
            );
        }
    }
}
