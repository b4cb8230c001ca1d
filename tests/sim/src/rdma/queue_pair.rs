//! A queue pair whose queues lie open to the simulation: it takes the oldest request, carries it out,
//! and says when its completion may be seen. Every request and every receive that is posted is given
//! back once, flushed if need be.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use shm::SystemError;

use super::device::{Identifier, ProtectionDomain};
use super::memory_region::count_queue_pair;
use super::receive_buffers::{Arrival, ReceiveBuffers};
use super::work_request::{Operation, WorkRequest};

#[derive(Debug, Clone, Copy)]
pub struct QueuePairLimits {
    pub send: u32,
    pub receive: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Success,
    Flushed,
    Failed(u32, &'static str),
}

#[derive(Debug, Clone, Copy)]
pub struct Completion {
    pub id: u64,
    pub status: Status,
    pub receive: bool,
    pub length: u32,
}

#[derive(Debug)]
pub struct PostError {
    pub posted: usize,
    pub error: SystemError,
}

#[derive(Debug)]
struct Receive {
    index: u32,
    capacity: u32,
    arrival: Arrival,
}

/// What the device has of one connection.
#[derive(Debug, Default)]
pub struct Queues {
    domain: u64,
    limits: Option<QueuePairLimits>,
    send: VecDeque<WorkRequest>,
    /// READs the peer has not answered yet.
    reads: VecDeque<WorkRequest>,
    /// READs behind those when the end came.
    unsent: Vec<WorkRequest>,
    receives: VecDeque<Receive>,
    /// Of requests that are done, and not seen yet; and those that may be seen.
    hidden: VecDeque<Completion>,
    hidden_receives: VecDeque<Completion>,
    visible: VecDeque<Completion>,
    /// The next completion wakes; the next end of a send does.
    armed: bool,
    sends_wake: bool,
    quiet: bool,
    /// The owner is to look at its completions.
    pub wakes: bool,
    pub failed: bool,
    pub destroyed: bool,
    /// The owner has asked for the end.
    pub disconnects: bool,
    /// What READs bring may still arrive after the end, until they are said to be flushed.
    lingers: bool,
    /// The owner's process is dead.
    is_orphaned: bool,
}

/// What the peer sends to its receive.
#[derive(Debug, PartialEq, Eq)]
pub enum Landing {
    Taken,
    NoReceive,
    TooLong,
    Dead,
}

impl Queues {
    pub fn new(lingers: bool) -> Queues {
        Queues {
            lingers,
            ..Queues::default()
        }
    }

    /// The oldest request, to be carried out now.
    pub fn take_request(&mut self) -> Option<WorkRequest> {
        self.send.pop_front()
    }

    pub fn oldest_is_read(&self) -> bool {
        let oldest = self.send.front();
        oldest.is_some_and(|request| matches!(request.operation, Operation::Read { .. }))
    }

    pub fn has_requests(&self) -> bool {
        !self.send.is_empty()
    }

    pub fn has_reads(&self) -> bool {
        !self.reads.is_empty()
    }

    /// A READ is on its way to the peer.
    pub fn begin_read(&mut self, request: WorkRequest) {
        self.reads.push_back(request);
    }

    pub fn take_read(&mut self) -> Option<WorkRequest> {
        self.reads.pop_front()
    }

    /// The bytes of a request now, as the device reads them.
    pub fn gather(&self, request: &WorkRequest) -> Option<Vec<u8>> {
        request.gather(self.domain)
    }

    pub fn scatter(&self, request: &WorkRequest, bytes: &[u8]) -> Option<()> {
        request.scatter(self.domain, bytes)
    }

    /// A request is done.
    pub fn complete(&mut self, request: &WorkRequest, status: Status) {
        if request.signaled || status != Status::Success {
            self.hidden.push_back(Completion {
                id: request.id,
                status,
                receive: false,
                length: 0,
            });
        }
    }

    /// The peer's message arrives.
    pub fn land(&mut self, bytes: Vec<u8>) -> Landing {
        if self.failed || self.is_orphaned {
            return Landing::Dead;
        }
        let Some(receive) = self.receives.pop_front() else {
            return Landing::NoReceive;
        };
        let length = bytes.len() as u32;
        if length > receive.capacity {
            return Landing::TooLong;
        }
        let _ = receive.arrival.set(bytes);
        self.hidden_receives.push_back(Completion {
            id: receive.index.into(),
            status: Status::Success,
            receive: true,
            length,
        });
        Landing::Taken
    }

    pub fn has_hidden(&self) -> [bool; 2] {
        [!self.hidden.is_empty(), !self.hidden_receives.is_empty()]
    }

    /// Lets the oldest hidden completion be seen, of a send or of a receive; once more if `twice`.
    pub fn reveal(&mut self, receive: bool, twice: bool) {
        let hidden = match receive {
            true => &mut self.hidden_receives,
            false => &mut self.hidden,
        };
        let Some(completion) = hidden.pop_front() else {
            return;
        };
        self.visible.push_back(completion);
        if twice {
            self.visible.push_back(completion);
        }
        match receive {
            true => self.wakes |= std::mem::take(&mut self.armed),
            false => self.wakes |= self.sends_wake,
        }
    }

