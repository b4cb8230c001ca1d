//! The device's side of a connection: completions in, chains of work requests out.

use proto::relay::{Outcome, RegionRange};
use proto::smbdirect::{MessageKey, Outgoing, Received};
use proto::time::Timestamp;
use shm::SystemError;

use super::{Connection, Parked, Shared, Stage};
use crate::gateway::ending::Ending;
use crate::gateway::operations::{Finished, ReplyBody};
use crate::gateway::send_queue::Purpose;
use crate::gateway::sink::Sink;
use crate::memory::Attachment;
use crate::rdma::{Completion, LocalRange, Operation, QueuePair, Status, WorkRequest};
use crate::relay::{Fragment, Segment};

impl Connection {
    /// The completion channel is readable.
    pub fn handle_completions(&mut self, now: Timestamp, shared: &mut Shared) {
        self.queue_pair.hear();
        self.take_completions(now, shared, QueuePair::reap);
    }

    /// Takes what has completed without being told of it; false if there is nothing.
    pub fn look(&mut self, now: Timestamp, shared: &mut Shared) -> bool {
        self.take_completions(now, shared, QueuePair::reap)
    }

    /// The loop may sleep: sees to it that completions wake it. True if some had come before.
    pub fn arm(&mut self, now: Timestamp, shared: &mut Shared) -> bool {
        match self.queue_pair.arm() {
            Ok(true) => self.take_completions(now, shared, QueuePair::reap),
            Ok(false) => false,
            Err(error) => {
                self.end(now, error.into());
                true
            }
        }
    }

    /// Sends that have ended: nobody is woken for most of them.
    pub(super) fn reap_sends(&mut self, now: Timestamp, shared: &mut Shared) {
        if !self.send_queue.is_empty() {
            self.take_completions(now, shared, QueuePair::reap_sends);
        }
    }

    fn take_completions(
        &mut self,
        now: Timestamp,
        shared: &mut Shared,
        take: impl FnOnce(&mut QueuePair, &mut Vec<Completion>) -> Result<(), SystemError>,
    ) -> bool {
        let mut completions = std::mem::take(&mut shared.completions);
        completions.clear();
        if let Err(error) = take(&mut self.queue_pair, &mut completions) {
            self.end(now, error.into());
        }
        // Of two queues: what failed, and then what was flushed for it, came last.
        completions.sort_by_key(|completion| match completion.status {
            Status::Success => 0,
            Status::Failed(..) => 1,
            Status::Flushed => 2,
        });
        for completion in &completions {
            let handled = if completion.receive {
                self.handle_receive(now, *completion, shared)
            } else {
                self.handle_sent(now, *completion, shared)
            };
            if let Err(ending) = handled {
                self.end(now, ending);
            }
        }
        let some = !completions.is_empty();
        shared.completions = completions;
        self.check_drained(now);
        some
    }

    fn handle_receive(
        &mut self,
        now: Timestamp,
        completion: Completion,
        shared: &mut Shared,
    ) -> Result<(), Ending> {
        let Ok(buffer) = u32::try_from(completion.id) else {
            return Ok(());
        };
        if !self.receive.complete(completion.id, completion.length) {
            self.send_queue.note_duplicate();
            return Ok(());
        }
        match completion.status {
            Status::Success if self.stage == Stage::Open => {}
            Status::Success if self.is_finishing() => {
                // Its credits are needed for what is still queued; nobody reads what it says.
                let received = self.machine.handle_receive(now, self.receive.bytes(buffer));
                self.receive.release(buffer);
                return received.map(|_| ()).map_err(Ending::from);
            }
            Status::Success => {
                self.receive.release(buffer);
                return Ok(());
            }
            Status::Flushed => {
                self.receive.release(buffer);
                // The peer's disconnect flushes before the connection manager tells.
                return match self.stage {
                    Stage::Open => Err(self.departure(None)),
                    _ => Ok(()),
                };
            }
            Status::Failed(status, name) => {
                self.receive.release(buffer);
                return Err(Ending::failed_receive(status, name));
            }
        }
        let received = self.machine.handle_receive(now, self.receive.bytes(buffer));
        match received {
            Ok(Received::Fragment {
                data,
                message_length,
                offset_in_message,
                last,
            }) => {
                let fragment = Fragment {
                    message_length,
                    offset: offset_in_message,
                    last,
                };
                self.take_fragment(
                    now,
                    Parked {
                        buffer,
                        data,
                        fragment,
                    },
                    shared,
                )
            }
            Ok(Received::Negotiated | Received::Empty | Received::Refused { .. }) => {
                self.receive.release(buffer);
                Ok(())
            }
            Err(violation) => {
                self.receive.release(buffer);
                Err(violation.into())
            }
        }
    }

