//! The active side of SMB Direct: drives the protocol machine and a queue pair, blocks with time
//! limits, carries whole SMB2 messages, and misbehaves on request. Compiled against each fabric:
//! the parent module says which (`rdma`), and nothing here is specific to one.

mod behaviour;
mod memory;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use proto::smbdirect::{
    Connection, Counters, Credits, MessageKey, Outgoing, Received, Role, State,
};
use proto::time::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rdma::{
    Access, CmEventKind, Completion, Device, EventChannel, Identifier, Operation, ProtectionDomain,
    QueuePair, QueuePairLimits, ReceiveBuffers, Slab, Status, WorkRequest,
};
use crate::client::{ClientError, PATIENCE, RdmaTransport, Transport};

pub use behaviour::Behaviour;

/// Bytes of a send slot: more than any server's receive buffer, so that it can be overrun.
const SLOT: usize = 8192;
/// In a work request's id: the machine does not know of this send.
const UNACCOUNTED: u64 = 1 << 16;
/// Pieces the machine is given at a time; the rest waits here.
const QUEUED_PIECES: usize = 256;

/// A connection to a server.
#[derive(Debug)]
pub struct SmbDirect {
    // First, so that it is destroyed before the memory it was given.
    queue_pair: QueuePair,
    receive: ReceiveBuffers,
    slots: Slab,
    free_slots: Vec<u16>,
    exposed: Vec<Option<Slab>>,
    domain: Rc<ProtectionDomain>,
    channel: Rc<EventChannel>,
    machine: Connection,
    started: Instant,
    behaviour: Behaviour,
    grants: bool,
    waiting: VecDeque<Piece>,
    outgoing: HashMap<u64, Piece>,
    next_key: u64,
    partial: Vec<u8>,
    inbox: VecDeque<Vec<u8>>,
    over: Option<String>,
    /// Private data of the acceptance.
    answered: Box<[u8]>,
}

/// Bytes given to the machine as one message.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// Bytes of the same upper-layer message in pieces behind it.
    behind: u32,
}

impl SmbDirect {
    /// Connects, and negotiates unless the behaviour says otherwise.
    pub fn connect(server: SocketAddr, behaviour: Behaviour) -> Result<SmbDirect, ClientError> {
        let mut client = SmbDirect::ask(server, behaviour)?;
        let accepted = await_event(&client.channel, "the server's acceptance", |kind| {
            matches!(kind, CmEventKind::Established { .. })
        })?;
        if let CmEventKind::Established { private_data, .. } = accepted {
            client.answered = private_data;
        }
        if client.behaviour.negotiates {
            client.machine.handle_established(client.now());
            client.drive_until(PATIENCE, |client| {
                client.machine.state() == State::Established
            })?;
        }
        Ok(client)
    }

    /// Asks for a connection; the answer is still to come.
    pub fn ask(server: SocketAddr, behaviour: Behaviour) -> Result<SmbDirect, ClientError> {
        let channel = EventChannel::new().map_err(local)?;
        let identifier = Identifier::new(&channel).map_err(local)?;
        let milliseconds = PATIENCE.as_millis() as u16;
        if let Some(from) = behaviour.from {
            identifier.bind(from).map_err(local)?;
        }
        identifier
            .resolve_address(server, milliseconds)
            .map_err(local)?;
        await_event(&channel, "the server's address", |kind| {
            matches!(kind, CmEventKind::AddressResolved)
        })?;
        identifier.resolve_route(milliseconds).map_err(local)?;
        await_event(&channel, "a route", |kind| {
            matches!(kind, CmEventKind::RouteResolved)
        })?;
        let mut client = SmbDirect::on_device(channel, identifier, behaviour)?;
        client.post_receives()?;
        let reads = client.behaviour.reads_served;
        client
            .queue_pair
            .connect(1, reads, &client.behaviour.private_data)
            .map_err(local)?;
        Ok(client)
    }