    /// Everything queued is given back as flushed. READs under way are so later if they linger, and then
    /// the READs behind them.
    pub fn fail(&mut self) {
        self.failed = true;
        if !self.lingers {
            self.end_reads();
        }
        for request in std::mem::take(&mut self.send) {
            match request.operation {
                Operation::Read { .. } if !self.reads.is_empty() => self.unsent.push(request),
                _ => self.complete(&request, Status::Flushed),
            }
        }
        for receive in std::mem::take(&mut self.receives) {
            self.hidden_receives.push_back(Completion {
                id: receive.index.into(),
                status: Status::Flushed,
                receive: true,
                length: 0,
            });
        }
    }

    /// The owner's process died: what names memory that is still registered goes on; how much that is.
    pub fn orphan(&mut self) -> u64 {
        self.is_orphaned = true;
        let domain = self.domain;
        let goes_on = |request: &WorkRequest| match request.operation {
            Operation::Send { .. } => false,
            Operation::Read { .. } | Operation::Write { .. } => request.gather(domain).is_some(),
        };
        self.send.retain(goes_on);
        self.reads.retain(goes_on);
        (self.send.len() + self.reads.len()) as u64
    }

    /// The kernel is done with it.
    pub fn bury(&mut self) {
        self.send.clear();
        self.reads.clear();
        self.unsent.clear();
    }

    pub fn is_orphaned(&self) -> bool {
        self.is_orphaned
    }

    /// A READ that lingered is over.
    pub fn end_read(&mut self, request: &WorkRequest) {
        self.complete(request, Status::Flushed);
        if self.reads.is_empty() {
            self.end_reads();
        }
    }

    fn end_reads(&mut self) {
        for request in std::mem::take(&mut self.reads) {
            self.complete(&request, Status::Flushed);
        }
        for request in std::mem::take(&mut self.unsent) {
            self.complete(&request, Status::Flushed);
        }
    }

    fn poll(&mut self, into: &mut Vec<Completion>, wanted: fn(&Completion) -> bool) {
        for completion in std::mem::take(&mut self.visible) {
            match wanted(&completion) {
                true => into.push(completion),
                false => self.visible.push_back(completion),
            }
        }
    }
}

/// One connection's end at the device.
#[derive(Debug)]
pub struct QueuePair {
    identifier: Identifier,
    destroyed: bool,
    _domain: Rc<ProtectionDomain>,
}

impl QueuePair {
    pub fn new(
        identifier: Identifier,
        domain: &Rc<ProtectionDomain>,
        limits: QueuePairLimits,
    ) -> Result<QueuePair, (SystemError, Identifier)> {
        {
            let mut queues = identifier.queues.borrow_mut();
            queues.domain = domain.number();
            queues.limits = Some(limits);
            queues.sends_wake = true;
        }
        count_queue_pair(1);
        Ok(QueuePair {
            identifier,
            destroyed: false,
            _domain: domain.clone(),
        })
    }

    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    pub fn accept(
        &self,
        _initiator_depth: u8,
        _resources: u8,
        _private_data: &[u8],
    ) -> Result<(), SystemError> {
        Ok(())
    }

    /// The wake-up was heard.
    pub fn hear(&mut self) {
        let mut queues = self.queues();
        queues.wakes = false;
        queues.sends_wake = !queues.quiet;
    }

    pub fn reap(&mut self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        self.queues().poll(into, |_| true);
        Ok(())
    }

    /// The next receive wakes; true if some completed before.
    pub fn arm(&mut self) -> Result<bool, SystemError> {
        let mut queues = self.queues();
        let newly = !std::mem::replace(&mut queues.armed, true);
        Ok(newly && !queues.visible.is_empty())
    }

    pub fn reap_sends_quietly(&mut self) {
        self.queues().quiet = true;
    }

    pub fn reap_sends(&mut self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        self.queues().poll(into, |completion| !completion.receive);
        Ok(())
    }

    pub fn arm_sends(&mut self) -> Result<bool, SystemError> {
        Ok(!std::mem::replace(&mut self.queues().sends_wake, true))
    }

    pub fn post_receives(
        &mut self,
        buffers: &mut ReceiveBuffers,
        count: u32,
    ) -> Result<u16, SystemError> {
        let mut queues = self.queues();
        let capacity = buffers.size();
        let mut posted = 0;
        for _ in 0..count {
            let Some((index, arrival)) = buffers.take() else {
                break;
            };
            queues.receives.push_back(Receive {
                index,
                capacity,
                arrival,
            });
            posted += 1;
        }
        let limit = queues.limits.map_or(0, |limits| limits.receive);
        assert!(
            queues.receives.len() <= limit as usize,
            "more receives than the queue holds"
        );
        if queues.failed {
            queues.fail();
        }
        Ok(posted)
    }

    pub fn post_send(&mut self, chain: &[WorkRequest]) -> Result<(), PostError> {
        let mut queues = self.queues();
        queues.send.extend(chain);
        if queues.failed {
            queues.fail();
        }
        Ok(())
    }

    pub fn fail(&self) -> Result<(), SystemError> {
        self.queues().fail();
        Ok(())
    }

    pub fn destroy(&mut self) {
        if !std::mem::replace(&mut self.destroyed, true) {
            let mut queues = self.queues();
            queues.destroyed = true;
            queues.failed = true;
            queues.reads.clear();
            queues.unsent.clear();
            drop(queues);
            count_queue_pair(-1);
        }
    }

    fn queues(&self) -> std::cell::RefMut<'_, Queues> {
        self.identifier.queues.borrow_mut()
    }
}

impl AsFd for QueuePair {
    /// Nobody waits for it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        rustix::stdio::stdin()
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        self.destroy();
    }
}
