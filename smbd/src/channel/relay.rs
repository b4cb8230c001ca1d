//! An RDMA connection as its child sees it: records over a relay link to smbdirectd.
//!
//! ARCHITECTURE.md ("Relay", "Memory") says what each record means and who owns which memory
//! when; the rules kept here: nothing names the region before `mapped`; an extent of a reply is
//! free with its `sent`, one of a failed RDMA READ only with `drained`; a relay that ends without
//! `drained` poisons the region. smbdirectd's records are checked as a stranger's would be.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use proto::control::ConnectionKind;
use proto::relay::{
    Attached, BACKLOG, Body, CloseReason, Descriptor, Hello, INLINE_PREFERRED, MAX_INLINE,
    MessageSequence, OperationId, Outcome, PayloadWrite, ToChild, ToChildRecords, ToGateway,
};
use proto::smb2::NtStatus;
use shm::SystemError;
use shm::link::{Datagram, Link, LinkError, SocketLink};

use super::region::{Area, AttachTurn, SharedRegion};
use super::{Channel, ChannelError, ChannelLimits, Outgoing, Payload, Reading, Transport};

/// Datagrams taken in one turn, so that other channels get theirs.
const MAX_DATAGRAMS: usize = 32;

/// One relay.
pub struct RelayChannel {
    /// A duplicate of the link's socket, for the loop to wait on.
    descriptor: OwnedFd,
    state: Rc<RefCell<State>>,
}

struct State {
    link: SocketLink,
    /// The receive buffer; taken while its records are handled.
    datagram: Option<Datagram>,
    region: Rc<SharedRegion>,
    hello: Option<Hello>,
    reading: Reading,
    /// The raw datagrams so far, kept until it is known who serves the client.
    preface: Vec<u8>,
    /// The newest message taken, and the newest smbdirectd was told of.
    taken: u64,
    released: u64,
    /// One of the messages since then lies in the ring.
    ring_taken: bool,
    attach: Attach,
    operations: HashMap<OperationId, Operation>,
    last_operation: u64,
    /// Replies that wait for memory or for an operation to end, in order.
    deferred: VecDeque<Outgoing>,
    /// Extents of failed operations: a NIC may write to them until `drained`.
    limbo: Vec<Payload>,
    waiters: Vec<Waker>,
    closing: bool,
    end: Option<ChannelError>,
    drained: bool,
}

enum Attach {
    /// No session is authenticated yet.
    Not,
    Wanted,
    Asked,
    Mapped {
        area: Rc<Area>,
        ring: (u64, u32),
    },
    Refused,
}

enum Operation {
    Fetch {
        payload: Payload,
        done: oneshot::Sender<Result<Payload, NtStatus>>,
    },
    /// Holds the reply's extents.
    Reply { _payloads: Vec<Payload> },
}

impl RelayChannel {
    /// Takes the child's end of a relay.
    pub fn new(socket: OwnedFd, region: Rc<SharedRegion>) -> Result<RelayChannel, SystemError> {
        let descriptor = socket
            .try_clone()
            .map_err(SystemError::of("duplicate a relay's socket"))?;
        Ok(RelayChannel {
            descriptor,
            state: Rc::new(RefCell::new(State {
                link: SocketLink::new(socket, BACKLOG),
                datagram: None,
                region,
                hello: None,
                reading: Reading::OneMessage,
                preface: Vec::new(),
                taken: 0,
                released: 0,
                ring_taken: false,
                attach: Attach::Not,
                operations: HashMap::new(),
                last_operation: 0,
                deferred: VecDeque::new(),
                limbo: Vec::new(),
                waiters: Vec::new(),
                closing: false,
                end: None,
                drained: false,
            })),
        })
    }
}

