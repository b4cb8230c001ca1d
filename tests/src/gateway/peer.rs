//! A client over real verbs: the active side of SMB Direct, with memory a server may reach. It
//! drives the same protocol machine and the same device wrapper as smbdirectd does.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use proto::relay::Descriptor;
use proto::smbdirect::{Connection, MessageKey, Parameters, Received, Role, State};
use proto::time::Timestamp;
use smbdirectd::rdma::{
    Access, CmEventKind, Device, EventChannel, Identifier, Operation, ProtectionDomain, QueuePair,
    QueuePairLimits, ReceiveBuffers, Slab, Status, WorkRequest,
};

/// Bytes of a client's memory the server may reach.
pub const MEMORY: usize = 16 << 20;
const SLOT: usize = 1408;
const SLOTS: u16 = 64;

/// A client.
pub struct Peer {
    device: Option<OnDevice>,
    channel: Rc<EventChannel>,
    identifier: Option<Identifier>,
    machine: Connection,
    started: Instant,
    free_slots: Vec<u16>,
    posted: VecDeque<u16>,
    next: u64,
    outgoing: HashMap<u64, Vec<u8>>,
    partial: Vec<u8>,
    silent: bool,
    silent_after_next: bool,
    /// Whole messages that arrived.
    pub inbox: VecDeque<Vec<u8>>,
    /// Why it is over.
    pub ended: Option<String>,
}

struct OnDevice {
    queue_pair: QueuePair,
    receive: ReceiveBuffers,
    slots: Slab,
    memory: Slab,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Peer {{ {}, {:?}, inbox: {}, ended: {:?} }}",
            self.machine.state().name(),
            self.machine.credits(),
            self.inbox.len(),
            self.ended
        )
    }
}

impl Peer {
    /// Starts to connect.
    pub fn connect(server: SocketAddr) -> Peer {
        let channel = EventChannel::new().expect("the connection manager");
        let identifier = Identifier::new(&channel).expect("an identifier");
        identifier.resolve_address(server, 2000).expect("resolve");
        let parameters = Parameters {
            max_outstanding_sends: SLOTS,
            ..Parameters::client()
        };
        Peer {
            device: None,
            channel,
            identifier: Some(identifier),
            machine: Connection::new(Role::Active, parameters, Timestamp::ZERO),
            started: Instant::now(),
            free_slots: (0..SLOTS).collect(),
            posted: VecDeque::new(),
            next: 0,
            outgoing: HashMap::new(),
            partial: Vec::new(),
            silent: false,
            silent_after_next: false,
            inbox: VecDeque::new(),
            ended: None,
        }
    }

    /// As [`Peer::connect`], but never says a word.
    pub fn connect_silently(server: SocketAddr) -> Peer {
        Peer {
            silent: true,
            ..Peer::connect(server)
        }
    }

    /// Announces a message of 64 KiB and sends its first bytes only.
    pub fn send_part_of_a_message(&mut self) {
        self.silent_after_next = true;
        self.send(&[7; 65_536]);
    }

    /// SMB Direct is negotiated.
    pub fn is_established(&self) -> bool {
        assert_eq!(self.ended, None);
        self.machine.state() == State::Established
    }

    /// Queues a message.
    pub fn send(&mut self, message: &[u8]) {
        self.next += 1;
        self.outgoing.insert(self.next, message.to_vec());
        self.machine
            .queue_message(MessageKey(self.next), message.len() as u32, None)
            .expect("a message the server takes");
    }

    /// Writes into the memory the server may reach.
    pub fn fill(&mut self, at: usize, bytes: &[u8]) {
        let device = self.device.as_mut().expect("connected");
        assert!(device.memory.copy_in(at, bytes));
    }

    /// What that memory holds.
    pub fn contents(&self, at: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let device = self.device.as_ref().expect("connected");
        assert!(device.memory.copy_out(at, &mut bytes));
        bytes
    }

    /// How the server names bytes of it.
    pub fn descriptor(&self, at: usize, length: u32) -> Descriptor {
        let device = self.device.as_ref().expect("connected");
        let (address, token) = device.memory.region().remote(at as u64);
        Descriptor {
            offset: address.into(),
            token: token.into(),
            length: length.into(),
        }
    }

    /// Leaves in order.
    pub fn disconnect(&mut self) {
        if let Some(device) = &self.device {
            let _ = device.queue_pair.identifier().disconnect();
        }
    }