    fn is_finishing(&self) -> bool {
        matches!(self.stage, Stage::Finishing { .. })
            && self.machine.state() == proto::smbdirect::State::Established
    }

    /// A completion of the send queue.
    fn handle_sent(
        &mut self,
        now: Timestamp,
        completion: Completion,
        shared: &mut Shared,
    ) -> Result<(), Ending> {
        if !self.send_queue.holds(completion.id) {
            self.send_queue.note_duplicate();
            return Ok(());
        }
        self.reap_by = None;
        let mut sends = 0;
        let mut failed = None;
        let mut flushed = None;
        while let Some((number, purpose)) = self.send_queue.retire(completion.id) {
            // Requests before the one named succeeded, whatever became of it.
            let done = number < completion.id || completion.status == Status::Success;
            if let Status::Failed(status, name) = completion.status
                && !done
            {
                failed = Some(Ending::failed_request(&what(purpose), status, name));
            }
            if !done && purpose.is_rdma() {
                flushed.get_or_insert(purpose);
            }
            let key = match purpose {
                Purpose::Send { slot, reply } => {
                    self.free_slots.push(slot);
                    sends += 1;
                    reply
                }
                Purpose::Write { reply, remote } => {
                    if done {
                        self.moved.writes += 1;
                        self.moved.write_bytes += u64::from(remote.length);
                        shared.totals.rdma_write_bytes += u64::from(remote.length);
                    }
                    Some(reply)
                }
                Purpose::Read {
                    operation,
                    remote,
                    sink,
                } => {
                    let length = remote.length;
                    if let (Some(taken), Some(sink)) = (sink, &mut self.sink) {
                        let region = self.attachment.as_ref().filter(|_| done);
                        sink.settle(taken, length, region.map(Attachment::mapping));
                    }
                    if done {
                        self.moved.reads += 1;
                        self.moved.read_bytes += u64::from(length);
                        shared.totals.rdma_read_bytes += u64::from(length);
                    }
                    Some(operation)
                }
                Purpose::Marker => None,
            };
            // An operation one of whose requests failed is reported by the teardown.
            if done
                && let Some(key) = key
                && let Some(finished) = self.operations.retired(key)
            {
                match finished {
                    Finished::Read(operation) => {
                        self.follow(operation.message(), || tracing::debug!("RDMA READ is done"));
                        self.report(finished, Outcome::Done);
                    }
                    Finished::Reply(operation) => {
                        self.follow(operation.message(), || tracing::debug!("the reply is sent"));
                        self.tell_sent(now, operation);
                    }
                }
            }
        }
        self.machine.handle_send_complete(now, sends);
        match (failed, completion.status, self.stage) {
            (Some(ending), ..) => Err(ending),
            (None, Status::Flushed, Stage::Open | Stage::Finishing { .. }) => {
                Err(self.departure(flushed))
            }
            _ => Ok(()),
        }
    }

    /// The client is gone; what it did not wait for, if a payload was being moved: what was `flushed`, or
    /// else what is posted still. A device that has the client's refusal may not have told of it yet.
    pub(super) fn departure(&self, flushed: Option<Purpose>) -> Ending {
        match flushed.or_else(|| self.send_queue.oldest_rdma()) {
            Some(purpose) => Ending::left_during(&what(purpose)),
            None => Ending::disconnected(),
        }
    }

