//! The hostile child's connection: any bytes and any descriptors through its relay socket, what
//! comes back, and a look at every byte it or its client gets for what is not theirs.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use proto::relay::{
    Attached, Body, CloseReason, Descriptor, MessageSequence, OperationId, RegionRange, ToChild,
    ToChildRecords, ToGateway,
};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use shm::link::{Datagram, LinkError, receive};
use shm::region::{Mapping, map_received};

use super::Report;
use super::bystander::CANARY;
use super::law::{Law, Verdict};
use super::theatre::{PATIENCE, TURN, Theatre};
use crate::client::simulated::SmbDirect;
use crate::client::{Access, ExposedMemory, RdmaTransport};

/// What its memory holds; the rest of it is zero.
pub const OWN: u8 = 0x11;
/// Bytes of its client's memory.
pub const EXPOSED: u32 = 64 << 10;
/// The most descriptors a kernel passes at once (SCM_MAX_FD).
const MOST_DESCRIPTORS: usize = 253;
const HOST: u8 = 200;
/// Of the reply by which it is seen to be alive.
const PROBE: OperationId = OperationId(u64::MAX);

/// How far it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It has its first message.
    Greeted,
    /// It was given a region, and has not said that it mapped it.
    Attached,
    /// It may use RDMA.
    Mapped,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Alive,
    /// With the reason it was told, if it was told one.
    Ended(Option<CloseReason>),
}

/// See above.
pub struct Hostile {
    pub client: SmbDirect,
    socket: Option<OwnedFd>,
    datagram: Datagram,
    memory: ExposedMemory,
    pub law: Law,
    pub layout: Option<Attached>,
    pub memfd: Option<OwnedFd>,
    mapping: Option<Mapping>,
    /// Messages it has.
    pub newest: u64,
    closed: Option<CloseReason>,
    probed: bool,
    /// Reads what smbdirectd says.
    pub listens: bool,
    /// Serves its client's device.
    pub serves: bool,
    /// It has sent bytes of any value, which may come back to it.
    pub garbled: bool,
}

impl Hostile {
    /// Connects and behaves so far.
    pub fn connect(theatre: &mut Theatre, until: Until) -> Hostile {
        let mut client = theatre.connect(HOST);
        client.queue(&[OWN; 1000]);
        let memory = client.expose(&[0; EXPOSED as usize], Access::RemoteRead);
        let memory = memory.expect("memory");
        let socket = theatre.announced(&mut client);
        let named = memory.descriptor;
        let mut hostile = Hostile {
            client,
            socket: Some(socket),
            datagram: Datagram::new(),
            memory,
            law: Law::new(0, (named.offset, named.token, named.length)),
            layout: None,
            memfd: None,
            mapping: None,
            newest: 0,
            closed: None,
            probed: false,
            listens: true,
            serves: true,
            garbled: false,
        };
        hostile.until("its first message", |hostile| hostile.newest == 1);
        if until != Until::Greeted {
            hostile.send_lawfully(&ToGateway::Attach);
            hostile.until("its region", |hostile| hostile.layout.is_some());
        }
        if until == Until::Mapped {
            hostile.map();
            hostile.send_lawfully(&ToGateway::Mapped);
        }
        hostile
    }

    /// Maps its region and fills the front of its payload area.
    pub fn map(&mut self) {
        let (Some(memfd), Some(layout)) = (&self.memfd, self.layout) else {
            panic!("it has no region");
        };
        let mapping = map_received(memfd, layout.region_size).expect("map");
        mapping
            .copy_in(layout.payload_offset, &[OWN; EXPOSED as usize])
            .expect("inside");
        self.mapping = Some(mapping);
    }

    /// A record that breaks nothing.
    fn send_lawfully(&mut self, record: &ToGateway<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(self.law.judge(&bytes, &[]), (Verdict::Harmless, 1));
        self.send(&bytes, &[]);
    }

    /// A range of its payload area.
    pub fn range(&self, at: u64, length: u32) -> RegionRange {
        let layout = self.layout.as_ref().expect("attached");
        RegionRange {
            offset: layout.payload_offset.wrapping_add(at),
            length,
        }
    }

    /// Its client's memory, or a part of it.
    pub fn exposed(&self, at: u32, length: u32) -> Descriptor {
        let whole = self.memory.descriptor;
        Descriptor {
            offset: (whole.offset + u64::from(at)).into(),
            token: whole.token.into(),
            length: length.into(),
        }
    }