    /// Does what can be done now.
    pub fn turn(&mut self) {
        let now = Timestamp::from_micros(self.started.elapsed().as_micros() as u64);
        while let Some(event) = self.channel.next().expect("connection manager events") {
            match event.kind {
                CmEventKind::AddressResolved => {
                    let identifier = self.identifier.as_ref().expect("not connected yet");
                    identifier.resolve_route(2000).expect("resolve the route");
                }
                CmEventKind::RouteResolved => self.open_device(),
                CmEventKind::Established { .. } => self.machine.handle_established(now),
                CmEventKind::Disconnected => self.end("disconnected"),
                CmEventKind::Failed(what) => self.end(what),
                _ => {}
            }
        }
        if self.device.is_none() || self.ended.is_some() {
            return;
        }
        self.take_completions(now);
        self.machine.handle_timeout(now);
        if let Some(reason) = self.machine.close_reason() {
            self.end(&reason.to_string());
        }
        if self.ended.is_none() {
            self.post(now);
        }
    }

    fn end(&mut self, why: &str) {
        self.ended.get_or_insert_with(|| why.to_owned());
    }

    fn open_device(&mut self) {
        let identifier = self.identifier.take().expect("not connected yet");
        let address = identifier.local_address().expect("a local address").ip();
        let device = Device::of_address(&self.channel, address, 0).expect("its device");
        let domain = ProtectionDomain::new(&device).expect("a domain");
        let limits = QueuePairLimits {
            send: 128,
            receive: 256,
        };
        let mut queue_pair = match QueuePair::new(identifier, &domain, limits) {
            Ok(queue_pair) => queue_pair,
            Err((error, _)) => panic!("{error}"),
        };
        let mut receive = ReceiveBuffers::new(1364);
        receive.grow(&domain, 256).expect("receive buffers");
        let wanted = u32::from(self.machine.receives_to_post());
        let posted = queue_pair
            .post_receives(&mut receive, wanted)
            .expect("post receives");
        self.machine.handle_posted(posted);
        queue_pair.connect(1, 16, &[]).expect("connect");
        let slots = Slab::new(&domain, SLOT * usize::from(SLOTS), Access::Local).expect("slots");
        let memory = Slab::new(&domain, MEMORY, Access::RemoteReadWrite).expect("memory");
        self.device = Some(OnDevice {
            queue_pair,
            receive,
            slots,
            memory,
        });
    }

    fn take_completions(&mut self, now: Timestamp) {
        let mut completions = Vec::new();
        let device = self.device.as_mut().expect("connected");
        device.queue_pair.poll(&mut completions).expect("poll");
        for completion in completions {
            if completion.status != Status::Success {
                self.ended
                    .get_or_insert_with(|| format!("a request ended: {:?}", completion.status));
                continue;
            }
            if !completion.receive {
                let slot = self.posted.pop_front().expect("a posted send");
                self.free_slots.push(slot);
                self.machine.handle_send_complete(now, 1);
                continue;
            }
            let device = self.device.as_mut().expect("connected");
            let buffer = completion.id as u32;
            assert!(device.receive.complete(completion.id, completion.length));
            let bytes = device.receive.bytes(buffer);
            match self.machine.handle_receive(now, bytes) {
                Ok(Received::Fragment { data, last, .. }) => {
                    self.partial.extend_from_slice(&bytes[data]);
                    if last {
                        self.inbox.push_back(std::mem::take(&mut self.partial));
                    }
                }
                Ok(_) => {}
                Err(violation) => self.ended = Some(format!("the server: {violation}")),
            }
            device.receive.release(buffer);
        }
    }

    fn post(&mut self, now: Timestamp) {
        let device = self.device.as_mut().expect("connected");
        let wanted = u32::from(self.machine.receives_to_post());
        let posted = device
            .queue_pair
            .post_receives(&mut device.receive, wanted)
            .expect("post receives");
        if posted > 0 {
            self.machine.handle_posted(posted);
        }
        let mut chain = Vec::new();
        while !self.silent
            && !self.free_slots.is_empty()
            && let Some(outgoing) = self.machine.poll_send(now)
        {
            let slot = self.free_slots.pop().expect("checked");
            self.silent = self.silent_after_next;
            let mut message = outgoing.header.as_bytes().to_vec();
            if let Some(payload) = &outgoing.payload {
                let range = payload.range.start as usize..payload.range.end as usize;
                message.extend_from_slice(&self.outgoing[&payload.message.0][range]);
                if outgoing.last_of_message {
                    self.outgoing.remove(&payload.message.0);
                }
            }
            let start = usize::from(slot) * SLOT;
            assert!(device.slots.copy_in(start, &message));
            let range = device
                .slots
                .region()
                .range(start as u64, message.len() as u32);
            self.posted.push_back(slot);
            chain.push(WorkRequest {
                id: 0,
                operation: Operation::Send { invalidate: None },
                first: range.expect("inside the slab"),
                second: None,
                signaled: true,
            });
        }
        if let Err(error) = device.queue_pair.post_send(&chain) {
            self.ended = Some(error.error.to_string());
        }
    }
}
