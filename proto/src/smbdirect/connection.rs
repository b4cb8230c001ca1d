//! One side of an SMB Direct connection, [MS-SMBD] 3.1: what happened goes in by `handle_*`, what
//! to do comes out by `receives_to_post`, `poll_send` and `deadline`. The driver calls these after
//! every batch of input until nothing more comes out. Time is whatever the driver says; payload is
//! named, never held. After the first error the connection is closed and stays so.

mod data_phase;
mod negotiation_phase;

use std::ops::Range;

use super::counters::Counters;
use super::credits::{Credits, ReceiveCredits, SendCredits};
use super::keepalive::Keepalive;
use super::negotiation::{Answer, Negotiated};
use super::outgoing::Outgoing;
use super::parameters::{Parameters, payload_capacity};
use super::reassembly::Reassembly;
use super::send_queue::{MessageKey, QueueError, SendQueue};
use super::state::{Event, Role, State};
use super::violation::{CloseReason, PeerViolation};
use crate::time::Timestamp;

/// What a received message meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The sizes are settled: post receives of `receive_buffer_size` as `receives_to_post` asks.
    Negotiated,
    /// The request is refused with this NTSTATUS: `poll_send` has the answer, then it is over.
    Refused { status: u32 },
    /// No payload: credits, or a sign of life.
    Empty,
    /// Payload. The bytes of an upper-layer message arrive in order and without gaps.
    Fragment {
        /// Where in the received message it lies.
        data: Range<usize>,
        /// Length of the whole upper-layer message; the same for all its fragments.
        message_length: u32,
        offset_in_message: u32,
        /// The message is complete with this fragment.
        last: bool,
    },
}

#[derive(Debug)]
pub struct Connection {
    role: Role,
    state: State,
    closed: Option<CloseReason>,
    parameters: Parameters,
    negotiate_deadline: Timestamp,
    /// Passive: what the request deserves, until it is sent.
    answer: Option<Answer>,
    negotiated: Option<Negotiated>,
    send_credits: SendCredits,
    receive_credits: ReceiveCredits,
    queue: SendQueue,
    reassembly: Reassembly,
    keepalive: Keepalive,
    /// The peer asked for a sign of life.
    response_due: bool,
    /// Since when no receive is posted, so that the peer cannot speak.
    muted_since: Option<Timestamp>,
    counters: Counters,
}

impl Connection {
    /// `now` is when the connection arrived or was asked for: negotiation is timed from here.
    pub fn new(role: Role, parameters: Parameters, now: Timestamp) -> Self {
        Self {
            role,
            state: role.initial_state(),
            closed: None,
            negotiate_deadline: now.saturating_add(parameters.negotiate_timeout),
            answer: None,
            negotiated: None,
            send_credits: SendCredits::new(parameters.max_outstanding_sends),
            receive_credits: ReceiveCredits::new(parameters.receive_credit_max),
            queue: SendQueue::default(),
            reassembly: Reassembly::new(
                parameters.max_fragmented_receive_size,
                parameters.partial_message_timeout,
            ),
            keepalive: Keepalive::new(
                parameters.keepalive_interval,
                parameters.keepalive_reply_timeout,
                now,
            ),
            response_due: false,
            muted_since: None,
            counters: Counters::default(),
            parameters,
        }
    }

    /// The connection manager reports the connection established. On the passive side the
    /// negotiate request may have been handled before; the answer waits for this.
    pub fn handle_established(&mut self, _now: Timestamp) {
        self.transition(Event::ConnectionEstablished);
    }

    /// A receive completed with `message`. Its buffer is no longer posted.
    pub fn handle_receive(
        &mut self,
        now: Timestamp,
        message: &[u8],
    ) -> Result<Received, PeerViolation> {
        if let Some(reason) = self.closed {
            return Err(match reason {
                CloseReason::Violation(violation) => violation,
                _ => PeerViolation::AfterClose,
            });
        }
        let received = match self.state {
            State::Accepting | State::AwaitingRequest => self.receive_request(message),
            State::AwaitingResponse => self.receive_response(now, message),
            State::Established => self.receive_data(now, message),
            state => Err(PeerViolation::UnexpectedMessage {
                state: state.name(),
            }),
        };
        if let Err(violation) = received {
            self.close(CloseReason::Violation(violation));
        }
        received
    }

    /// The driver put `count` more receives into the queue, each of `receive_buffer_size`. Buffers
    /// still held by the layer above are not posted and not reported.
    pub fn handle_posted(&mut self, count: u16) {
        self.receive_credits.add_posted(count);
    }

    /// `sends` messages taken from `poll_send` have left the send queue.
    pub fn handle_send_complete(&mut self, _now: Timestamp, sends: u16) {
        self.send_credits.complete(sends);
    }

