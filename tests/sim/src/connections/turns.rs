//! smbdirectd's turn for one connection, as the gateway's loop has it. It may die between any two of its steps.

use super::World;
use crate::note;

impl World<'_> {
    /// A turn has so many places to die at.
    pub(super) const GATEWAY_STEPS: u64 = 9;

    pub(super) fn gateway_turn(&mut self, index: usize) {
        self.gateway_steps(index, Self::GATEWAY_STEPS);
    }

    /// What happened, then one `advance`; only its first steps.
    pub(super) fn gateway_steps(&mut self, index: usize, steps: u64) {
        for step in 0..steps {
            let line = &mut self.lines[index];
            let Some(connection) = &mut line.connection else {
                return;
            };
            let (wakes, failed, disconnects) = {
                let queues = line.queues.borrow();
                (queues.wakes, queues.failed, queues.disconnects)
            };
            match step {
                0 if !line.is_established && self.stage.chance.once_in(3) => {
                    line.is_established = true;
                    connection.handle_established(self.now);
                }
                1 if wakes => connection.handle_completions(self.now, &mut self.shared),
                2 => connection.handle_relay(self.now, &mut self.shared),
                3 if connection.deadline().is_some_and(|due| due <= self.now) => {
                    connection.handle_deadline(self.now);
                }
                4 => {
                    // The connection manager tells of the peer's end, or answers this side's.
                    let over = !line.client.is_alive || disconnects;
                    if over && failed && !line.peer_told && self.stage.chance.once_in(2) {
                        note!("connection {index}: disconnected");
                        line.peer_told = true;
                        line.client.is_alive = false;
                        connection.handle_disconnected(self.now, &mut self.shared);
                    }
                }
                5 => connection.advance(self.now, &mut self.shared),
                // The loop looks once more, if it likes, and arms before it sleeps.
                6 => {
                    let looks = self.stage.chance.once_in(3);
                    if looks && connection.look(self.now, &mut self.shared) {
                        connection.advance(self.now, &mut self.shared);
                    }
                }
                7 => {
                    while connection.arm(self.now, &mut self.shared) {
                        connection.advance(self.now, &mut self.shared);
                    }
                }
                8 => self.tell(index),
                _ => {}
            }
        }
    }

    /// Announces a relay, and lets go of a connection that is gone.
    fn tell(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let Some(connection) = &mut line.connection else {
            return;
        };
        if let Some(socket) = connection.take_announcement() {
            note!("connection {index}: is announced");
            let group = line.group;
            return self.fork(group, socket);
        }
        if connection.is_gone(self.now) {
            note!("connection {index}: is gone");
            connection.dismantle(&mut self.shared);
            line.connection = None;
            line.client.is_alive = false;
            self.progress += 1;
        }
    }
}
