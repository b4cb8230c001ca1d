//! One RDMA connection: connects its protocol machine, its queue pair and its child's relay.
//!
//! ```text
//! Open --close, refused--> Finishing --all sent--> Draining --all reaped--> Drained --> gone
//!   `---- any error, peer or child gone ------------^
//! ```
//!
//! The gateway calls `handle_*` with what happened and then, once a turn, [`Connection::advance`],
//! which posts and sends everything that follows. An ending is latched; what remains is reaping.

mod child_side;
mod device_side;
mod owed;
mod report;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use proto::control::ConnectionId;
use proto::control::gateway::GatewayTotals;
use proto::relay::{CloseReason, Outcome, ToChild};
use proto::smbdirect::{self, ReadDepths, RequestedReads, Role};
use proto::time::Timestamp;
use shm::SystemError;
use shm::link::{Datagram, Link, SocketLink};

use self::owed::Owed;
use super::ending::Ending;
use super::operations::Operations;
use super::pace::Pace;
use super::send_queue::{Purpose, SendQueue};
use super::sink::Sink;
use crate::config::Limits;
use crate::memory::{Attachment, Memory};
use crate::rdma::Access;
use crate::rdma::{
    Completion, Device, DeviceLimits, Identifier, Operation, ProtectionDomain, QueuePair,
    QueuePairLimits, ReceiveBuffers, Slab, WorkRequest,
};
use crate::relay::{Fragment, Inbound, Loans, Phase, Pool};

/// How long what is queued may take to leave once the connection is to end in order.
const FINISHING: Duration = Duration::from_secs(5);
/// How long the device may take to give every work request back. After it the queue pair is
/// destroyed with requests still out, which takes them back as surely.
const DRAINING: Duration = Duration::from_secs(5);
/// How long the child may take to read its last records, and the peer to answer the disconnect.
const LINGERING: Duration = Duration::from_secs(2);
/// Datagrams read from one child before others have their turn.
const DATAGRAMS_A_TURN: usize = 16;
/// Replies whose end nobody waits for are looked for after this time, if nothing else happens before.
const REAP_DELAY: Duration = Duration::from_millis(5);

/// What connections share; handed in by the gateway.
#[derive(Debug)]
pub struct Shared {
    /// Regions and budgets.
    pub memory: Memory,
    /// Reassembly memory of unattached connections.
    pub pool: Pool,
    /// Counters of the whole daemon.
    pub totals: GatewayTotals,
    /// The one buffer datagrams are read into.
    pub datagram: Datagram,
    /// Limits from the configuration.
    pub limits: Limits,
    /// How densely requests come.
    pub pace: Pace,
    /// Scratch: completions of one poll.
    pub completions: Vec<Completion>,
    /// Scratch: the chain to post.
    pub chain: Vec<WorkRequest>,
}

/// Why a request did not become a connection.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// The client waited longer than it wanted to; it tries again by itself.
    #[error("the client {0} gave up before it was accepted")]
    GivenUp(SocketAddr),
    #[error(transparent)]
    Failed(#[from] SystemError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Finishing { until: Timestamp },
    Draining { until: Timestamp },
    Drained { until: Timestamp },
}

/// A fragment whose receive buffer waits for room at the child.
#[derive(Debug)]
struct Parked {
    buffer: u32,
    data: std::ops::Range<usize>,
    fragment: Fragment,
}

/// A connection, from its request to the last completion.
#[derive(Debug)]
pub struct Connection {
    // First, so that it is destroyed before the memory it was given.
    queue_pair: QueuePair,
    receive: ReceiveBuffers,
    slots: Slab,
    slot_size: u32,
    free_slots: Vec<u16>,
    /// On iWARP, from `mapped` on.
    sink: Option<Sink>,
    domain: Rc<ProtectionDomain>,
    device_limits: DeviceLimits,
    number: ConnectionId,
    peer: SocketAddr,
    local: SocketAddr,
    machine: smbdirect::Connection,
    send_queue: SendQueue,
    operations: Operations,
    /// What payloads may be fetched into before the child has seen their requests.
    loans: Loans,
    inbound: Inbound,
    parked: VecDeque<Parked>,
    link: Option<SocketLink>,
    link_blocked: bool,
    /// What of the link's queue is to be sent.
    owed: Owed,
    /// The child's end, until the supervisor has it.
    announcement: Option<OwnedFd>,
    phase: Phase,
    attachment: Option<Attachment>,
    attach_by: Option<Timestamp>,
    stage: Stage,
    ending: Option<Ending>,
    established: bool,
    peer_gone: bool,
    marker_needed: bool,
    /// When sends are reaped that wake nobody.
    reap_by: Option<Timestamp>,
    moved: Moved,
    accepted_at: Timestamp,
    ended_at: Option<Timestamp>,
}

