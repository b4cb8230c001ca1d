//! A client: the active protocol machine, its queue pair's receive side, its registered memory, and
//! what it asks for. A request names its memory; the answer must come once, and the bytes with it.

use std::collections::{BTreeMap, VecDeque};

use proto::relay::Descriptor;
use proto::smbdirect::{Connection, MessageKey, Parameters, Received, Role, State};
use proto::time::Timestamp;

use crate::chance::Chance;
use crate::note;

/// What a request wants: ECHO answers with so many bytes, WRITE has the child read the client's memory,
/// READ has it write there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Echo,
    Write,
    Read,
}

/// A request as it goes over the wire: a WRITE's descriptors behind it, and then filler up to the
/// message's length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) number: u32,
    /// Of the answer, or of the payload.
    pub(super) length: u32,
    pub(super) message_length: u32,
}

/// Kind, number, length, and how many pieces the memory is named in.
pub(super) const REQUEST_SIZE: u32 = 10;
/// Where a request says its length.
pub(super) const LENGTH_AT: u16 = 5;
/// Where it says how many pieces.
pub(super) const PIECES_AT: u16 = 9;

impl Request {
    pub(super) fn encode(&self, client: u32) -> Vec<u8> {
        let mut bytes = vec![self.kind as u8];
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.push(self.pieces() as u8);
        if self.kind == Kind::Write {
            for descriptor in self.descriptors() {
                bytes.extend(descriptor.offset.get().to_le_bytes());
                bytes.extend(descriptor.token.get().to_le_bytes());
                bytes.extend(descriptor.length.get().to_le_bytes());
            }
        }
        let filler = bytes.len() as u32..self.message_length;
        bytes.extend(filler.map(|at| byte(client, self.number, at)));
        bytes
    }

    /// How many pieces its memory is named in: up to 24, more than some devices take WRITEs at a time.
    pub(super) fn pieces(&self) -> u32 {
        let pieces = match self.number % 4 {
            0..3 => 1,
            _ => 1 + (self.number * 7 + self.length) % 24,
        };
        pieces.min(self.length.max(1))
    }

    /// The request's memory: its number is the token.
    pub(super) fn descriptors(&self) -> Vec<Descriptor> {
        let pieces = self.pieces();
        let longest = self.length / pieces;
        let piece = |index: u32| {
            let start = index * longest;
            let end = match index + 1 == pieces {
                true => self.length,
                false => start + longest,
            };
            Descriptor {
                offset: u64::from(start).into(),
                token: self.number.into(),
                length: (end - start).into(),
            }
        };
        (0..pieces).map(piece).collect()
    }

    /// Where the filler begins.
    fn filler_at(&self) -> u32 {
        match self.kind {
            Kind::Write => REQUEST_SIZE + self.pieces() * size_of::<Descriptor>() as u32,
            _ => REQUEST_SIZE,
        }
    }

    /// Panics where the bytes are not this client's request.
    pub(super) fn decode(client: u32, bytes: &[u8]) -> Request {
        let head = &bytes[..REQUEST_SIZE as usize];
        let number = u32::from_le_bytes(head[1..5].try_into().expect("four bytes"));
        let request = Request {
            kind: [Kind::Echo, Kind::Write, Kind::Read][usize::from(head[0])],
            number,
            length: u32::from_le_bytes(head[5..9].try_into().expect("four bytes")),
            message_length: bytes.len() as u32,
        };
        let rest = bytes.len() as u32;
        for at in request.filler_at()..rest {
            assert_eq!(
                bytes[at as usize],
                byte(client, number, at),
                "another byte of request {number} of client {client}"
            );
        }
        request
    }
}

/// Byte `at` of what belongs to request `number` of a client.
pub(super) fn byte(client: u32, number: u32, at: u32) -> u8 {
    let mixed =
        client.wrapping_mul(101) ^ number.wrapping_mul(57) ^ at.wrapping_mul(13) ^ (at >> 8);
    mixed as u8
}

pub(super) fn pattern(client: u32, number: u32, length: u32) -> Vec<u8> {
    (0..length).map(|at| byte(client, number, at)).collect()
}

pub(super) struct Client {
    pub(super) number: u32,
    pub(super) machine: Connection,
    pub(super) receives: u16,
    /// Sends on their way, in order, and what arrived.
    pub(super) wire: VecDeque<Vec<u8>>,
    pub(super) arrived: VecDeque<Vec<u8>>,
    /// Sends the device is done with.
    pub(super) acknowledged: u16,
    pub(super) is_alive: bool,
    to_ask: Vec<Request>,
    asked: usize,
    messages: BTreeMap<u64, Vec<u8>>,
    /// Requests without an answer, and their memory by token.
    pub(super) open: BTreeMap<u32, Request>,
    pub(super) memory: BTreeMap<u32, Vec<u8>>,
    assembly: Vec<u8>,
    pub(super) answered: u64,
    has_work: bool,
}

