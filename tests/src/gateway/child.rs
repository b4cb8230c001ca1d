//! A child's end of a relay, as a scenario plays it: collects records, sends any.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use proto::relay::{
    Attached, Body, CloseReason, Descriptor, Hello, MessageSequence, OperationId, Outcome,
    PayloadWrite, RegionRange, ToChild, ToChildRecords, ToGateway,
};
use shm::link::{Datagram, Link, LinkError, SocketLink};
use shm::region::{Mapping, map_received};

/// One end of a relay.
pub struct Child {
    link: Option<SocketLink>,
    messages: VecDeque<Vec<u8>>,
    newest: u64,
    /// Messages are released as they come.
    pub releases: bool,
    /// The first record.
    pub hello: Option<Hello>,
    /// The answer to `attach`.
    pub attached: Option<Attached>,
    /// The other answer to `attach`.
    pub refused: bool,
    /// The region's descriptor.
    pub memfd: Option<OwnedFd>,
    mapping: Option<Rc<Mapping>>,
    /// Parts granted.
    pub parts: u32,
    /// `payload_ready`, by operation.
    pub ready: HashMap<u64, Outcome>,
    /// Loans by `ahead`, and the length and the message each was used for.
    pub ahead: HashMap<u64, (u32, u64)>,
    /// Loans by `returned`.
    pub returned: Vec<u64>,
    /// `sent`, by operation.
    pub sent: HashMap<u64, Outcome>,
    /// `closed`.
    pub closed: Option<CloseReason>,
    /// `drained`.
    pub drained: bool,
    /// The socket is at its end.
    pub ended: bool,
}

impl std::fmt::Debug for Child {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Child {{ messages: {}, newest: {}, mapped: {}, ready: {:?}, sent: {:?}, closed: {:?}, \
             drained: {} }}",
            self.messages.len(),
            self.newest,
            self.mapping.is_some(),
            self.ready,
            self.sent,
            self.closed,
            self.drained
        )
    }
}

impl Child {
    /// Takes over the socket.
    pub fn new(socket: OwnedFd) -> Child {
        Child {
            link: Some(SocketLink::new(socket, proto::relay::BACKLOG)),
            messages: VecDeque::new(),
            newest: 0,
            releases: true,
            hello: None,
            attached: None,
            refused: false,
            memfd: None,
            mapping: None,
            parts: 0,
            ready: HashMap::new(),
            ahead: HashMap::new(),
            returned: Vec::new(),
            sent: HashMap::new(),
            closed: None,
            drained: false,
            ended: false,
        }
    }

    /// Dies: its socket closes.
    pub fn die(&mut self) {
        self.link = None;
    }

    /// The next whole message.
    pub fn take_message(&mut self) -> Option<Vec<u8>> {
        self.messages.pop_front()
    }

    /// Messages that arrived and were not taken.
    pub fn waiting(&self) -> usize {
        self.messages.len()
    }

    /// The region is granted and mapped.
    pub fn is_mapped(&self) -> bool {
        self.attached.is_some() && self.mapping.is_some()
    }

    /// Sends a record.
    pub fn send(&mut self, record: &ToGateway<'_>) {
        if let Some(link) = &mut self.link {
            link.queue(&mut |out| record.encode(out));
            let _ = link.flush();
        }
    }

    /// Sends records as one turn of a child's loop does: gathered in one datagram.
    pub fn send_together(&mut self, records: &[ToGateway<'_>]) {
        if let Some(link) = &mut self.link {
            for record in records {
                link.queue(&mut |out| record.encode(out));
            }
            let _ = link.flush();
        }
    }

    /// Asks for RDMA rights, for a first connection.
    pub fn attach(&mut self) {
        self.send(&ToGateway::Attach);
    }

    /// Asks for RDMA rights for a further connection, with the region `other` has.
    pub fn attach_beside(&mut self, other: &Child) {
        let region = other.memfd.as_ref().expect("a region");
        let region = region.try_clone().expect("duplicate");
        // A sealed region can't be mapped for writing once more.
        self.mapping = other.mapping.clone();
        self.memfd = Some(region.try_clone().expect("duplicate"));
        let link = self.link.as_mut().expect("alive");
        link.queue_with(&mut |out| ToGateway::Attach.encode(out), vec![region]);
        link.flush().expect("attach");
    }

    /// Bytes of the payload area, from `at` on.
    pub fn range(&self, at: u64, length: u32) -> RegionRange {
        let attached = self.attached.expect("attached");
        RegionRange {
            offset: attached.payload_offset + at,
            length,
        }
    }

    /// Writes into the region.
    pub fn fill(&self, range: RegionRange, bytes: &[u8]) {
        let mapping = self.mapping.as_ref().expect("mapped");
        mapping.copy_in(range.offset, bytes).expect("inside");
    }

    /// What the region holds.
    pub fn contents(&self, range: RegionRange) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mapping = self.mapping.as_ref().expect("mapped");
        mapping
            .copy_out(range.offset, range.length, &mut bytes)
            .expect("inside");
        bytes
    }