/// What went by RDMA.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    reads: u64,
    read_bytes: u64,
    writes: u64,
    write_bytes: u64,
}

impl Connection {
    /// Makes everything the connection needs, posts the first receive and accepts.
    pub fn accept(
        number: ConnectionId,
        identifier: Identifier,
        domain: &Rc<ProtectionDomain>,
        device_limits: DeviceLimits,
        reads: RequestedReads,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Connection, NotAccepted> {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = identifier.peer_address().unwrap_or(unknown);
        let local = identifier.local_address().unwrap_or(unknown);
        let parameters = limits.parameters(&device_limits);
        let sends = parameters.max_outstanding_sends;
        let depth = QueuePairLimits {
            send: u32::from(sends) + limits.rdma_depth(&device_limits) + 1,
            receive: u32::from(parameters.receive_queue_depth()),
        };
        let queue_pair = match QueuePair::new(identifier, domain, depth) {
            Ok(mut queue_pair) => {
                queue_pair.reap_sends_quietly();
                queue_pair
            }
            // The peer hears of it at once instead of waiting for its own timeout. When nobody is
            // there to hear, that is why there is no queue pair: nothing is wrong with the device.
            Err((error, identifier)) => {
                return Err(match identifier.reject() {
                    Ok(()) => NotAccepted::Failed(error),
                    Err(_) => NotAccepted::GivenUp(peer),
                });
            }
        };
        let slot_size = parameters
            .max_send_size
            .max(smbdirect::Header::MAX as u32)
            .next_multiple_of(64);
        let slots = Slab::new(
            domain,
            slot_size as usize * usize::from(sends),
            Access::Local,
        )?;
        let mut receive = ReceiveBuffers::new(parameters.negotiate_buffer_size());
        receive.grow(domain, u32::from(limits.unattached_credits()) + 1)?;
        let mut machine = smbdirect::Connection::new(Role::Passive, parameters, now);
        machine.limit_receive_credits(limits.unattached_credits());
        let own_reads = ReadDepths {
            served: device_limits.max_responder_resources.min(1),
            outstanding: device_limits.max_initiator_depth.min(limits.max_reads),
        };
        let agreed = own_reads.agree(reads.peer);
        let answer = agreed.encode();
        let private_data: &[u8] = match reads.by_private_data {
            true => &answer,
            false => &[],
        };

        let mut connection = Connection {
            queue_pair,
            receive,
            slots,
            slot_size,
            free_slots: (0..sends).rev().collect(),
            sink: None,
            domain: domain.clone(),
            device_limits,
            number,
            peer,
            local,
            machine,
            send_queue: SendQueue::new(
                limits.rdma_depth(&device_limits),
                u32::from(agreed.outstanding),
            ),
            operations: Operations::default(),
            loans: Loans::default(),
            inbound: Inbound::new(),
            parked: VecDeque::new(),
            link: None,
            link_blocked: false,
            owed: Owed::default(),
            announcement: None,
            phase: Phase::Greeted,
            attachment: None,
            attach_by: Some(now.saturating_add(limits.first_message)),
            stage: Stage::Open,
            ending: None,
            established: false,
            peer_gone: false,
            marker_needed: false,
            reap_by: None,
            moved: Moved::default(),
            accepted_at: now,
            ended_at: None,
        };
        connection.post_receives()?;
        connection
            .queue_pair
            .accept(agreed.outstanding, agreed.served, private_data)?;
        Ok(connection)
    }

    /// Its number.
    pub fn number(&self) -> ConnectionId {
        self.number
    }

    /// The client.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address it reached.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The device it is on.
    pub fn device(&self) -> &Rc<Device> {
        self.domain.device()
    }

    /// Nobody is known to have logged on over it.
    pub fn is_unattached(&self) -> bool {
        !self.phase.is_authenticated()
    }

    /// Sets the number its connection manager events carry.
    pub fn set_token(&self, token: u64) {
        self.queue_pair.identifier().set_token(token);
    }

    /// Readable when completions wait.
    pub fn completion_channel(&self) -> BorrowedFd<'_> {
        self.queue_pair.as_fd()
    }