    /// Posts the receives the machine asks for, as far as buffers are free.
    pub(super) fn post_receives(&mut self) -> Result<bool, SystemError> {
        let wanted = self.machine.receives_to_post();
        if wanted == 0 {
            return Ok(false);
        }
        let posted = self
            .queue_pair
            .post_receives(&mut self.receive, u32::from(wanted))?;
        if posted > 0 {
            self.machine.handle_posted(posted);
        }
        Ok(posted > 0)
    }

    /// Posts all that may be posted now, each round as one chain.
    pub(super) fn pump(&mut self, now: Timestamp, shared: &mut Shared) -> Result<(), Ending> {
        loop {
            let posted = self.post_receives()?;
            let mut chain = std::mem::take(&mut shared.chain);
            chain.clear();
            let before = self.send_queue.len();
            let result = match self.build_chain(now, &mut chain) {
                Ok(()) => self.post_chain(&mut chain),
                Err(ending) => Err((0, ending)),
            }
            .map_err(|(posted, ending)| {
                self.send_queue.withdraw_all_but(before + posted);
                ending
            });
            let sent = !chain.is_empty();
            shared.chain = chain;
            result?;
            if !posted && !sent {
                return Ok(());
            }
        }
    }

    /// Something waits for the end of a send: a child for its payload, or what there was no room for.
    pub(super) fn awaits_sends(&self) -> bool {
        !self.send_queue.is_empty()
            && (self.stage != Stage::Open
                || self.send_queue.has_read()
                || self.operations.has_read()
                || self.operations.has_write()
                || self.free_slots.is_empty())
    }

    /// The error says how many of the chain were posted nevertheless.
    fn post_chain(&mut self, chain: &mut [WorkRequest]) -> Result<(), (usize, Ending)> {
        // With its last request and its last READ signaled, every chain is retired whole.
        if let Some(last) = chain.last_mut() {
            last.signaled = true;
        }
        let mut reads = chain.iter_mut().rev();
        if let Some(last) =
            reads.find(|request| matches!(request.operation, Operation::Read { .. }))
        {
            last.signaled = true;
        }
        self.queue_pair.post_send(chain).map_err(|refused| {
            // The last one in the queue is not signaled, so its end would pass unseen.
            self.marker_needed |= refused.posted > 0;
            (refused.posted, Ending::from(refused.error))
        })
    }

    /// READs as the peer serves them; then, reply by reply, WRITEs and the message behind them.
    fn build_chain(&mut self, now: Timestamp, chain: &mut Vec<WorkRequest>) -> Result<(), Ending> {
        while self.operations.has_read()
            && self.send_queue.has_room_for_read()
            && self.sink.as_ref().is_none_or(Sink::has_room)
        {
            let Some((operation, segment, last)) = self.operations.next_read() else {
                break;
            };
            let length = segment.length;
            let taken = match &mut self.sink {
                Some(sink) => sink.take(segment.offset, length),
                None => None,
            };
            let purpose = Purpose::Read {
                operation,
                remote: segment.into(),
                sink: taken.map(|(slot, _)| slot),
            };
            let into = match taken {
                Some((_, range)) => range,
                None => self.registered(segment)?,
            };
            chain.push(WorkRequest {
                id: self.send_queue.add(purpose),
                operation: Operation::Read {
                    address: segment.address,
                    token: segment.token,
                },
                first: into,
                second: None,
                signaled: last,
            });
        }
        loop {
            while self.operations.has_write() && self.send_queue.has_room_for_write() {
                let Some((reply, segment)) = self.operations.next_write() else {
                    break;
                };
                let from = self.registered(segment)?;
                chain.push(WorkRequest {
                    id: self.send_queue.add(Purpose::Write {
                        reply,
                        remote: segment.into(),
                    }),
                    operation: Operation::Write {
                        address: segment.address,
                        token: segment.token,
                    },
                    first: from,
                    second: None,
                    signaled: false,
                });
            }
            let Some((key, reply)) = self.operations.next_reply() else {
                break;
            };
            let token = reply
                .invalidate
                .filter(|_| self.device_limits.send_with_invalidate);
            self.machine
                .queue_message(MessageKey(key as u64), reply.length, token)
                .map_err(Ending::relay)?;
        }
        while !self.free_slots.is_empty()
            && let Some(outgoing) = self.machine.poll_send(now)
        {
            chain.push(self.send_request(&outgoing)?);
            if outgoing.disconnect_after {
                let reason = self.machine.close_reason();
                self.finish(now, reason.map_or_else(Ending::disconnected, Ending::from));
            }
        }
        Ok(())
    }