    fn on_device(
        channel: Rc<EventChannel>,
        identifier: Identifier,
        behaviour: Behaviour,
    ) -> Result<SmbDirect, ClientError> {
        let address = identifier
            .local_address()
            .ok_or_else(|| ClientError::Local("no local address".into()))?;
        let device = Device::of_address(&channel, address.ip(), 0).map_err(local)?;
        let domain = ProtectionDomain::new(&device).map_err(local)?;
        let parameters = behaviour.parameters.clone();
        let sends = parameters.max_outstanding_sends;
        let limits = QueuePairLimits {
            send: u32::from(sends),
            receive: u32::from(parameters.receive_queue_depth()),
        };
        let queue_pair = QueuePair::new(identifier, &domain, limits)
            .map_err(|(error, _identifier)| local(error))?;
        let mut receive = ReceiveBuffers::new(parameters.negotiate_buffer_size());
        receive.grow(&domain, limits.receive).map_err(local)?;
        let slots = Slab::new(&domain, SLOT * usize::from(sends), Access::Local).map_err(local)?;
        Ok(SmbDirect {
            queue_pair,
            receive,
            slots,
            free_slots: (0..sends).rev().collect(),
            exposed: Vec::new(),
            domain,
            channel,
            machine: Connection::new(Role::Active, parameters, Timestamp::ZERO),
            started: Instant::now(),
            behaviour,
            grants: true,
            waiting: VecDeque::new(),
            outgoing: HashMap::new(),
            next_key: 1,
            partial: Vec::new(),
            inbox: VecDeque::new(),
            over: None,
            answered: Box::default(),
        })
    }

    /// Queues a message without waiting until it has left; [`SmbDirect::drive`] sends it.
    pub fn queue(&mut self, message: &[u8]) {
        self.waiting.push_back(Piece {
            bytes: message.to_vec(),
            behind: 0,
        });
    }

    /// Queues a message in fragments of `size` bytes, however much would fit into one.
    pub fn queue_in_fragments(&mut self, message: &[u8], size: usize) {
        let mut behind = message.len();
        for bytes in message.chunks(size.max(1)) {
            behind -= bytes.len();
            self.waiting.push_back(Piece {
                bytes: bytes.to_vec(),
                behind: behind as u32,
            });
        }
    }

