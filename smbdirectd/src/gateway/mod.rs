//! The one loop that connects everything to the world: connection manager, completion channels,
//! relay sockets, the supervisor, and time. Plain epoll on one thread; protocol, account and
//! memory live in the modules it calls. Each turn handles what happened, then advances each
//! connection it touched once, so that chains and records leave gathered.

mod acceptance;
mod connection;
mod ending;
mod idle;
mod operations;
mod pace;
mod report;
mod send_queue;
mod sink;
mod vigil;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use proto::control::gateway::{FromGateway, GatewayTotals, ToGateway};
use proto::time::Timestamp;
use rustix::event::epoll::{self, EventData, EventFlags};
use shm::SystemError;
use shm::link::{Datagram, Link, LinkError, SocketLink};
use slab::Slab;

use crate::addresses::{drain, watch_changes};
use crate::config::Limits;
use crate::listener::Listeners;
use crate::memory::Memory;
use crate::rdma::EventChannel;
use crate::relay::Pool;
use connection::{Connection, Shared};
use ending::Ending;
use pace::Pace;
use report::Ended;
use vigil::Vigil;

/// Bytes of RDMA READ sinks an iWARP connection pins.
pub const SINK_MEMORY: u64 = sink::SLOT as u64 * sink::SLOTS as u64;

/// How long connections may take to end at a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// After news of a change the addresses and devices are looked at this often,
const SETTLE: Duration = Duration::from_millis(100);
/// for this long: a device that has come needs a moment until its addresses can be listened on.
const UNSETTLED: Duration = Duration::from_millis(1500);
/// Events taken at a time.
const EVENTS: usize = 128;

/// What a token is about: the top byte. The rest is a generation (24 bits) and an index (32).
mod kind {
    pub const CONTROL: u64 = 1;
    pub const MANAGER: u64 = 2;
    pub const LISTENER: u64 = 3;
    pub const CONNECTION: u64 = 4;
    pub const RELAY: u64 = 5;
    pub const CHANGES: u64 = 6;
}

