//! What a relay has under way, and what each of smbdirectd's records does to it.
//!
//! The channel in `relay.rs` reads and flushes the link and asks here; nothing here waits.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures::channel::oneshot;
use proto::relay::{
    Attached, Body, CloseReason, Hello, INLINE_PREFERRED, MAX_INLINE, MessageSequence, OperationId,
    Outcome, PayloadWrite, ToChild, ToChildRecords, ToGateway,
};
use proto::smb2::NtStatus;
use shm::link::{Datagram, Link, LinkError, SocketLink};

use super::super::region::{Area, AttachTurn, SharedRegion};
use super::super::{ChannelError, Outgoing, Payload, Reading};
use super::NOWHERE;
use super::loans::Loans;

pub(super) struct State {
    pub(super) link: SocketLink,
    /// The receive buffer; taken while its records are handled.
    pub(super) datagram: Option<Datagram>,
    pub(super) region: Rc<SharedRegion>,
    pub(super) hello: Option<Hello>,
    pub(super) reading: Reading,
    /// The raw datagrams so far, kept until it is known who serves the client.
    pub(super) preface: Vec<u8>,
    /// The newest message taken, and the newest smbdirectd was told of.
    pub(super) taken: u64,
    pub(super) released: u64,
    /// One of the messages since then lies in the ring.
    pub(super) ring_taken: bool,
    pub(super) attach: Attach,
    pub(super) operations: HashMap<OperationId, Operation>,
    pub(super) last_operation: u64,
    pub(super) loans: Loans,
    /// Replies that wait for memory or for an operation to end, in order.
    pub(super) deferred: VecDeque<(u64, Outgoing)>,
    /// Extents of failed operations: a NIC may write to them until `drained`.
    pub(super) limbo: Vec<Payload>,
    pub(super) waiters: Vec<Waker>,
    pub(super) closing: bool,
    pub(super) end: Option<ChannelError>,
    pub(super) drained: bool,
}

pub(super) enum Attach {
    /// No session is authenticated yet.
    Not,
    Wanted,
    /// For the region it sent along, or for a new one.
    Asked(Option<Rc<Area>>),
    Mapped {
        area: Rc<Area>,
        ring: (u64, u32),
    },
    Refused,
}

pub(super) enum Operation {
    Fetch {
        payload: Payload,
        done: oneshot::Sender<Result<Payload, NtStatus>>,
    },
    /// Holds an extent that smbdirectd may fetch a payload into.
    Lent { payload: Payload },
    /// Holds the reply's extents.
    Reply { _payloads: Vec<Payload> },
}

impl State {
    /// Reads the next datagram; false when there is none.
    pub(super) fn receive(&mut self, messages: &mut Vec<Vec<u8>>) -> Result<bool, ChannelError> {
        let mut datagram = self.datagram.take().unwrap_or_default();
        let outcome = match self.link.receive(&mut datagram) {
            Ok(true) => {
                let descriptors = std::mem::take(&mut datagram.descriptors);
                if self.reading == Reading::OneMessage {
                    self.preface.extend_from_slice(datagram.bytes());
                }
                self.take(datagram.bytes(), descriptors, messages)
                    .map(|()| true)
            }
            Ok(false) => Ok(false),
            Err(LinkError::Closed) => Err(ChannelError::Closed),
            Err(error) => Err(ChannelError::System(error.to_string())),
        };
        self.datagram = Some(datagram);
        outcome
    }

