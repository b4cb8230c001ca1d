//! Send queue, receive queue and completion queue of one queue pair, and what the peer's requests
//! do to them. Pure but for memory and the wake-up: frames come from and go to the endpoint.
//!
//! As on hardware: requests are carried out in order, a READ beyond the initiator depth holds up
//! everything behind it, the first failure flushes the rest, a place in the send queue is free
//! again once a completion at or behind it was taken, and a queue pair in error takes requests and
//! flushes them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use shm::SystemError;
use shm::wakeup::Wakeup;

use super::device::{ProtectionDomain, Transport};
use super::frame::{Frame, encode};
use super::memory_region::{serve_invalidate, serve_read, serve_write};
use super::queue_pair::{Completion, QueuePairLimits, Status};
use super::receive_buffers::Arrival;
use super::settings::Fabric;
use super::work_request::{Operation, WorkRequest};
use super::{refused, status};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unconnected,
    Ready,
    Failed,
}

#[derive(Debug)]
struct Posted {
    request: WorkRequest,
    /// Its registration is gone: it fails once everything before it is done.
    broken: bool,
}

#[derive(Debug)]
struct Waiting {
    completion: Completion,
    /// Places in the send queue that are free once it is taken.
    retires: u32,
    /// It is handed out with the next poll, not with this one.
    late: bool,
}

/// A posted receive.
#[derive(Debug)]
pub(super) struct Receive {
    pub(super) index: u32,
    pub(super) capacity: u32,
    pub(super) arrival: Arrival,
}

/// All queues of a queue pair.
#[derive(Debug)]
pub(super) struct WorkQueues {
    poller: OwnedFd,
    wakeup: Wakeup,
    domain: u64,
    transport: Transport,
    limits: QueuePairLimits,
    stage: Stage,
    read_depth: u32,
    late_sends: bool,
    keeps_requests: bool,
    /// Whether each poll has the next end of a send wake, and whether it does now.
    polls_wake_for_sends: bool,
    sends_wake: bool,
    send: VecDeque<Posted>,
    /// Requests at the front of `send` that the peer has not answered yet.
    sent: usize,
    reads: u32,
    receives: VecDeque<Receive>,
    completions: VecDeque<Waiting>,
    occupied: u32,
    /// Unsignaled requests that are done since the last completion.
    unretired: u32,
}

impl WorkQueues {
    pub(super) fn new(
        domain: &ProtectionDomain,
        limits: QueuePairLimits,
        fabric: &Fabric,
    ) -> Result<WorkQueues, SystemError> {
        let device = domain.device().limits()?;
        let most = device.max_work_requests.min(device.max_completions);
        if limits.send.max(limits.receive) > most {
            return Err(refused("create a queue pair", libc::EINVAL));
        }
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(SystemError::of("create a completion channel"))?;
        let wakeup = Wakeup::new()?;
        epoll::add(&poller, &wakeup, EventData::new_u64(0), EventFlags::IN)
            .map_err(SystemError::of("create a completion channel"))?;
        Ok(WorkQueues {
            poller,
            wakeup,
            domain: domain.number(),
            transport: domain.device().transport(),
            limits,
            stage: Stage::Unconnected,
            read_depth: 0,
            late_sends: fabric.late_send_completions,
            keeps_requests: fabric.keeps_requests,
            polls_wake_for_sends: true,
            sends_wake: true,
            send: VecDeque::new(),
            sent: 0,
            reads: 0,
            receives: VecDeque::new(),
            completions: VecDeque::new(),
            occupied: 0,
            unretired: 0,
        })
    }

    /// Readable when completions or frames wait.
    pub(super) fn poller(&self) -> &OwnedFd {
        &self.poller
    }

    /// The connection is made: at most `read_depth` RDMA READs at a time.
    pub(super) fn connect(&mut self, read_depth: u8) {
        if self.stage == Stage::Unconnected {
            self.stage = Stage::Ready;
            self.read_depth = u32::from(read_depth);
        }
    }