/// Why the gateway ended.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The supervisor is gone or sends nonsense.
    #[error("the supervisor's socket failed: {0}")]
    Control(#[from] LinkError),
    /// The supervisor sent what this program cannot read.
    #[error("the supervisor sent {0}; install smbd and smbdirectd together")]
    Message(#[from] proto::control::ControlError),
    /// The kernel refused something nothing works without.
    #[error(transparent)]
    System(#[from] SystemError),
}

#[derive(Debug)]
struct Entry {
    connection: Box<Connection>,
    generation: u32,
    dirty: bool,
    /// Its completions may come without waking the loop.
    unarmed: bool,
    deadline: Option<Timestamp>,
    /// Registered relay socket, and whether writability is waited for.
    relay: Option<bool>,
}

/// The loop and everything in it.
#[derive(Debug)]
pub struct Gateway {
    epoll: std::os::fd::OwnedFd,
    control: SocketLink,
    channel: Rc<EventChannel>,
    listeners: Listeners,
    connections: Slab<Entry>,
    deadlines: BTreeSet<(Timestamp, usize)>,
    dirty: Vec<usize>,
    shared: Shared,
    generation: u32,
    next_number: u64,
    started: Instant,
    rescan_at: Timestamp,
    /// Say that addresses or devices changed.
    changes: Vec<OwnedFd>,
    /// Until then something may still follow from what changed.
    unsettled_until: Timestamp,
    refusal_logged: Option<Timestamp>,
    ended: Ended,
    shutdown_by: Option<Timestamp>,
    /// With everybody else: there is only one.
    shares_processor: bool,
    vigil: Vigil,
    /// Connections with something to do since their completion queues were last armed.
    unarmed: Vec<usize>,
}

impl Gateway {
    /// Opens the connection manager; the process has its final privileges.
    pub fn new(control: SocketLink, limits: Limits) -> Result<Gateway, GatewayError> {
        let settings = limits.settings().clone();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(SystemError::of("create an epoll instance"))?;
        let channel = EventChannel::new()?;
        let mut gateway = Gateway {
            epoll,
            control,
            listeners: Listeners::new(
                &channel,
                settings.devices,
                settings.port_override,
                kind::LISTENER << 56 | 1,
            ),
            channel,
            connections: Slab::new(),
            deadlines: BTreeSet::new(),
            dirty: Vec::new(),
            shared: Shared {
                memory: Memory::new(settings.memory_budget, settings.client_memory),
                pool: Pool::new(limits.pool()),
                totals: GatewayTotals::default(),
                datagram: Datagram::new(),
                limits,
                completions: Vec::new(),
                pace: Pace::default(),
                chain: Vec::new(),
            },
            generation: 0,
            next_number: 1,
            started: Instant::now(),
            rescan_at: Timestamp::ZERO,
            changes: watch_changes(),
            unsettled_until: Timestamp::ZERO,
            refusal_logged: None,
            ended: Ended::default(),
            shutdown_by: None,
            shares_processor: shm::scheduling::is_on_one_processor(),
            vigil: Vigil::default(),
            unarmed: Vec::new(),
        };
        gateway.watch(gateway.control.descriptor(), kind::CONTROL << 56, false)?;
        gateway.watch(gateway.channel.as_fd(), kind::MANAGER << 56, false)?;
        for socket in &gateway.changes {
            gateway.watch(socket.as_fd(), kind::CHANGES << 56, false)?;
        }
        gateway.say(&FromGateway::Ready);
        gateway.rescan(true);
        Ok(gateway)
    }

    /// Runs until the supervisor ends it.
    pub fn run(mut self) -> Result<(), GatewayError> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut now = self.now();
        loop {
            self.control.flush()?;
            now = self.await_turn(now, &mut events)?;
            for event in events.drain(..) {
                if !self.handle(now, event.data.u64())? && self.shutdown_by.is_none() {
                    self.begin_shutdown(now);
                }
            }
            self.handle_deadlines(now);
            if now >= self.rescan_at && self.shutdown_by.is_none() {
                self.rescan(false);
            }
            self.advance_dirty(now)?;
            self.shared.pace.end_turn();
            if let Some(by) = self.shutdown_by
                && (self.connections.is_empty() || now >= by)
            {
                return Ok(());
            }
        }
    }

    fn now(&self) -> Timestamp {
        let elapsed = self.started.elapsed().as_micros();
        Timestamp::from_micros(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// Handles one event; false when the supervisor wants the end.
    fn handle(&mut self, now: Timestamp, token: u64) -> Result<bool, GatewayError> {
        match token >> 56 {
            kind::CONTROL => return self.handle_control(now),
            kind::MANAGER => self.handle_manager(now)?,
            kind::CHANGES => {
                self.changes.iter().for_each(drain);
                self.unsettled_until = now.saturating_add(UNSETTLED);
                self.rescan_at = now.saturating_add(SETTLE).min(self.rescan_at);
            }
            kind::CONNECTION => {
                if let Some(index) = self.find(token) {
                    let entry = &mut self.connections[index];
                    entry.connection.handle_completions(now, &mut self.shared);
                    self.touch(index);
                }
            }
            kind::RELAY => {
                if let Some(index) = self.find(token) {
                    let entry = &mut self.connections[index];
                    entry.connection.handle_relay(now, &mut self.shared);
                    self.touch(index);
                }
            }
            _ => {}
        }
        Ok(true)
    }

    fn handle_control(&mut self, now: Timestamp) -> Result<bool, GatewayError> {
        let mut datagram = std::mem::take(&mut self.shared.datagram);
        let mut go_on = true;
        let result = loop {
            match self.control.receive(&mut datagram) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(LinkError::Closed) => {
                    go_on = false;
                    break Ok(());
                }
                Err(error) => break Err(GatewayError::from(error)),
            }
            let count = datagram.descriptors.len();
            let mut failed = None;
            for message in proto::control::decode::<ToGateway>(datagram.bytes(), count) {
                match message {
                    Ok(ToGateway::QueryStatus { query }) => self.answer_status(now, query),
                    Ok(ToGateway::Shutdown) => go_on = false,
                    Ok(ToGateway::Configure(_)) => {
                        tracing::warn!("configured twice; restart smbdirectd to change settings");
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                break Err(error.into());
            }
        };
        self.shared.datagram = datagram;
        result.map(|()| go_on)
    }

    fn begin_shutdown(&mut self, now: Timestamp) {
        tracing::info!(connections = self.connections.len(), "shutting down");
        self.shutdown_by = Some(now.saturating_add(SHUTDOWN));
        self.listeners.clear();
        let indexes: Vec<usize> = self.connections.iter().map(|(index, _)| index).collect();
        for index in indexes {
            let ending = Ending::ordinary(proto::relay::CloseReason::ServerClosed);
            self.connections[index].connection.end(now, ending);
            self.touch(index);
        }
    }

    fn say(&mut self, message: &FromGateway) {
        self.control
            .queue(&mut |out| proto::control::encode(message, out));
    }

    fn handle_deadlines(&mut self, now: Timestamp) {
        while let Some((deadline, index)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(entry) = self.connections.get_mut(index) {
                entry.deadline = None;
                entry.connection.handle_deadline(now);
                self.touch(index);
            }
        }
    }

    fn touch(&mut self, index: usize) {
        if let Some(entry) = self.connections.get_mut(index)
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push(index);
        }
    }

    fn advance_dirty(&mut self, now: Timestamp) -> Result<(), GatewayError> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let Some(entry) = self.connections.get_mut(index) else {
                continue;
            };
            entry.dirty = false;
            entry.connection.advance(now, &mut self.shared);
            if let Some(socket) = entry.connection.take_announcement() {
                let connection = &entry.connection;
                let message = FromGateway::Connection {
                    connection: connection.number(),
                    peer: connection.peer(),
                    local: connection.local(),
                    device: connection.device().name().to_string(),
                };
                self.control.queue_with(
                    &mut |out| proto::control::encode(&message, out),
                    vec![socket],
                );
            }
            if self.connections[index].connection.is_gone(now) {
                self.remove(now, index);
            } else {
                self.watch_relay(index)?;
                self.note_deadline(index);
                let entry = &mut self.connections[index];
                if !std::mem::replace(&mut entry.unarmed, true) {
                    self.unarmed.push(index);
                }
            }
        }
        self.dirty = dirty;
        Ok(())
    }

    fn remove(&mut self, now: Timestamp, index: usize) {
        let mut entry = self.connections.remove(index);
        self.ended.note(now, &entry.connection);
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, index));
        }
        entry.connection.dismantle(&mut self.shared);
    }

    fn note_deadline(&mut self, index: usize) {
        let entry = &mut self.connections[index];
        let deadline = entry.connection.deadline();
        if deadline != entry.deadline {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, index));
            }
            entry.deadline = deadline;
            self.deadlines.extend(deadline.map(|due| (due, index)));
        }
    }

    /// Registers the relay socket when there is one, and for writing only while it is full.
    fn watch_relay(&mut self, index: usize) -> Result<(), SystemError> {
        let entry = &self.connections[index];
        let token = token(kind::RELAY, entry.generation, index);
        let wanted = entry.connection.relay();
        let registered = entry.relay;
        match (registered, wanted) {
            (None, Some((socket, blocked))) => self.watch(socket, token, blocked)?,
            (Some(before), Some((socket, blocked))) if before != blocked => {
                let data = EventData::new_u64(token);
                epoll::modify(&self.epoll, socket, data, flags(blocked))
                    .map_err(SystemError::of("change what is waited for"))?;
            }
            _ => {}
        }
        let registered = wanted.map(|(_, blocked)| blocked);
        self.connections[index].relay = registered;
        Ok(())
    }

    fn watch(
        &self,
        descriptor: BorrowedFd<'_>,
        token: u64,
        writable: bool,
    ) -> Result<(), SystemError> {
        let data = EventData::new_u64(token);
        epoll::add(&self.epoll, descriptor, data, flags(writable))
            .map_err(SystemError::of("wait for a descriptor"))
    }

    /// The live connection a token names.
    fn find(&self, token: u64) -> Option<usize> {
        let index = (token & 0xffff_ffff) as usize;
        let generation = (token >> 32 & 0x00ff_ffff) as u32;
        let entry = self.connections.get(index)?;
        (entry.generation == generation && token >> 56 != kind::LISTENER).then_some(index)
    }
}

fn token(kind: u64, generation: u32, index: usize) -> u64 {
    kind << 56 | u64::from(generation & 0x00ff_ffff) << 32 | index as u64 & 0xffff_ffff
}

fn flags(writable: bool) -> EventFlags {
    if writable {
        EventFlags::IN | EventFlags::OUT
    } else {
        EventFlags::IN
    }
}
