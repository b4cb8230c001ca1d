//! An RDMA connection as its child sees it: records over a relay link to smbdirectd.
//!
//! ARCHITECTURE.md ("Relay", "Memory") says what each record means and who owns which memory
//! when; the rules kept here: nothing names the region before `mapped`; an extent of a reply is
//! free with its `sent`, one of a failed RDMA READ only with `drained`; a relay that ends without
//! `drained` poisons the region. smbdirectd's records are checked as a stranger's would be.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use proto::control::ConnectionKind;
use proto::relay::{
    BACKLOG, CloseReason, Descriptor, MAX_INLINE, MessageSequence, Outline, ToGateway,
};
use proto::smb2::NtStatus;
use shm::SystemError;
use shm::link::{Link, LinkError, SocketLink};

use super::followed;
use super::region::SharedRegion;
use super::{Channel, ChannelError, ChannelLimits, Outgoing, Payload, Reading, Transport};
use crate::stop_point;

mod loans;
mod state;

use loans::{Early, Loans, MAX_AHEAD};
use state::{Attach, Operation, State};

/// Datagrams taken in one turn, so that other channels get theirs.
const MAX_DATAGRAMS: usize = 32;

/// One relay.
pub struct RelayChannel {
    /// A duplicate of the link's socket, for the loop to wait on.
    descriptor: OwnedFd,
    state: Rc<RefCell<State>>,
    /// The message being delivered.
    delivering: Cell<u64>,
}

impl RelayChannel {
    /// Takes the child's end of a relay.
    pub fn new(socket: OwnedFd, region: Rc<SharedRegion>) -> Result<RelayChannel, SystemError> {
        let descriptor = socket
            .try_clone()
            .map_err(SystemError::of("duplicate a relay's socket"))?;
        Ok(RelayChannel {
            descriptor,
            delivering: Cell::new(0),
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
                loans: Loans::default(),
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

impl RelayChannel {
    /// Hands on what was just taken, one by one: the last of them is the last taken.
    fn hand_on(&self, messages: Vec<Vec<u8>>, deliver: &mut dyn FnMut(Vec<u8>)) {
        let taken = self.state.borrow().taken;
        let before = taken.saturating_sub(messages.len() as u64);
        for (number, message) in (before + 1..).zip(messages) {
            self.delivering.set(number);
            deliver(message);
        }
        self.delivering.set(0);
    }
}

impl Channel for RelayChannel {
    fn delivering(&self) -> u64 {
        self.delivering.get()
    }

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
            Attach::Wanted | Attach::Asked(_) => hello.max_send,
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
                match state.receive(&mut messages) {
                    Ok(false) => break,
                    Ok(true) if state.reading == Reading::OneMessage && !messages.is_empty() => {
                        state.reading = Reading::Nothing;
                    }
                    Ok(true) if state.may_have_more() => {}
                    // The next wakes the loop again.
                    Ok(true) => break,
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
        self.hand_on(messages, deliver);
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
        self.hand_on(messages, deliver);
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
        stop_point::reach("relay-reply");
        state.deferred.push_back((followed::message(), reply));
        state.send_deferred();
    }

    fn flush(&self) -> Result<bool, ChannelError> {
        let state = &mut *self.state.borrow_mut();
        if state.drained {
            return Ok(true);
        }
        state.try_attach();
        state.send_deferred();
        state.lend();
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

    fn expect(&self, length: u32, outline: &dyn Fn() -> Option<Outline>) {
        if length <= MAX_AHEAD {
            let state = &mut *self.state.borrow_mut();
            state.expect(followed::message(), outline);
        }
    }

    fn fetch(
        &self,
        descriptors: Vec<Descriptor>,
        length: u32,
    ) -> LocalBoxFuture<'static, Result<Payload, NtStatus>> {
        let early = {
            let loans = &mut self.state.borrow_mut().loans;
            loans.claim(followed::message(), length)
        };
        if let Some(Early { done, .. }) = early {
            return done
                .map(|payload| payload.unwrap_or(Err(NtStatus::CONNECTION_DISCONNECTED)))
                .boxed_local();
        }
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
                let operation = state.next_operation(followed::message());
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

    fn relax(&self) {
        self.state.borrow_mut().datagram = None;
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

#[cfg(test)]
mod tests;