    /// Replies inline, after RDMA WRITEs.
    pub fn reply(&mut self, operation: u64, writes: Vec<PayloadWrite<'_>>, message: &[u8]) {
        self.send(&ToGateway::Reply {
            operation: OperationId(operation),
            invalidate: None,
            writes,
            body: Body::Inline(message),
        });
    }

    /// Asks for an RDMA READ.
    pub fn read(&mut self, operation: u64, target: RegionRange, descriptors: &[Descriptor]) {
        self.send(&ToGateway::ReadPayload {
            operation: OperationId(operation),
            target,
            descriptors,
        });
    }

    /// Releases everything that came so far.
    pub fn release(&mut self) {
        self.send(&ToGateway::Release {
            through: MessageSequence(self.newest),
        });
    }

    /// Sends what had to wait, takes what came.
    pub fn turn(&mut self) {
        if let Some(link) = &mut self.link {
            let _ = link.flush();
        }
        let mut datagram = Datagram::new();
        while let Some(link) = &mut self.link {
            match link.receive(&mut datagram) {
                Ok(true) => {}
                Ok(false) => break,
                Err(LinkError::Closed) => {
                    self.ended = true;
                    self.link = None;
                    break;
                }
                Err(error) => panic!("the relay failed: {error}"),
            }
            if let Some(memfd) = datagram.descriptors.pop() {
                self.memfd = Some(memfd);
                self.mapping = None;
            }
            let before = self.newest;
            let mut map = false;
            for record in ToChildRecords::new(datagram.bytes()) {
                assert!(!self.drained, "drained is the last record");
                match record.expect("a record") {
                    ToChild::Hello(hello) => self.hello = Some(hello),
                    ToChild::Message { sequence, body } => {
                        assert_eq!(sequence.0, self.newest + 1, "messages come in order");
                        self.newest = sequence.0;
                        self.messages.push_back(match body {
                            Body::Inline(bytes) => bytes.to_vec(),
                            Body::InRegion(range) => {
                                let mut bytes = Vec::new();
                                let mapping = self.mapping.as_ref().expect("mapped");
                                mapping
                                    .copy_out(range.offset, range.length, &mut bytes)
                                    .expect("inside the ring");
                                bytes
                            }
                        });
                    }
                    ToChild::Ahead { operation, length } => {
                        let message = self.newest + 1;
                        self.ahead.insert(operation.0, (length, message));
                    }
                    ToChild::Returned { operation } => self.returned.push(operation.0),
                    ToChild::Attached(attached) => {
                        self.attached = Some(attached);
                        self.parts = attached.parts;
                        map = true;
                    }
                    ToChild::AttachRefused => self.refused = true,
                    ToChild::Grown { parts } => self.parts = parts,
                    ToChild::PayloadReady { operation, outcome } => {
                        assert_eq!(self.ready.insert(operation.0, outcome), None);
                    }
                    ToChild::Sent { operation, outcome } => {
                        assert_eq!(self.sent.insert(operation.0, outcome), None);
                    }
                    ToChild::Closed { reason } => self.closed = Some(reason),
                    ToChild::Drained => self.drained = true,
                }
            }
            if map {
                let attached = self.attached.expect("just set");
                if self.mapping.is_none() {
                    let memfd = self.memfd.as_ref().expect("a region's descriptor");
                    let mapping = map_received(memfd, attached.region_size).expect("map");
                    self.mapping = Some(Rc::new(mapping));
                }
                self.send(&ToGateway::Mapped);
            }
            if self.releases && self.newest != before {
                self.release();
            }
        }
    }
}