    /// The relay socket, once there is one, and whether writability is waited for.
    pub fn relay(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.link
            .as_ref()
            .map(|link| (link.descriptor(), self.link_blocked))
    }

    /// The child's end of a relay that was just made, for the supervisor.
    pub fn take_announcement(&mut self) -> Option<OwnedFd> {
        self.announcement.take()
    }

    /// When [`Connection::handle_deadline`] is due.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Open => earlier(
                earlier(self.machine.deadline(), self.attach_by),
                earlier(self.owed.deadline(), self.reap_by),
            ),
            Stage::Finishing { until } | Stage::Draining { until } | Stage::Drained { until } => {
                Some(until)
            }
        }
    }

    /// Everything is reaped and told: the connection may be dropped.
    pub fn is_gone(&self, now: Timestamp) -> bool {
        let Stage::Drained { until } = self.stage else {
            return false;
        };
        let told = self.link.as_ref().is_none_or(|link| link.waiting() == 0);
        (told && self.peer_gone) || now >= until
    }

    /// Gives back what is shared; the last call before the connection is dropped.
    pub fn dismantle(&mut self, shared: &mut Shared) {
        self.inbound.abandon(&mut shared.pool);
        if let Some(attachment) = self.attachment.take() {
            shared.memory.detach(attachment);
        }
    }

    /// The connection manager says that it is up.
    pub fn handle_established(&mut self, now: Timestamp) {
        self.established = true;
        self.machine.handle_established(now);
    }

    /// The connection manager says that the peer is gone.
    pub fn handle_disconnected(&mut self, now: Timestamp, shared: &mut Shared) {
        self.peer_gone = true;
        // What it sent before it left is still delivered.
        self.handle_completions(now, shared);
        self.end(now, self.departure(None));
    }

    /// Its device is being removed, and does nothing with anybody's memory any more: it gives no
    /// request back either, so nothing is waited for.
    pub fn handle_device_removal(&mut self, now: Timestamp) {
        self.end(
            now,
            Ending {
                reason: CloseReason::DeviceError,
                detail: "its device is being removed".into(),
            },
        );
        self.peer_gone = true;
        if let Stage::Draining { .. } = self.stage {
            self.queue_pair.destroy();
            self.drained(now);
        }
    }

    /// A timer expired.
    pub fn handle_deadline(&mut self, now: Timestamp) {
        match self.stage {
            Stage::Open => {
                self.machine.handle_timeout(now);
                if let Some(reason) = self.machine.close_reason() {
                    self.end(now, reason.into());
                } else if self.attach_by.is_some_and(|due| now >= due) {
                    self.end(
                        now,
                        Ending::timed_out(match self.link {
                            Some(_) => "nobody has logged on since its first message, for too long",
                            None => "its client has connected and sends no message",
                        }),
                    );
                }
            }
            Stage::Finishing { until } if now >= until => self.drain(now),
            Stage::Draining { until } if now >= until => {
                tracing::warn!(
                    connection = self.number.0,
                    device = &*self.device().name(),
                    "the device did not give every work request back within 5 s; \
                     destroying the queue pair takes them back"
                );
                self.queue_pair.destroy();
                self.drained(now);
            }
            _ => {}
        }
    }

    /// Ends the connection; the first ending stays.
    pub fn end(&mut self, now: Timestamp, ending: Ending) {
        if self.ending.is_some() {
            if let Stage::Finishing { .. } = self.stage {
                self.drain(now);
            }
            return;
        }
        self.machine.close(smbdirect::CloseReason::Local);
        self.record_ending(now, ending);
        self.drain(now);
    }

    /// Ends the connection once what is queued has left.
    fn finish(&mut self, now: Timestamp, ending: Ending) {
        if self.ending.is_none() {
            self.record_ending(now, ending);
            self.stage = Stage::Finishing {
                until: now.saturating_add(FINISHING),
            };
        }
    }

    fn record_ending(&mut self, now: Timestamp, ending: Ending) {
        self.ended_at = Some(now);
        let (number, peer) = (self.number.0, self.peer);
        let device = self.device().name();
        let device = &*device;
        if ending.detail.is_empty() {
            tracing::info!(connection = number, %peer, device, "closed: {:?}", ending.reason);
        } else {
            tracing::warn!(
                connection = number,
                %peer,
                device,
                reason = ?ending.reason,
                "connection ended: {}",
                ending.detail
            );
        }
        self.ending = Some(ending);
    }

    /// Queue pair to error, and everything the child waits for is answered.
    fn drain(&mut self, now: Timestamp) {
        if matches!(self.stage, Stage::Draining { .. } | Stage::Drained { .. }) {
            return;
        }
        self.stage = Stage::Draining {
            until: now.saturating_add(DRAINING),
        };
        if self.established && !self.peer_gone {
            // Errors here mean that it is over already.
            let _ = self.queue_pair.identifier().disconnect();
        } else if !self.established {
            self.peer_gone = true;
        }
        let _ = self.queue_pair.fail();
        if self.marker_needed {
            self.post_marker();
        }
        for finished in self.operations.abandon() {
            self.report(finished, Outcome::ConnectionLost);
        }
        self.parked.clear();
        let reason = self
            .ending
            .as_ref()
            .map_or(CloseReason::ServerClosed, |ending| ending.reason);
        self.tell(&ToChild::Closed { reason });
        self.check_drained(now);
    }

    /// One more request, in a queue pair in error: it completes after all others. Needed only behind
    /// a chain the device took in part; siw never completes one.
    fn post_marker(&mut self) {
        let Some(range) = self.slots.region().range(0, 1) else {
            return;
        };
        let request = WorkRequest {
            id: self.send_queue.add(Purpose::Marker),
            operation: Operation::Send { invalidate: None },
            first: range,
            second: None,
            signaled: true,
        };
        match self.queue_pair.post_send(&[request]) {
            Ok(()) => {}
            // Then only the time limit ends the wait, and only if a request is really out.
            Err(_) => {
                let posted = self.send_queue.len().saturating_sub(1);
                self.send_queue.withdraw_all_but(posted);
            }
        }
    }

    fn check_drained(&mut self, now: Timestamp) {
        let Stage::Draining { .. } = self.stage else {
            return;
        };
        if self.receive.posted() == 0 && self.send_queue.is_empty() {
            self.drained(now);
        }
    }

    fn drained(&mut self, now: Timestamp) {
        self.stage = Stage::Drained {
            until: now.saturating_add(LINGERING),
        };
        tracing::debug!(
            connection = self.number.0,
            duplicates = self.send_queue.duplicates(),
            "drained"
        );
        self.tell(&ToChild::Drained);
    }

    /// Everything that follows from what was handled: receives, chains, records. Once a turn.
    pub fn advance(&mut self, now: Timestamp, shared: &mut Shared) {
        let overdue = self.reap_by.is_some_and(|by| by <= now);
        self.reap_sends(now, shared);
        if overdue {
            self.owed.hurry(now);
        }
        self.pump_or_end(now, shared);
        self.watch_sends(now, shared, overdue);
        if let Stage::Finishing { .. } = self.stage
            && self.send_queue.is_empty()
            && self.operations.is_empty()
        {
            self.drain(now);
        }
        if self.flush(now).is_err() {
            self.watch_sends(now, shared, true);
        }
    }

    fn pump_or_end(&mut self, now: Timestamp, shared: &mut Shared) {
        if matches!(self.stage, Stage::Open | Stage::Finishing { .. })
            && let Err(ending) = self.pump(now, shared)
        {
            self.end(now, ending);
        }
    }

    /// Sees to it that the end of what is posted is noticed: by an event if somebody waits for it,
    /// else with whatever happens next, or after a moment.
    fn watch_sends(&mut self, now: Timestamp, shared: &mut Shared, overdue: bool) {
        if self.send_queue.is_empty() {
            self.reap_by = None;
            return;
        }
        if !overdue && !self.awaits_sends() {
            self.reap_by.get_or_insert(now.saturating_add(REAP_DELAY));
            return;
        }
        self.reap_by = None;
        match self.queue_pair.arm_sends() {
            Ok(true) => {
                self.reap_sends(now, shared);
                self.pump_or_end(now, shared);
            }
            Ok(false) => {}
            Err(error) => self.end(now, error.into()),
        }
    }

    /// Sends the child what it is owed. An error is the end of the connection.
    fn flush(&mut self, now: Timestamp) -> Result<(), ()> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if !self.link_blocked && !self.owed.is_due(now) {
            return Ok(());
        }
        self.owed = Owed::default();
        match link.flush() {
            Ok(all) => {
                self.link_blocked = !all;
                Ok(())
            }
            Err(error) => {
                self.link = None;
                self.end(now, error.into());
                Err(())
            }
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