    pub(super) fn post(&mut self, request: WorkRequest) -> Result<(), SystemError> {
        if self.stage == Stage::Unconnected {
            return Err(refused("post to the send queue", libc::EINVAL));
        }
        if self.occupied >= self.limits.send {
            return Err(refused("post to the send queue", libc::ENOMEM));
        }
        self.occupied += 1;
        self.send.push_back(Posted {
            request,
            broken: false,
        });
        if self.stage == Stage::Failed {
            self.fail();
        }
        Ok(())
    }

    pub(super) fn post_receive(&mut self, receive: Receive) -> Result<(), SystemError> {
        if self.receives.len() >= self.limits.receive as usize {
            return Err(refused("post a receive", libc::ENOMEM));
        }
        self.receives.push_back(receive);
        if self.stage == Stage::Failed {
            self.fail();
        }
        Ok(())
    }

    /// Writes the requests that may go now to `out`.
    pub(super) fn transmit(&mut self, out: &mut Vec<u8>) {
        while self.stage == Stage::Ready
            && let Some(posted) = self.send.get_mut(self.sent)
            && !posted.broken
        {
            let request = posted.request;
            let frame = match request.operation {
                Operation::Send { invalidate } => Frame::Send { invalidate },
                Operation::Write { address, token } => Frame::Write { address, token },
                Operation::Read { address, token } => {
                    if self.reads >= self.read_depth {
                        return;
                    }
                    if self.transport == Transport::Iwarp && !request.is_open_to_writes() {
                        posted.broken = true;
                        self.fail_broken_head();
                        return;
                    }
                    self.reads += 1;
                    let length = request.length();
                    encode(
                        &Frame::Read {
                            address,
                            token,
                            length,
                        },
                        &[],
                        out,
                    );
                    self.sent += 1;
                    continue;
                }
            };
            let Some(bytes) = request.gather(self.domain) else {
                posted.broken = true;
                self.fail_broken_head();
                return;
            };
            encode(&frame, &bytes, out);
            self.sent += 1;
        }
    }

    /// The peer carried out the oldest request.
    pub(super) fn answered(&mut self, data: &[u8]) {
        if self.stage != Stage::Ready || self.sent == 0 {
            return;
        }
        let Some(Posted { request, .. }) = self.send.front() else {
            return;
        };
        if let Operation::Read { .. } = request.operation {
            if request.scatter(self.domain, data).is_none() {
                self.fail_head(status::LOCAL_PROTECTION);
                return;
            }
            self.reads -= 1;
        }
        let (id, signaled) = (request.id, request.signaled);
        self.send.pop_front();
        self.sent -= 1;
        self.unretired += 1;
        if signaled {
            self.complete_send(id, Status::Success);
        }
        self.fail_broken_head();
    }

    fn fail_broken_head(&mut self) {
        if self.send.front().is_some_and(|posted| posted.broken) {
            self.fail_head(status::LOCAL_PROTECTION);
        }
    }

    /// The oldest request failed, and with it the queue pair.
    pub(super) fn fail_head(&mut self, status: Status) {
        if self.stage == Stage::Ready
            && let Some(posted) = self.send.pop_front()
        {
            self.unretired += 1;
            self.complete_send(posted.request.id, status);
        }
        self.fail();
    }

    /// The peer's machine is gone: nothing is answered any more.
    pub(super) fn lose_peer(&mut self) {
        if self.stage == Stage::Ready && !self.send.is_empty() {
            self.fail_head(status::RETRY_EXCEEDED);
        }
    }

    /// Everything queued completes as flushed.
    pub(super) fn fail(&mut self) {
        self.stage = Stage::Failed;
        self.sent = 0;
        self.reads = 0;
        if self.keeps_requests {
            return;
        }
        while let Some(posted) = self.send.pop_front() {
            self.unretired += 1;
            self.complete_send(posted.request.id, Status::Flushed);
        }
        while let Some(receive) = self.receives.pop_front() {
            self.complete_receive(receive.index, Status::Flushed, 0);
        }
    }

