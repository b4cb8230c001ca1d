//! What the simulated device and the wire do, one request, completion or message at a time.

use super::World;
use super::request::Kind;
use crate::note;
use crate::rdma::{Landing, Operation, Status};
use crate::run::Sabotage;

impl World<'_> {
    pub(super) fn carry(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let mut queues = line.queues.borrow_mut();
        let Some(request) = queues.take_request() else {
            return;
        };
        self.progress += 1;
        note!("connection {index}: request {} is carried out", request.id);
        if let Operation::Read { .. } = request.operation {
            return queues.begin_read(request);
        }
        let Some(mut bytes) = queues.gather(&request) else {
            panic!("request {} names memory that is not registered", request.id);
        };
        let early = self.stage.goes_wrong(Sabotage::EarlyCompletion, 30);
        if early {
            bytes.fill(0xDD);
        }
        match request.operation {
            Operation::Send { .. } => {
                if self.stage.goes_wrong(Sabotage::LostMessage, 60) {
                    return queues.complete(&request, Status::Success);
                }
                let Some(left) = line.client.receives.checked_sub(1) else {
                    panic!("smbdirectd sends to client {index} without a credit");
                };
                if let Operation::Send {
                    invalidate: Some(token),
                } = request.operation
                    && !self.stage.goes_wrong(Sabotage::KeptToken, 10)
                {
                    line.client.invalidate(token);
                    self.stage.tally.add("invalidated tokens", 1);
                }
                line.client.receives = left;
                line.client.arrived.push_back(bytes);
            }
            Operation::Write { address, token } => {
                let stray = self.stage.goes_wrong(Sabotage::StrayBytes, 10);
                let start = address as usize + usize::from(stray);
                let memory = line.client.memory(token, Kind::Read);
                let end = memory.len().min(start + bytes.len());
                let length = end.saturating_sub(start);
                memory[start.min(end)..end].copy_from_slice(&bytes[..length]);
            }
            Operation::Read { .. } => {}
        }
        if !self.stage.goes_wrong(Sabotage::NeverReported, 60) {
            queues.complete(&request, Status::Success);
        }
    }

    pub(super) fn answer_read(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let mut queues = line.queues.borrow_mut();
        // What lingers does so for a while.
        if queues.failed && !self.stage.chance.once_in(8) {
            return;
        }
        let Some(request) = queues.take_read() else {
            return;
        };
        let Operation::Read { address, token } = request.operation else {
            return;
        };
        self.progress += 1;
        if queues.failed && self.stage.chance.once_in(3) {
            return queues.end_read(&request);
        }
        note!("connection {index}: READ {} is answered", request.id);
        let length = request.first.length() + request.second.map_or(0, |second| second.length());
        let memory = line.client.memory(token, Kind::Write);
        let start = address as usize;
        let mut bytes = memory[start..start + length as usize].to_vec();
        if self.stage.goes_wrong(Sabotage::StrayBytes, 10) {
            bytes.rotate_left(1);
        }
        assert!(
            queues.scatter(&request, &bytes).is_some(),
            "READ {} names memory that is not registered",
            request.id
        );
        if queues.failed {
            self.stage.tally.add("READs that end behind the end", 1);
            return queues.end_read(&request);
        }
        queues.complete(&request, Status::Success);
    }

    pub(super) fn deliver(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let Some(bytes) = line.client.wire.pop_front() else {
            return;
        };
        self.progress += 1;
        let forgotten = self.stage.goes_wrong(Sabotage::ForgottenReceive, 30);
        let landing = match forgotten {
            true => Landing::NoReceive,
            false => line.queues.borrow_mut().land(bytes),
        };
        match landing {
            Landing::Taken => line.client.acknowledged += 1,
            Landing::Dead => {}
            Landing::NoReceive => {
                panic!("smbdirectd granted client {index} a credit for a receive that is not there")
            }
            Landing::TooLong => panic!("a message is longer than the receive of client {index}"),
        }
    }

    /// The queue pair's peer is gone.
    pub(super) fn fail(&mut self, index: usize) {
        let mut queues = self.lines[index].queues.borrow_mut();
        // As no device should and some do: then destroying the queue pair ends it.
        if self.stage.chance.once_in(10) {
            self.stage.tally.add("devices that keep requests", 1);
            queues.failed = true;
        } else {
            queues.fail();
        }
    }
}