    /// To be called when `deadline` has passed; at any other time it does nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        match self.state {
            State::Closed => {}
            State::Established => self.check_established_timers(now),
            _ => self.check_negotiate_timer(now),
        }
    }

    /// Queues an upper-layer message behind those already queued. `invalidate` is the peer's
    /// memory token the message puts out of use.
    pub fn queue_message(
        &mut self,
        message: MessageKey,
        length: u32,
        invalidate: Option<u32>,
    ) -> Result<(), QueueError> {
        if self.state != State::Established {
            return Err(QueueError::NotEstablished);
        }
        let maximum = self.peer_max_fragmented_size();
        if length > maximum {
            return Err(QueueError::TooLong { length, maximum });
        }
        self.queue.push(message, length, invalidate)
    }

    /// Holds the peer to `limit` credits for now, as for a client that has not authenticated.
    /// Raising it later grants the rest at once; at most `receive_credit_max` are ever granted.
    pub fn limit_receive_credits(&mut self, limit: u16) {
        self.receive_credits.set_limit(limit);
    }

    /// Ends the connection. The first reason stays.
    pub fn close(&mut self, reason: CloseReason) {
        if self.closed.is_none() {
            self.closed = Some(reason);
            self.transition(Event::Close);
        }
    }

    /// How many receives the driver should post now. It may post fewer.
    pub fn receives_to_post(&self) -> u16 {
        match (self.state, &self.answer) {
            (State::Closed, _) | (_, Some(Answer::Refuse { .. })) => 0,
            (State::Established, _) | (_, Some(Answer::Accept { .. })) => self
                .receive_credits
                .receives_to_post(self.last_credit_is_needed()),
            // The one negotiate message to come.
            _ => 1_u16.saturating_sub(self.receive_credits.posted()),
        }
    }

    /// The next message to post, if there is one and it may be sent.
    pub fn poll_send(&mut self, now: Timestamp) -> Option<Outgoing> {
        self.excuse_muted_time(now);
        if !self.send_credits.has_room() {
            return None;
        }
        match self.state {
            State::Requesting => self.send_request(),
            State::Answering => self.send_answer(now),
            State::Established => self.send_data(now),
            _ => None,
        }
    }

    /// When `handle_timeout` is next to be called.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            State::Closed => None,
            State::Established => {
                let idle = self.keepalive.deadline();
                Some(self.reassembly.deadline().map_or(idle, |due| due.min(idle)))
            }
            _ => Some(self.negotiate_deadline),
        }
    }

    pub const fn role(&self) -> Role {
        self.role
    }

    pub const fn state(&self) -> State {
        self.state
    }

    /// Why the connection is closed, once it is.
    pub const fn close_reason(&self) -> Option<CloseReason> {
        self.closed
    }

    /// The size of the buffers to post now. It changes once, with negotiation.
    pub fn receive_buffer_size(&self) -> u32 {
        match &self.negotiated {
            Some(negotiated) => negotiated.max_receive_size,
            None => self.parameters.negotiate_buffer_size(),
        }
    }

    /// Payload bytes of one outgoing message at most. Before negotiation, the most it can become.
    pub fn max_send_payload(&self) -> u32 {
        match &self.negotiated {
            Some(negotiated) => negotiated.max_send_payload(),
            None => payload_capacity(self.parameters.max_send_size),
        }
    }

    /// The longest upper-layer message the peer takes; 0 before negotiation.
    pub fn peer_max_fragmented_size(&self) -> u32 {
        self.negotiated
            .map_or(0, |negotiated| negotiated.max_fragmented_send_size)
    }

    /// The longest upper-layer message this side takes.
    pub fn max_fragmented_receive_size(&self) -> u32 {
        self.parameters.max_fragmented_receive_size
    }

    pub fn max_read_write_size(&self) -> u32 {
        self.negotiated
            .map_or(self.parameters.max_read_write_size, |negotiated| {
                negotiated.max_read_write_size
            })
    }

    /// Messages queued and not yet handed out to their last byte.
    pub fn queued_messages(&self) -> usize {
        self.queue.len()
    }

    pub fn credits(&self) -> Credits {
        Credits {
            posted: self.receive_credits.posted(),
            granted: self.receive_credits.granted(),
            available: self.receive_credits.available(),
            target: self.receive_credits.target(),
            held: self.send_credits.held(),
            outstanding: self.send_credits.outstanding(),
        }
    }

    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// An event without a place in the table changes nothing: a connection manager may repeat
    /// itself or speak after the end.
    fn transition(&mut self, event: Event) {
        if let Some(next) = self.state.after(event) {
            self.state = next;
        }
    }

    fn add_send_credits(&mut self, received: u16) -> Result<(), PeerViolation> {
        self.send_credits.add(received)?;
        self.counters.credits_received += u64::from(received);
        Ok(())
    }

    fn grant(&mut self, count: u16) {
        self.receive_credits.grant(count);
        self.counters.credits_granted += u64::from(count);
    }

    /// Something besides credits has to be said.
    fn has_reason_to_send(&self) -> bool {
        !self.queue.is_empty() || self.response_due || self.keepalive.is_due()
    }

    /// A message waits behind the last send credit and needs a grant to go with it.
    fn last_credit_is_needed(&self) -> bool {
        self.send_credits.held() == 1 && self.has_reason_to_send()
    }

    fn check_established_timers(&mut self, now: Timestamp) {
        self.excuse_muted_time(now);
        let partial = self.reassembly.deadline();
        if partial.is_some_and(|deadline| now >= deadline) {
            self.close(CloseReason::PartialMessageTimeout);
        } else if self.keepalive.timed_out(now) {
            self.close(CloseReason::KeepaliveTimeout);
        }
    }

    /// While no receive is posted the peer cannot speak, and that is this side's doing.
    fn excuse_muted_time(&mut self, now: Timestamp) {
        if let Some(since) = self.muted_since {
            let excused = now.saturating_duration_since(since);
            self.keepalive.extend(excused);
            self.reassembly.extend(excused);
            self.muted_since = (self.receive_credits.posted() == 0).then_some(now);
        }
    }
}