impl State {
    /// Reads the next datagram; false when there is none.
    fn receive(&mut self, messages: &mut Vec<Vec<u8>>) -> Result<bool, ChannelError> {
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

    fn take(
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
                }
                ToChild::Attached(attached) => self.attached(&attached, descriptors.pop())?,
                ToChild::AttachRefused => {
                    tracing::warn!(
                        peer = %self.peer(),
                        "smbdirectd has no memory left for this client; it is served without RDMA \
                         payload (rdma memory budget)"
                    );
                    self.attach = Attach::Refused;
                    self.region.not_attached();
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

    fn message(
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

    fn attached(
        &mut self,
        attached: &Attached,
        memfd: Option<OwnedFd>,
    ) -> Result<(), ChannelError> {
        if !matches!(self.attach, Attach::Asked) {
            return Err(violation("`attached` without `attach`"));
        }
        let area = self
            .region
            .attached(attached, memfd)
            .inspect_err(|_| self.region.not_attached())
            .map_err(violation)?;
        self.attach = Attach::Mapped {
            area,
            ring: (attached.ring_offset, attached.ring_size),
        };
        self.link.queue(&mut |out| ToGateway::Mapped.encode(out));
        self.wake();
        Ok(())
    }

    fn payload_ready(
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

    fn sent(&mut self, operation: OperationId, outcome: Outcome) -> Result<(), ChannelError> {
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

    fn drained(&mut self) {
        self.drained = true;
        self.end.get_or_insert(ChannelError::Closed);
        self.limbo.clear();
        for (_, operation) in self.operations.drain() {
            if let Operation::Fetch { done, .. } = operation {
                let _ = done.send(Err(NtStatus::CONNECTION_DISCONNECTED));
            }
        }
        self.wake();
    }

    /// The link is gone: without `drained` the region's memory is nobody's to reuse.
    fn lost(&mut self) {
        if !self.drained {
            if let Attach::Mapped { area, .. } = &self.attach {
                tracing::warn!(
                    peer = %self.peer(),
                    "smbdirectd ended without saying that the NIC is done; the region is given up"
                );
                self.region.poison(area);
                // Never given back to its account, in case another channel still holds the area.
                for payload in self.limbo.drain(..) {
                    std::mem::forget(payload);
                }
                for (_, operation) in self.operations.drain() {
                    match operation {
                        Operation::Fetch { payload, done } => {
                            std::mem::forget(payload);
                            let _ = done.send(Err(NtStatus::CONNECTION_DISCONNECTED));
                        }
                        Operation::Reply { _payloads } => {
                            _payloads.into_iter().for_each(std::mem::forget);
                        }
                    }
                }
            }
            if matches!(self.attach, Attach::Asked) {
                self.region.not_attached();
            }
        }
        self.drained();
    }

    fn wake(&mut self) {
        self.waiters.drain(..).for_each(Waker::wake);
    }

    fn next_operation(&mut self) -> OperationId {
        self.last_operation += 1;
        OperationId(self.last_operation)
    }

    /// Whether smbdirectd is to be told now which messages are consumed. Inline ones hold up nothing
    /// until there are many: the news rides with the next record.
    fn must_release(&self) -> bool {
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
    fn has_room(&self) -> bool {
        let limit = self.hello.as_ref().map_or(0, |hello| hello.max_operations);
        self.operations.len() < limit as usize
    }

    fn peer(&self) -> SocketAddr {
        self.hello.as_ref().map_or(NOWHERE, |hello| hello.peer)
    }

    /// Sends a reply; gives it back when it must wait for memory or for an operation to end.
    fn try_send(&mut self, reply: Outgoing) -> Result<(), Outgoing> {
        if !self.has_room() {
            return Err(reply);
        }
        let length: usize = reply.pieces.iter().map(Vec::len).sum();
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
        let operation = self.next_operation();
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

    fn send_deferred(&mut self) {
        while let Some(reply) = self.deferred.pop_front() {
            if let Err(reply) = self.try_send(reply) {
                self.deferred.push_front(reply);
                if self.has_room() {
                    self.ask_for_more();
                }
                return;
            }
        }
    }

    /// Asks for another part of the payload area, if there may be one.
    fn ask_for_more(&mut self) {
        if let Attach::Mapped { area, .. } = &self.attach
            && let Some(parts) = area.wanted_parts()
        {
            self.link
                .queue(&mut |out| ToGateway::Grow { parts }.encode(out));
        }
    }

    fn try_attach(&mut self) {
        if !matches!(self.attach, Attach::Wanted) || self.end.is_some() || self.closing {
            return;
        }
        let encode = &mut |out: &mut Vec<u8>| ToGateway::Attach.encode(out);
        match self.region.attach_turn() {
            Ok(AttachTurn::First) => self.link.queue(encode),
            Ok(AttachTurn::With(memfd)) => self.link.queue_with(encode, vec![memfd]),
            Ok(AttachTurn::Wait) => return,
            Err(error) => {
                tracing::error!(%error, "the region's descriptor can't be duplicated");
                self.attach = Attach::Refused;
                return self.wake();
            }
        }
        self.attach = Attach::Asked;
    }

    /// Memory for a payload, once there is some. Also the error that says there never will be.
    fn poll_payload(&mut self, length: u32, waker: &Waker) -> Poll<Result<Payload, NtStatus>> {
        if self.end.is_some() || self.closing {
            return Poll::Ready(Err(NtStatus::CONNECTION_DISCONNECTED));
        }
        match &self.attach {
            Attach::Not | Attach::Refused => {
                return Poll::Ready(Err(NtStatus::INSUFFICIENT_RESOURCES));
            }
            Attach::Wanted | Attach::Asked => {}
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

impl Channel for RelayChannel {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn kind(&self) -> ConnectionKind {
        ConnectionKind::Relay
    }

    fn transport(&self) -> Transport {
        Transport::Rdma
    }

    fn peer(&self) -> SocketAddr {
        self.state.borrow().peer()
    }

    fn local(&self) -> SocketAddr {
        let state = self.state.borrow();
        state.hello.as_ref().map_or(NOWHERE, |hello| hello.local)
    }

    fn device(&self) -> Option<String> {
        let state = self.state.borrow();
        state.hello.as_ref().map(|hello| hello.device.clone())
    }

    fn gateway_connection(&self) -> Option<u64> {
        let state = self.state.borrow();
        state.hello.as_ref().map(|hello| hello.connection)
    }

    fn limits(&self) -> ChannelLimits {
        let state = self.state.borrow();
        let Some(hello) = &state.hello else {
            return ChannelLimits {
                max_send: 0,
                max_receive: 0,
                max_rdma: 0,
            };
        };
        let max_send = match &state.attach {
            // Longer replies need memory a NIC can read.
            Attach::Not | Attach::Refused => hello.max_send.min(MAX_INLINE),
            Attach::Wanted | Attach::Asked => hello.max_send,
            Attach::Mapped { area, .. } => hello.max_send.min(area.extents.borrow().largest()),
        };
        ChannelLimits {
            max_send,
            max_receive: hello.max_receive,
            max_rdma: hello.max_read_write,
        }
    }

    fn receive(&self, deliver: &mut dyn FnMut(Vec<u8>)) -> Result<(), ChannelError> {
        let mut messages = Vec::new();
        let mut outcome = Ok(());
        {
            let state = &mut *self.state.borrow_mut();
            for _ in 0..MAX_DATAGRAMS {
                if state.reading == Reading::Nothing && !state.closing && state.end.is_none() {
                    break;
                }
                let before = messages.len();
                match state.receive(&mut messages) {
                    Ok(false) => break,
                    Ok(true) if state.reading == Reading::OneMessage && !messages.is_empty() => {
                        state.reading = Reading::Nothing;
                    }
                    // A client at ease sends one at a time: the next wakes the loop again.
                    Ok(true) if messages.len() == before + 1 && !state.closing => break,
                    Ok(true) => {}
                    Err(error) => {
                        state.lost();
                        outcome = Err(error);
                        break;
                    }
                }
            }
            if outcome.is_ok()
                && let Some(end) = &state.end
            {
                outcome = Err(end.clone());
            }
        }
        // Delivered without the borrow: a message may end this channel.
        messages.into_iter().for_each(deliver);
        outcome
    }

    fn replay(&self, preface: &[u8], deliver: &mut dyn FnMut(Vec<u8>)) -> Result<(), ChannelError> {
        let mut messages = Vec::new();
        let outcome = {
            let state = &mut *self.state.borrow_mut();
            state.reading = Reading::Nothing;
            state.preface = preface.to_vec();
            state.take(preface, Vec::new(), &mut messages)
        };
        messages.into_iter().for_each(deliver);
        outcome
    }

    fn read_on(&self, reading: Reading) {
        let state = &mut *self.state.borrow_mut();
        state.reading = reading;
        state.preface = Vec::new();
    }

    fn wants_read(&self) -> bool {
        let state = self.state.borrow();
        state.reading != Reading::Nothing || state.closing || state.end.is_some()
    }

    fn has_unread(&self) -> bool {
        false
    }

    fn preface(&self) -> Vec<u8> {
        self.state.borrow().preface.clone()
    }

    fn partial_since(&self) -> Option<Instant> {
        None
    }

    fn send(&self, reply: Outgoing) {
        let state = &mut *self.state.borrow_mut();
        if state.end.is_some() {
            return;
        }
        state.deferred.push_back(reply);
        state.send_deferred();
    }

    fn flush(&self) -> Result<bool, ChannelError> {
        let state = &mut *self.state.borrow_mut();
        if state.drained {
            return Ok(true);
        }
        state.try_attach();
        state.send_deferred();
        if state.must_release() {
            state.released = state.taken;
            state.ring_taken = false;
            let through = MessageSequence(state.released);
            state
                .link
                .queue(&mut |out| ToGateway::Release { through }.encode(out));
        }
        if state.closing && state.deferred.is_empty() && state.end.is_none() {
            state.end = Some(ChannelError::Closed);
            let reason = CloseReason::ServerClosed;
            state
                .link
                .queue(&mut |out| ToGateway::Close { reason }.encode(out));
        }
        match state.link.flush() {
            Ok(done) => Ok(done),
            // What smbdirectd said last is still to be read; `receive` sees the end.
            Err(LinkError::Closed) => Ok(true),
            Err(error) => Err(ChannelError::System(error.to_string())),
        }
    }

    fn authenticated(&self) {
        let state = &mut *self.state.borrow_mut();
        if matches!(state.attach, Attach::Not) {
            state.attach = Attach::Wanted;
        }
    }

    fn has_rdma(&self) -> bool {
        let state = self.state.borrow();
        !matches!(state.attach, Attach::Not | Attach::Refused)
    }

    fn payload(&self, length: u32) -> LocalBoxFuture<'static, Result<Payload, NtStatus>> {
        let state = Rc::clone(&self.state);
        poll_fn(move |cx| state.borrow_mut().poll_payload(length, cx.waker())).boxed_local()
    }

    fn fetch(
        &self,
        descriptors: Vec<Descriptor>,
        length: u32,
    ) -> LocalBoxFuture<'static, Result<Payload, NtStatus>> {
        let memory = self.payload(length);
        let state = Rc::clone(&self.state);
        async move {
            let payload = memory.await?;
            poll_fn(|cx| {
                let state = &mut *state.borrow_mut();
                if state.has_room() || state.end.is_some() {
                    return Poll::Ready(());
                }
                state.waiters.push(cx.waker().clone());
                Poll::Pending
            })
            .await;
            let done = {
                let state = &mut *state.borrow_mut();
                if state.end.is_some() {
                    return Err(NtStatus::CONNECTION_DISCONNECTED);
                }
                let operation = state.next_operation();
                let record = ToGateway::ReadPayload {
                    operation,
                    target: payload.range(length),
                    descriptors: &descriptors,
                };
                state.link.queue(&mut |out| record.encode(out));
                let (done, result) = oneshot::channel();
                let fetch = Operation::Fetch { payload, done };
                state.operations.insert(operation, fetch);
                result
            };
            done.await.unwrap_or(Err(NtStatus::CONNECTION_DISCONNECTED))
        }
        .boxed_local()
    }

    fn close(&self) {
        self.state.borrow_mut().closing = true;
    }

    fn hang_up(&self) {
        self.state.borrow_mut().lost();
        // An error means that it is down already.
        let _ = rustix::net::shutdown(&self.descriptor, rustix::net::Shutdown::Both);
    }

    fn is_drained(&self) -> bool {
        self.state.borrow().drained
    }
}

/// The address of a relay that has said nothing yet.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn violation(what: impl Into<String>) -> ChannelError {
    ChannelError::Violation(what.into())
}

fn closed(reason: CloseReason) -> ChannelError {
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

#[cfg(test)]
mod tests;