impl Client {
    pub(super) fn new(number: u32, chance: &mut Chance, now: Timestamp) -> Client {
        let credits = chance.one_of(&[2, 3, 16, 255]);
        let parameters = Parameters {
            receive_credit_max: credits,
            send_credit_target: chance.one_of(&[2, 8, 255]),
            max_send_size: chance.one_of(&[128, 700, 1364]),
            max_receive_size: chance.one_of(&[128, 700, 1364]),
            max_outstanding_sends: chance.one_of(&[1, 4, 255]),
            ..Parameters::client()
        };
        let count = chance.between(1, 12) as u32;
        let to_ask = (0..count).map(|number| request(number, chance)).collect();
        let mut client = Client {
            number,
            machine: Connection::new(Role::Active, parameters, now),
            receives: 0,
            wire: VecDeque::new(),
            arrived: VecDeque::new(),
            acknowledged: 0,
            is_alive: true,
            to_ask,
            asked: 0,
            messages: BTreeMap::new(),
            open: BTreeMap::new(),
            memory: BTreeMap::new(),
            assembly: Vec::new(),
            answered: 0,
            has_work: true,
        };
        client.machine.handle_established(now);
        client
    }

    pub(super) fn is_content(&self) -> bool {
        self.asked == self.to_ask.len() && self.open.is_empty()
    }

    pub(super) fn can_turn(&self, now: Timestamp) -> bool {
        let due = self.machine.deadline().is_some_and(|due| due <= now);
        let may_ask = self.machine.state() == State::Established && self.asked < self.to_ask.len();
        self.is_alive
            && (self.has_work
                || may_ask
                || due
                || !self.arrived.is_empty()
                || self.acknowledged > 0)
    }

    pub(super) fn turn(&mut self, now: Timestamp) {
        self.machine.handle_timeout(now);
        self.machine
            .handle_send_complete(now, std::mem::take(&mut self.acknowledged));
        while let Some(bytes) = self.arrived.pop_front() {
            self.receive(now, &bytes);
        }
        if self.machine.state() == State::Established
            && let Some(request) = self.to_ask.get(self.asked).copied()
        {
            self.ask(request);
        }
        loop {
            let posted = self.machine.receives_to_post();
            self.receives += posted;
            self.machine.handle_posted(posted);
            let mut sent = false;
            while let Some(outgoing) = self.machine.poll_send(now) {
                let mut bytes = outgoing.header.as_bytes().to_vec();
                if let Some(payload) = outgoing.payload {
                    let message = &self.messages[&payload.message.0];
                    let range = payload.range.start as usize..payload.range.end as usize;
                    bytes.extend(&message[range]);
                    if outgoing.last_of_message {
                        self.messages.remove(&payload.message.0);
                    }
                }
                self.wire.push_back(bytes);
                sent = true;
            }
            if posted == 0 && !sent {
                break;
            }
        }
        self.has_work = false;
    }

    fn ask(&mut self, request: Request) {
        note!("client {}: asks {request:?}", self.number);
        self.asked += 1;
        let memory = match request.kind {
            Kind::Echo => Vec::new(),
            Kind::Write => pattern(self.number, request.number, request.length),
            Kind::Read => vec![0xEE; request.length as usize],
        };
        self.memory.insert(request.number, memory);
        self.open.insert(request.number, request);
        let message = request.encode(self.number);
        let key = u64::from(request.number);
        self.machine
            .queue_message(MessageKey(key), message.len() as u32, None)
            .expect("an established connection takes a message");
        self.messages.insert(key, message);
    }

    fn receive(&mut self, now: Timestamp, bytes: &[u8]) {
        if self.machine.close_reason().is_some() {
            return;
        }
        let received = self
            .machine
            .handle_receive(now, bytes)
            .unwrap_or_else(|violation| panic!("smbdirectd broke the rules: {violation}"));
        let Received::Fragment {
            data,
            message_length,
            offset_in_message,
            last,
        } = received
        else {
            return;
        };
        assert_eq!(offset_in_message as usize, self.assembly.len());
        self.assembly.extend(&bytes[data]);
        if last {
            assert_eq!(message_length as usize, self.assembly.len());
            let answer = std::mem::take(&mut self.assembly);
            self.answer(&answer);
        }
    }

    /// The answer's own bytes are those of the request, as is what the child wrote to its memory.
    fn answer(&mut self, answer: &[u8]) {
        let (number, rest) = answer.split_at(4);
        let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
        note!("client {}: is answered {number}", self.number);
        let Some(request) = self.open.remove(&number) else {
            panic!(
                "client {}: request {number} is answered twice, or is another's",
                self.number
            );
        };
        assert_eq!(
            rest,
            &pattern(self.number, number, rest.len() as u32)[..],
            "an answer"
        );
        let memory = self.memory.remove(&number).unwrap_or_default();
        if request.kind == Kind::Read {
            let expected = pattern(self.number, number, request.length);
            assert!(
                memory == expected,
                "client {}: READ {number} is answered before its bytes are here, or with others",
                self.number
            );
        }
        self.answered += 1;
    }
}

fn request(number: u32, chance: &mut Chance) -> Request {
    let kind = chance.one_of(&[Kind::Echo, Kind::Write, Kind::Read]);
    let length = match (kind, chance.below(4)) {
        (Kind::Echo, 0) => chance.between(4000, 12_000),
        (Kind::Echo, _) => chance.between(1, 600),
        (_, 0) => chance.between(60_000, 200_000),
        _ => chance.between(1, 9000),
    };
    let message_length = match chance.below(5) {
        0 => chance.between(4000, 9000),
        _ => chance.between(u64::from(REQUEST_SIZE), 400),
    };
    let mut request = Request {
        kind,
        number,
        length: length as u32,
        message_length: message_length as u32,
    };
    request.message_length = request.message_length.max(request.filler_at());
    request
}