    /// Sends bytes as one SMB Direct message, whatever they are and whatever credits there are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.drive_until(PATIENCE, |client| !client.free_slots.is_empty())?;
        let mut request = self.fill_slot(bytes)?;
        request.id |= UNACCOUNTED;
        self.post(&[request])
    }

    /// Posts receives that the machine knows nothing of, for a client that does not negotiate and
    /// keeps its own accounts; answers how many, fewer when all its buffers are posted.
    pub fn post_own_receives(&mut self, count: u16) -> Result<u16, ClientError> {
        self.queue_pair
            .post_receives(&mut self.receive, u32::from(count))
            .map_err(local)
    }

    /// Posts no receive any more, and so grants nothing any more; or starts again.
    pub fn set_granting(&mut self, grants: bool) {
        self.grants = grants;
    }

    /// Leaves in order.
    pub fn disconnect(&mut self) -> Result<(), ClientError> {
        let disconnected = self.queue_pair.identifier().disconnect();
        self.over.get_or_insert_with(|| "we disconnected".into());
        disconnected.map_err(local)
    }

    /// Is gone without a word: queue pair and memory are destroyed, nothing is disconnected.
    pub fn vanish(self) {}

    /// What the server said beside its acceptance.
    pub fn answered(&self) -> &[u8] {
        &self.answered
    }

    /// Why the connection is over, once it is.
    pub fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    /// The next message that is here already.
    pub fn take_message(&mut self) -> Option<Vec<u8>> {
        self.inbox.pop_front()
    }

    /// Messages, or pieces of them, that wait for the server's credits.
    pub fn queued(&self) -> usize {
        self.waiting.len() + self.machine.queued_messages()
    }

    /// The machine's account of credits.
    pub fn credits(&self) -> Credits {
        self.machine.credits()
    }

    /// The machine's counters.
    pub fn counters(&self) -> &Counters {
        self.machine.counters()
    }

    /// Does what can be done now. A connection that is over does nothing.
    pub fn drive(&mut self) -> Result<(), ClientError> {
        self.take_events()?;
        let mut completions = Vec::new();
        self.queue_pair.poll(&mut completions).map_err(local)?;
        for completion in completions {
            self.take_completion(completion);
        }
        // One that does not negotiate has no use for the machine's timers.
        if self.over.is_some() || !self.behaviour.negotiates {
            return Ok(());
        }
        let now = self.now();
        self.machine.handle_timeout(now);
        if let Some(reason) = self.machine.close_reason() {
            self.over = Some(reason.to_string());
            return Ok(());
        }
        self.send_queued(now)
    }

    /// Drives until `done`; [`ClientError::Silence`] after `patience`, [`ClientError::Closed`] if
    /// the connection is over before.
    pub fn drive_until(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&mut SmbDirect) -> bool,
    ) -> Result<(), ClientError> {
        let until = Instant::now() + patience;
        loop {
            self.drive()?;
            if done(self) {
                return Ok(());
            }
            if self.over.is_some() {
                return Err(ClientError::Closed);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::Silence(patience));
            }
            let machine = Some(&self.machine).filter(|_| self.behaviour.negotiates);
            let deadline = machine.and_then(Connection::deadline);
            let timer = deadline.map_or(left, |deadline| {
                deadline.saturating_duration_since(self.now())
            });
            let waited = [self.channel.as_fd(), self.queue_pair.completion_channel()];
            wait(&waited, left.min(timer + Duration::from_millis(1)))?;
        }
    }

    fn now(&self) -> Timestamp {
        let elapsed = self.started.elapsed().as_micros();
        Timestamp::from_micros(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn take_events(&mut self) -> Result<(), ClientError> {
        while let Some(event) = self.channel.next().map_err(local)? {
            let why = match event.kind {
                CmEventKind::Disconnected => {
                    // Its answer, so that the server need not wait for it.
                    let _ = self.queue_pair.identifier().disconnect();
                    "the server disconnected"
                }
                CmEventKind::Failed(what) => what,
                CmEventKind::DeviceRemoval => "the device is being removed",
                _ => continue,
            };
            // What the server sent before is still there to be taken.
            let mut completions = Vec::new();
            self.queue_pair.poll(&mut completions).map_err(local)?;
            for completion in completions {
                self.take_completion(completion);
            }
            self.over.get_or_insert_with(|| why.to_owned());
        }
        Ok(())
    }

    fn take_completion(&mut self, completion: Completion) {
        if !completion.receive {
            // The slot is what the id's low bits hold.
            self.free_slots.push(completion.id as u16);
            let sends = u16::from(completion.id & UNACCOUNTED == 0);
            self.machine.handle_send_complete(self.now(), sends);
        }
        match completion.status {
            Status::Success if completion.receive => self.take_receive(completion),
            Status::Success => {}
            Status::Flushed => {
                self.over.get_or_insert_with(|| "requests flushed".into());
            }
            Status::Failed(number, name) => {
                self.over
                    .get_or_insert_with(|| format!("a request failed: {name} ({number})"));
            }
        }
    }

    fn take_receive(&mut self, completion: Completion) {
        let buffer = completion.id as u32;
        if !self.receive.complete(completion.id, completion.length) {
            self.over = Some(format!("buffer {buffer} completed twice"));
            return;
        }
        let now = self.now();
        let bytes = self.receive.bytes(buffer);
        if !self.behaviour.negotiates {
            self.inbox.push_back(bytes.to_vec());
        } else if self.over.is_none() {
            match self.machine.handle_receive(now, bytes) {
                Ok(Received::Fragment { data, last, .. }) => {
                    self.partial
                        .extend_from_slice(bytes.get(data).unwrap_or_default());
                    if last {
                        self.inbox.push_back(std::mem::take(&mut self.partial));
                    }
                }
                Ok(_) => {}
                Err(violation) => self.over = Some(format!("the server sent {violation}")),
            }
        }
        self.receive.release(buffer);
    }

    fn post_receives(&mut self) -> Result<bool, ClientError> {
        let wanted = u32::from(self.machine.receives_to_post());
        if wanted == 0 || !self.grants {
            return Ok(false);
        }
        let posted = self
            .queue_pair
            .post_receives(&mut self.receive, wanted)
            .map_err(local)?;
        if posted > 0 {
            self.machine.handle_posted(posted);
        }
        Ok(posted > 0)
    }

    /// A driver's turn, as the machine wants it.
    fn send_queued(&mut self, now: Timestamp) -> Result<(), ClientError> {
        loop {
            let posted = self.post_receives()?;
            self.feed_machine()?;
            let mut chain = Vec::new();
            while !self.free_slots.is_empty()
                && let Some(outgoing) = self.machine.poll_send(now)
            {
                chain.extend(self.lower(&outgoing)?);
            }
            self.post(&chain)?;
            if !posted && chain.is_empty() {
                return Ok(());
            }
        }
    }

    fn feed_machine(&mut self) -> Result<(), ClientError> {
        while self.machine.state() == State::Established
            && self.machine.queued_messages() < QUEUED_PIECES
            && let Some(piece) = self.waiting.pop_front()
        {
            let (key, length) = (self.next_key, piece.bytes.len() as u32);
            self.next_key += 1;
            self.machine
                .queue_message(MessageKey(key), length, None)
                .map_err(|error| ClientError::Local(error.to_string()))?;
            self.outgoing.insert(key, piece);
        }
        Ok(())
    }

    /// A message of the machine's as a work request; none for one this client keeps to itself.
    fn lower(&mut self, outgoing: &Outgoing) -> Result<Option<WorkRequest>, ClientError> {
        let mut message = outgoing.header.as_bytes().to_vec();
        match &outgoing.payload {
            Some(payload) => {
                let range = payload.range.start as usize..payload.range.end as usize;
                let piece = self.outgoing.get(&payload.message.0);
                let bytes = piece.and_then(|piece| piece.bytes.get(range));
                let (Some(piece), Some(bytes)) = (piece, bytes) else {
                    return Err(ClientError::Local("a message without bytes".into()));
                };
                // RemainingDataLength, MS-SMBD 2.2.3, counts what is in other pieces too.
                if let Some(remaining) = message.get_mut(8..12) {
                    let own = u32::from_le_bytes(remaining.try_into().unwrap_or_default());
                    remaining.copy_from_slice(&(own + piece.behind).to_le_bytes());
                }
                message.extend_from_slice(bytes);
                if outgoing.last_of_message {
                    self.outgoing.remove(&payload.message.0);
                }
            }
            None if self.machine.state() == State::Established
                && !self.behaviour.answers_keepalive =>
            {
                self.machine.handle_send_complete(self.now(), 1);
                return Ok(None);
            }
            None => {}
        }
        self.fill_slot(&message).map(Some)
    }

    fn fill_slot(&mut self, bytes: &[u8]) -> Result<WorkRequest, ClientError> {
        let no_room = || ClientError::Local("a message too long for its slot".into());
        let slot = self.free_slots.pop().ok_or_else(no_room)?;
        let start = usize::from(slot) * SLOT;
        let copied = bytes.len() <= SLOT && self.slots.copy_in(start, bytes);
        let range = self.slots.region().range(start as u64, bytes.len() as u32);
        Ok(WorkRequest {
            id: u64::from(slot),
            operation: Operation::Send { invalidate: None },
            first: range.filter(|_| copied).ok_or_else(no_room)?,
            second: None,
            signaled: true,
        })
    }

    fn post(&mut self, chain: &[WorkRequest]) -> Result<(), ClientError> {
        self.queue_pair
            .post_send(chain)
            .map_err(|refused| local(refused.error))
    }
}

impl Transport for SmbDirect {
    fn send(&mut self, message: &[u8]) -> Result<(), ClientError> {
        self.queue(message);
        self.drive_until(PATIENCE, |client| client.queued() == 0)
    }

    fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, ClientError> {
        let waited = self.drive_until(patience, |client| !client.inbox.is_empty());
        match self.inbox.pop_front() {
            Some(message) => Ok(message),
            None => Err(waited.err().unwrap_or(ClientError::Closed)),
        }
    }

    fn rdma(&mut self) -> Option<&mut dyn RdmaTransport> {
        Some(self)
    }
}

/// Waits for the event wanted; any other means that there will be no connection.
fn await_event(
    channel: &Rc<EventChannel>,
    what: &str,
    wanted: impl Fn(&CmEventKind) -> bool,
) -> Result<CmEventKind, ClientError> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = channel.next().map_err(local)? {
            if wanted(&event.kind) {
                return Ok(event.kind);
            }
            let (kind, status) = (event.kind, event.status);
            return Err(ClientError::Local(format!(
                "waited for {what}, got {kind:?} (status {status})"
            )));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ClientError::Silence(PATIENCE));
        }
        wait(&[channel.as_fd()], left)?;
    }
}

fn wait(
    descriptors: &[std::os::fd::BorrowedFd<'_>],
    patience: Duration,
) -> Result<(), ClientError> {
    let mut waited: Vec<PollFd<'_>> = descriptors
        .iter()
        .map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN))
        .collect();
    let patience = Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    match poll(&mut waited, Some(&patience)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(ClientError::Local(errno.to_string())),
    }
}

fn local(error: shm::SystemError) -> ClientError {
    ClientError::Local(error.to_string())
}