    /// Whether another datagram is likely to be there behind the one just received.
    pub(super) fn may_have_more(&self) -> bool {
        self.closing || self.datagram.as_ref().is_some_and(Datagram::is_full)
    }

    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut descriptors: Vec<OwnedFd>,
        messages: &mut Vec<Vec<u8>>,
    ) -> Result<(), ChannelError> {
        for record in ToChildRecords::new(bytes) {
            let record =
                record.map_err(|error| violation(format!("smbdirectd's record: {error}")))?;
            match record {
                ToChild::Hello(hello) => {
                    if self.hello.replace(hello).is_some() {
                        return Err(violation("a second `hello`"));
                    }
                }
                _ if self.hello.is_none() => return Err(violation("a record before `hello`")),
                ToChild::Message { sequence, body } => {
                    messages.push(self.message(sequence, body)?);
                    self.loans.assign(sequence.0);
                }
                ToChild::Ahead { operation, length } => self.ahead(operation, length)?,
                ToChild::Returned { operation } => self.returned(operation)?,
                ToChild::Attached(attached) => self.attached(&attached, descriptors.pop())?,
                ToChild::AttachRefused => {
                    tracing::warn!(
                        peer = %self.peer(),
                        "smbdirectd has no memory left for this client; it is served without RDMA \
                         payload (rdma memory budget)"
                    );
                    self.leave_attach();
                    self.attach = Attach::Refused;
                    self.wake();
                }
                ToChild::Grown { parts } => {
                    if let Attach::Mapped { area, .. } = &self.attach {
                        area.grown(parts);
                    }
                }
                ToChild::PayloadReady { operation, outcome } => {
                    self.payload_ready(operation, outcome)?;
                }
                ToChild::Sent { operation, outcome } => self.sent(operation, outcome)?,
                ToChild::Closed { reason } => {
                    self.end.get_or_insert(closed(reason));
                    self.deferred.clear();
                    self.wake();
                }
                ToChild::Drained => self.drained(),
            }
        }
        Ok(())
    }

    pub(super) fn message(
        &mut self,
        sequence: MessageSequence,
        body: Body<'_>,
    ) -> Result<Vec<u8>, ChannelError> {
        if sequence.0 != self.taken + 1 {
            return Err(violation("a message out of sequence"));
        }
        self.taken = sequence.0;
        match (body, &self.attach) {
            (Body::Inline(bytes), _) => Ok(bytes.to_vec()),
            (Body::InRegion(range), Attach::Mapped { area, ring }) => {
                let end = range.offset.checked_add(u64::from(range.length));
                let ring_end = ring.0 + u64::from(ring.1);
                if range.offset < ring.0 || end.is_none_or(|end| end > ring_end) {
                    return Err(violation("a message outside its ring"));
                }
                self.ring_taken = true;
                let mut message = Vec::with_capacity(range.length as usize);
                area.mapping
                    .copy_out(range.offset, range.length, &mut message)
                    .map_err(|error| violation(error.to_string()))?;
                Ok(message)
            }
            (Body::InRegion(_), _) => Err(violation("a message in a region that is not mapped")),
        }
    }

    pub(super) fn attached(
        &mut self,
        attached: &Attached,
        memfd: Option<OwnedFd>,
    ) -> Result<(), ChannelError> {
        let Attach::Asked(sent) = &self.attach else {
            return Err(violation("`attached` without `attach`"));
        };
        let area = self
            .region
            .attached(attached, memfd, sent.as_ref())
            .map_err(violation)?;
        self.attach = Attach::Mapped {
            area,
            ring: (attached.ring_offset, attached.ring_size),
        };
        self.link.queue(&mut |out| ToGateway::Mapped.encode(out));
        self.wake();
        Ok(())
    }

    pub(super) fn payload_ready(
        &mut self,
        operation: OperationId,
        outcome: Outcome,
    ) -> Result<(), ChannelError> {
        match (self.operations.remove(&operation), outcome) {
            (Some(Operation::Fetch { payload, done }), Outcome::Done) => {
                // A request nobody waits for drops its payload, which is safe: the READ has ended.
                let _ = done.send(Ok(payload));
            }
            (Some(Operation::Fetch { payload, done }), Outcome::ConnectionLost) => {
                self.limbo.push(payload);
                let _ = done.send(Err(NtStatus::CONNECTION_DISCONNECTED));
            }
            _ => return Err(violation("`payload_ready` for no RDMA READ")),
        }
        self.wake();
        Ok(())
    }

    pub(super) fn sent(
        &mut self,
        operation: OperationId,
        outcome: Outcome,
    ) -> Result<(), ChannelError> {
        match self.operations.remove(&operation) {
            Some(Operation::Reply { _payloads }) => {
                if outcome == Outcome::ConnectionLost {
                    self.limbo.extend(_payloads);
                }
            }
            _ => return Err(violation("`sent` for no reply")),
        }
        self.wake();
        Ok(())
    }

    pub(super) fn drained(&mut self) {
        self.drained = true;
        self.end.get_or_insert(ChannelError::Closed);
        self.leave_attach();
        self.limbo.clear();
        for (_, operation) in self.operations.drain() {
            if let Operation::Fetch { done, .. } = operation {
                let _ = done.send(Err(NtStatus::CONNECTION_DISCONNECTED));
            }
        }
        self.wake();
    }

    /// The link is gone: without `drained` the region's memory is nobody's to reuse.
    pub(super) fn lost(&mut self) {
        if let Attach::Mapped { area, .. } = &self.attach
            && !self.drained
        {
            tracing::warn!(
                peer = %self.peer(),
                "smbdirectd ended without saying that the NIC is done; the region is given up"
            );
            self.region.poison(area);
            // Never given back to its account, in case another channel still holds the area.
            self.limbo.drain(..).for_each(Payload::give_up);
            for (_, operation) in self.operations.drain() {
                match operation {
                    Operation::Fetch { payload, done } => {
                        payload.give_up();
                        let _ = done.send(Err(NtStatus::CONNECTION_DISCONNECTED));
                    }
                    Operation::Lent { payload } => payload.give_up(),
                    Operation::Reply { _payloads } => {
                        _payloads.into_iter().for_each(Payload::give_up);
                    }
                }
            }
        }
        self.drained();
    }

    /// There will be no answer to its `attach`: whoever waits for it asks instead.
    fn leave_attach(&mut self) {
        if matches!(self.attach, Attach::Asked(None)) {
            self.region.not_attached();
            self.attach = Attach::Not;
        }
    }

    pub(super) fn wake(&mut self) {
        self.waiters.drain(..).for_each(Waker::wake);
    }

    pub(super) fn next_operation(&mut self, message: u64) -> OperationId {
        self.last_operation += 1;
        OperationId::of(message, self.last_operation)
    }

    /// Whether smbdirectd is to be told now which messages are consumed. Inline ones hold up nothing
    /// until there are many: the news rides with the next record.
    pub(super) fn must_release(&self) -> bool {
        let consumed = self.taken - self.released;
        let many = self
            .hello
            .as_ref()
            .map_or(1, |hello| hello.max_messages / 4);
        self.reading == Reading::Freely
            && consumed > 0
            && (self.ring_taken || consumed >= many.into() || self.link.waiting() > 0)
    }

    /// Whether smbdirectd takes another operation.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.hello.as_ref().map_or(0, |hello| hello.max_operations);
        self.operations.len() < limit as usize
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.hello.as_ref().map_or(NOWHERE, |hello| hello.peer)
    }

    /// Sends a reply; gives it back when it must wait for memory or for an operation to end.
    pub(super) fn try_send(&mut self, message: u64, reply: Outgoing) -> Result<(), Outgoing> {
        if !self.has_room() {
            return Err(reply);
        }
        let length: usize = reply.pieces.iter().map(|piece| piece.len()).sum();
        let mut in_region = None;
        if length > INLINE_PREFERRED as usize
            && let Attach::Mapped { area, .. } = &self.attach
        {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            in_region = Payload::take(area, length)
                .filter(|payload| payload.copy_in(&reply.pieces).is_ok())
                .map(|payload| (payload, length));
            if in_region.is_none() && length > MAX_INLINE {
                return Err(reply);
            }
        }
        let inline = match &in_region {
            Some(_) => Vec::new(),
            None => reply.pieces.concat(),
        };
        let body = match &in_region {
            Some((payload, length)) => Body::InRegion(payload.range(*length)),
            None => Body::Inline(&inline),
        };
        let operation = self.next_operation(message);
        let can_invalidate = self.hello.as_ref().is_some_and(|hello| hello.invalidate);
        let record = ToGateway::Reply {
            operation,
            invalidate: reply.invalidate.filter(|_| can_invalidate),
            writes: reply
                .writes
                .iter()
                .map(|write| PayloadWrite {
                    source: write.payload.range(write.length),
                    descriptors: &write.descriptors,
                })
                .collect(),
            body,
        };
        self.link.queue(&mut |out| record.encode(out));
        let payloads = reply.writes.into_iter().map(|write| write.payload);
        let message = in_region.map(|(payload, _)| payload);
        self.operations.insert(
            operation,
            Operation::Reply {
                _payloads: payloads.chain(message).collect(),
            },
        );
        Ok(())
    }

    pub(super) fn send_deferred(&mut self) {
        // Behind this answer the client may send what is too long without a ring: smbdirectd is to know
        // first that one is wanted, even where another channel's `attach` is waited for.
        if matches!(self.attach, Attach::Wanted) && !self.closing {
            return;
        }
        while let Some((message, reply)) = self.deferred.pop_front() {
            if self.loans.is_on_its_way(message) {
                return self.deferred.push_front((message, reply));
            }
            if let Err(reply) = self.try_send(message, reply) {
                self.deferred.push_front((message, reply));
                if self.has_room() {
                    self.ask_for_more();
                }
                return;
            }
        }
    }

    /// Asks for what is lent, and once it is back for another part of the payload area, if there may
    /// be one.
    pub(super) fn ask_for_more(&mut self) {
        if self.recall() {
            return;
        }
        if let Attach::Mapped { area, .. } = &self.attach
            && let Some(parts) = area.wanted_parts()
        {
            self.link
                .queue(&mut |out| ToGateway::Grow { parts }.encode(out));
        }
    }

    pub(super) fn try_attach(&mut self) {
        if !matches!(self.attach, Attach::Wanted) || self.end.is_some() || self.closing {
            return;
        }
        let encode = &mut |out: &mut Vec<u8>| ToGateway::Attach.encode(out);
        let sent = match self.region.attach_turn() {
            Ok(AttachTurn::First) => {
                self.link.queue(encode);
                None
            }
            Ok(AttachTurn::With(memfd, area)) => {
                self.link.queue_with(encode, vec![memfd]);
                Some(area)
            }
            Ok(AttachTurn::Wait) => return,
            Err(error) => {
                tracing::error!(%error, "the region's descriptor can't be duplicated");
                self.attach = Attach::Refused;
                return self.wake();
            }
        };
        self.attach = Attach::Asked(sent);
    }

    /// Memory for a payload, once there is some. Also the error that says there never will be.
    pub(super) fn poll_payload(
        &mut self,
        length: u32,
        waker: &Waker,
    ) -> Poll<Result<Payload, NtStatus>> {
        if self.end.is_some() || self.closing {
            return Poll::Ready(Err(NtStatus::CONNECTION_DISCONNECTED));
        }
        match &self.attach {
            Attach::Not | Attach::Refused => {
                return Poll::Ready(Err(NtStatus::INSUFFICIENT_RESOURCES));
            }
            Attach::Wanted | Attach::Asked(_) => {}
            Attach::Mapped { area, .. } => {
                if length > area.extents.borrow().largest() {
                    return Poll::Ready(Err(NtStatus::INSUFFICIENT_RESOURCES));
                }
                if let Some(payload) = Payload::take(area, length) {
                    return Poll::Ready(Ok(payload));
                }
                area.wait(waker);
                self.ask_for_more();
            }
        }
        self.waiters.push(waker.clone());
        Poll::Pending
    }
}

pub(super) fn violation(what: impl Into<String>) -> ChannelError {
    ChannelError::Violation(what.into())
}

pub(super) fn closed(reason: CloseReason) -> ChannelError {
    let what = match reason {
        CloseReason::PeerDisconnected | CloseReason::ServerClosed => return ChannelError::Closed,
        CloseReason::PeerViolation => {
            "the client broke SMB Direct's rules; smbdirectd's log says which"
        }
        CloseReason::TimedOut => "the client did not answer in time",
        CloseReason::DeviceError => "the RDMA device failed; smbdirectd's log says how",
        CloseReason::RelayViolation => "smbdirectd refused a record of this process",
        CloseReason::LimitReached => "a limit of smbdirectd was reached; its log says which",
    };
    ChannelError::Violation(what.into())
}