    /// Sends a datagram, whatever it is. When smbdirectd has hung up nothing happens.
    pub fn send(&mut self, bytes: &[u8], descriptors: &[OwnedFd]) {
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let space = rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS));
        let mut space = vec![MaybeUninit::<u8>::uninit(); space];
        let deadline = Instant::now() + PATIENCE;
        while let Some(socket) = &self.socket {
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() {
                assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
                Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => return,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => panic!("send {} bytes: {errno}", bytes.len()),
            }
            assert!(Instant::now() < deadline, "smbdirectd reads nothing");
            self.turn();
            std::thread::sleep(TURN);
        }
    }

    /// Sends a record.
    pub fn say(&mut self, record: &ToGateway<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.send(&bytes, &[]);
    }

    /// Its socket.
    pub fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Lets its client send one more message, and takes it.
    pub fn receive_another(&mut self) {
        let wanted = self.newest + 1;
        self.client.queue(&[OWN; 500]);
        self.until("another message", |hostile| hostile.newest == wanted);
    }

    /// Does what can be done now.
    pub fn turn(&mut self) {
        if self.serves && self.client.over().is_none() {
            // An error is its own affair: whatever it does to its client.
            let _ = self.client.drive();
            while let Some(message) = self.client.take_message() {
                self.look_at("a message", &message);
            }
        }
        while self.listens
            && let Some(socket) = &self.socket
        {
            match receive(socket.as_fd(), &mut self.datagram) {
                Ok(true) => self.take_records(),
                Ok(false) => break,
                Err(LinkError::Closed) => {
                    // A reset is said before what was sent earlier is.
                    if let Ok(true) = receive(socket.as_fd(), &mut self.datagram) {
                        self.take_records();
                        continue;
                    }
                    self.socket = None;
                }
                Err(error) => panic!("the relay failed: {error}"),
            }
        }
    }

    fn take_records(&mut self) {
        let datagram = std::mem::take(&mut self.datagram);
        for record in ToChildRecords::new(datagram.bytes()) {
            match record.expect("a record of smbdirectd's") {
                ToChild::Hello(hello) => self.law.longest = hello.max_send,
                ToChild::Message { sequence, body } => {
                    assert_eq!(sequence, MessageSequence(self.newest + 1));
                    self.newest = sequence.0;
                    self.law.announced(self.newest);
                    if let Body::Inline(bytes) = body {
                        self.look_at("its own message", bytes);
                    }
                }
                ToChild::Attached(attached) => {
                    self.layout = Some(attached);
                    self.law.attached(attached);
                }
                ToChild::Sent { operation, .. } => self.probed |= operation == PROBE,
                ToChild::Closed { reason } => self.closed = Some(reason),
                // No client of this play sends a message with a payload to fetch.
                ToChild::Ahead { .. } => panic!("a payload was fetched that nobody described"),
                ToChild::AttachRefused
                | ToChild::Returned { .. }
                | ToChild::Grown { .. }
                | ToChild::PayloadReady { .. }
                | ToChild::Drained => {}
            }
        }
        self.datagram = datagram;
        if let Some(memfd) = self.datagram.descriptors.pop() {
            self.memfd = Some(memfd);
        }
    }

    fn look_at(&self, what: &str, bytes: &[u8]) {
        let foreign = bytes.iter().find(|byte| ![0, OWN].contains(byte));
        assert!(
            self.garbled || foreign.is_none(),
            "{what} holds what is not its own: {foreign:02x?}"
        );
        let mut places = bytes.windows(8);
        assert!(
            !places.any(|place| place == [CANARY; 8]),
            "{what} holds what is another client's"
        );
    }

    /// Waits for what must come of what was sent; says what did.
    #[track_caller]
    pub fn settle(&mut self, what: &str, verdict: Verdict) -> Fate {
        self.listens = true;
        // Before, its operations would end, and what is one too many would be none.
        self.serves |= verdict != Verdict::Breach;
        if verdict < Verdict::Farewell {
            self.say(&ToGateway::Reply {
                operation: PROBE,
                invalidate: None,
                writes: Vec::new(),
                body: Body::Inline(&[OWN; 8]),
            });
        }
        self.until(what, |hostile| {
            hostile.serves |= hostile.socket.is_none();
            let ended = hostile.socket.is_none() && hostile.client.over().is_some();
            ended || (hostile.probed && verdict < Verdict::Farewell)
        });
        let memory = self.client.contents(self.memory).expect("its memory");
        self.look_at("its client's memory", &memory);
        let fate = match self.socket {
            Some(_) => Fate::Alive,
            None => Fate::Ended(self.closed),
        };
        match (verdict, fate) {
            (Verdict::Harmless | Verdict::UpToTheDevice, Fate::Alive)
            | (Verdict::Farewell | Verdict::Breach, Fate::Ended(_)) => {}
            (Verdict::UpToTheDevice, Fate::Ended(reason))
                if reason != Some(CloseReason::RelayViolation) => {}
            _ => panic!("{what} is {verdict:?}, and the connection is {fate:?}"),
        }
        fate
    }

    /// Leaves without a word, and says what came of it.
    pub fn leave(mut self, verdict: Verdict, fate: Fate, report: &mut Report) {
        self.socket = None;
        let _ = self.client.disconnect();
        report.connections += 1;
        match (verdict, fate) {
            (_, Fate::Alive) => report.alive += 1,
            (Verdict::Breach, Fate::Ended(_)) => report.breaches += 1,
            (_, Fate::Ended(_)) => report.refused += 1,
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Hostile) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.turn();
            if done(self) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain after {what}: socket {:?}, told {:?}, client {:?}",
                self.socket,
                self.closed,
                self.client.over()
            );
            std::thread::sleep(TURN);
        }
    }
}