    /// Carries out a request of the peer's; the answer goes to `out`.
    pub(super) fn serve(&mut self, frame: &Frame, data: &[u8], out: &mut Vec<u8>) {
        let mut failed = None;
        let answer: Result<Vec<u8>, u8> = match frame {
            _ if self.stage != Stage::Ready => Err(12),
            Frame::Send { invalidate } => match self.receives.pop_front() {
                // As with a retry count of zero; the receiver notices nothing.
                None => Err(13),
                Some(receive) if data.len() > receive.capacity as usize => {
                    self.complete_receive(receive.index, status::LOCAL_LENGTH, 0);
                    failed = Some(9);
                    Err(9)
                }
                Some(receive) => {
                    let invalidated =
                        invalidate.is_none_or(|token| serve_invalidate(self.domain, token));
                    if invalidated {
                        // The cell is fresh with each posting.
                        let _ = receive.arrival.set(data.to_vec());
                        let length = data.len() as u32;
                        self.complete_receive(receive.index, Status::Success, length);
                        Ok(Vec::new())
                    } else {
                        self.complete_receive(receive.index, status::LOCAL_PROTECTION, 0);
                        failed = Some(10);
                        Err(10)
                    }
                }
            },
            Frame::Write { address, token } => {
                match serve_write(self.domain, *token, *address, data) {
                    Some(()) => Ok(Vec::new()),
                    None => Err(*failed.insert(10)),
                }
            }
            Frame::Read {
                address,
                token,
                length,
            } => {
                serve_read(self.domain, *token, *address, *length).ok_or_else(|| *failed.insert(10))
            }
            _ => return,
        };
        match answer {
            Ok(bytes) => encode(&Frame::Done, &bytes, out),
            Err(status) => encode(&Frame::Refused { status }, &[], out),
        }
        if failed.is_some() {
            self.fail();
        }
    }

    pub(super) fn reap_sends_quietly(&mut self) {
        self.polls_wake_for_sends = false;
    }

    /// True if the end of a send did not wake before.
    pub(super) fn arm_sends(&mut self) -> bool {
        !std::mem::replace(&mut self.sends_wake, true)
    }

    /// Hands out what is complete; true if a receive was among it.
    pub(super) fn poll(&mut self, into: &mut Vec<Completion>) -> bool {
        if self.wakeup.clear() {
            self.sends_wake = self.polls_wake_for_sends;
        }
        self.take(into, |_| true)
    }

    /// Hands out the sends that are complete.
    pub(super) fn reap_sends(&mut self, into: &mut Vec<Completion>) {
        self.take(into, |completion| !completion.receive);
    }

    fn take(&mut self, into: &mut Vec<Completion>, wanted: fn(&Completion) -> bool) -> bool {
        let mut received = false;
        for mut waiting in std::mem::take(&mut self.completions) {
            if waiting.late || !wanted(&waiting.completion) {
                waiting.late = false;
                self.completions.push_back(waiting);
                continue;
            }
            self.occupied = self.occupied.saturating_sub(waiting.retires);
            received |= waiting.completion.receive;
            into.push(waiting.completion);
        }
        // Late ones come about now.
        if self.sends_wake && !self.completions.is_empty() {
            self.wakeup.signal();
        }
        received
    }

    fn complete_send(&mut self, id: u64, status: Status) {
        self.completions.push_back(Waiting {
            completion: Completion {
                id,
                status,
                receive: false,
                length: 0,
            },
            retires: std::mem::take(&mut self.unretired),
            late: self.late_sends,
        });
        if self.sends_wake {
            self.wakeup.signal();
        }
    }

    fn complete_receive(&mut self, index: u32, status: Status, length: u32) {
        self.completions.push_back(Waiting {
            completion: Completion {
                id: u64::from(index),
                status,
                receive: true,
                length,
            },
            retires: 0,
            late: false,
        });
        self.wakeup.signal();
    }
}