    /// The registered bytes of a segment.
    fn registered(&self, segment: Segment) -> Result<LocalRange, Ending> {
        let range = RegionRange {
            offset: segment.offset,
            length: segment.length,
        };
        self.attachment
            .as_ref()
            .and_then(|region| region.local(range))
            .ok_or_else(|| Ending::relay("a range is not registered"))
    }

    /// A message of the machine's, from a slot: the header, and behind it the bytes of an inline
    /// reply; bytes of the region are sent from where they are.
    fn send_request(&mut self, outgoing: &Outgoing) -> Result<WorkRequest, Ending> {
        let inconsistent = || Ending::relay("a reply has no bytes where its length says so");
        let slot = self.free_slots.pop().ok_or_else(inconsistent)?;
        let start = usize::from(slot) * self.slot_size as usize;
        let header = outgoing.header.as_bytes();
        let mut length = header.len();
        let mut copied = self.slots.copy_in(start, header);
        let mut second = None;
        let mut key = None;
        if let Some(payload) = &outgoing.payload {
            let reply = payload.message.0 as usize;
            key = Some(reply);
            let body = &self.operations.reply(reply).ok_or_else(inconsistent)?.body;
            match body {
                ReplyBody::Inline(bytes) => {
                    let range = payload.range.start as usize..payload.range.end as usize;
                    let part = bytes.get(range).ok_or_else(inconsistent)?;
                    copied &= self.slots.copy_in(start + length, part);
                    length += part.len();
                }
                ReplyBody::InRegion(whole) => {
                    let range = RegionRange {
                        offset: whole.offset + u64::from(payload.range.start),
                        length: payload.range.end - payload.range.start,
                    };
                    let local = self
                        .attachment
                        .as_ref()
                        .and_then(|region| region.local(range));
                    second = Some(local.ok_or_else(inconsistent)?);
                }
            }
        }
        let first = self.slots.region().range(start as u64, length as u32);
        let first = first.filter(|_| copied).ok_or_else(inconsistent)?;
        let id = self.send_queue.add(Purpose::Send { slot, reply: key });
        if let Some(key) = key {
            self.operations.posted_send(key, outgoing.last_of_message);
        }
        Ok(WorkRequest {
            id,
            operation: Operation::Send {
                invalidate: outgoing.invalidate,
            },
            first,
            second,
            signaled: false,
        })
    }

    /// Tells the child how an operation ended.
    pub(super) fn report(&mut self, finished: Finished, outcome: Outcome) {
        self.tell(&match finished {
            Finished::Read(operation) => proto::relay::ToChild::PayloadReady { operation, outcome },
            Finished::Reply(operation) => proto::relay::ToChild::Sent { operation, outcome },
        });
    }
}

fn what(purpose: Purpose) -> String {
    match purpose {
        Purpose::Send { .. } => "a SEND".into(),
        Purpose::Write { remote, .. } => {
            format!("an RDMA WRITE (the client's READ) of {remote}")
        }
        Purpose::Read { remote, .. } => format!("an RDMA READ (the client's WRITE) of {remote}"),
        Purpose::Marker => "the last request".into(),
    }
}
