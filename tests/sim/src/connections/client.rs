//! A client: the active protocol machine, its queue pair's receive side, its registered memory, and
//! what it asks for. A request names its memory; the answer must come once, and the bytes with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::relay::MAX_INLINE;
use proto::smbdirect::{Connection, MessageKey, Parameters, Received, Role, State};
use proto::time::Timestamp;

use super::request::{self, Flood, Kind, LONG_FRAGMENT, Request, pattern};
use crate::chance::Chance;
use crate::note;

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
    memory: BTreeMap<u32, Vec<u8>>,
    /// Tokens an answer has put out of use.
    invalidated: BTreeSet<u32>,
    /// smbdirectd's device can say which.
    can_invalidate: bool,
    pub(super) floods: Option<Flood>,
    assembly: Vec<u8>,
    pub(super) answered: u64,
    /// WRITEs that were answered: nothing of them may ever be lost.
    written: Vec<Request>,
    has_work: bool,
}

/// What is left of a client whose connection is lost.
pub(super) struct Lost {
    number: u32,
    floods: Option<Flood>,
    /// No request has this number, or a higher one.
    unused: u32,
    unanswered: Vec<Request>,
    written: Vec<Request>,
}

impl Client {
    pub(super) fn new(
        number: u32,
        flood: Option<Flood>,
        can_invalidate: bool,
        chance: &mut Chance,
        now: Timestamp,
    ) -> Client {
        let count = chance.between(1, 12) as u32;
        let mut to_ask: Vec<Request> = (0..count)
            .map(|number| request::any(number, chance))
            .collect();
        if let Some(flood) = flood {
            let more = match flood {
                Flood::Messages => 300,
                Flood::Bytes => {
                    // Once it is answered the region is mapped.
                    to_ask[0].kind = Kind::Read;
                    to_ask[0].message_length = 100;
                    60
                }
            };
            to_ask.extend(
                (count..count + more).map(|number| request::flooding(flood, number, chance)),
            );
        }
        Client::connect(number, flood, to_ask, can_invalidate, chance, now)
    }

    /// Its connection is lost: what it still wants.
    pub(super) fn lose(&mut self) -> Lost {
        self.is_alive = false;
        let numbers = self.to_ask.iter().map(|request| request.number + 1);
        let unasked = self.to_ask[self.asked..].iter();
        Lost {
            number: self.number,
            floods: self.floods,
            unused: numbers.max().unwrap_or_default(),
            unanswered: self.open.values().chain(unasked).copied().collect(),
            written: std::mem::take(&mut self.written),
        }
    }

    fn connect(
        number: u32,
        flood: Option<Flood>,
        to_ask: Vec<Request>,
        can_invalidate: bool,
        chance: &mut Chance,
        now: Timestamp,
    ) -> Client {
        let credits = chance.one_of(&[2, 3, 16, 255]);
        let parameters = Parameters {
            receive_credit_max: credits,
            send_credit_target: chance.one_of(&[2, 8, 255]),
            max_send_size: match flood {
                Some(Flood::Bytes) => LONG_FRAGMENT,
                _ => chance.one_of(&[128, 700, 1364]),
            },
            max_receive_size: chance.one_of(&[128, 700, 1364]),
            max_outstanding_sends: chance.one_of(&[1, 4, 255]),
            ..Parameters::client()
        };
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
            invalidated: BTreeSet::new(),
            can_invalidate,
            floods: flood,
            assembly: Vec::new(),
            answered: 0,
            written: Vec::new(),
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
        self.is_alive
            && (self.has_work
                || self.may_ask()
                || due
                || !self.arrived.is_empty()
                || self.acknowledged > 0)
    }

    /// Of a message it has given to its machine, not all is sent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.messages.is_empty()
    }

    fn may_ask(&self) -> bool {
        self.machine.state() == State::Established && self.next_request().is_some()
    }

    /// What it asks for next: no message as long is taken from a stranger.
    fn next_request(&self) -> Option<Request> {
        let next = self.to_ask.get(self.asked).copied();
        next.filter(|next| next.message_length <= MAX_INLINE || self.answered > 0)
    }

    pub(super) fn turn(&mut self, now: Timestamp) {
        self.machine.handle_timeout(now);
        self.machine
            .handle_send_complete(now, std::mem::take(&mut self.acknowledged));
        while let Some(bytes) = self.arrived.pop_front() {
            self.receive(now, &bytes);
        }
        if self.machine.state() == State::Established
            && let Some(request) = self.next_request()
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

    /// A message from smbdirectd names a token to put out of use.
    pub(super) fn invalidate(&mut self, token: u32) {
        let asked = self.open.get(&token).is_some_and(|one| one.invalidates);
        assert!(
            asked && self.can_invalidate,
            "client {}: token {token} is invalidated, which nobody asked for",
            self.number
        );
        assert!(
            self.invalidated.insert(token),
            "client {}: token {token} is invalidated twice",
            self.number
        );
    }

    /// The memory of a request of this kind by its token, for an RDMA READ or WRITE.
    pub(super) fn memory(&mut self, token: u32, kind: Kind) -> &mut Vec<u8> {
        let number = self.number;
        let lets = self.open.get(&token).is_some_and(|one| one.kind == kind);
        assert!(
            lets && !self.invalidated.contains(&token),
            "client {number}: RDMA for {kind:?} {token}, which is answered, invalidated or another's"
        );
        self.memory.entry(token).or_default()
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
        assert_eq!(
            self.invalidated.remove(&number),
            request.invalidates && self.can_invalidate,
            "client {}: whether token {number} is out of use with its answer",
            self.number
        );
        if request.kind == Kind::Write && !request.is_refused() {
            self.written.push(request);
        }
        if request.kind == Kind::Read {
            let expected = pattern(self.number, request.of, request.length);
            assert!(
                memory == expected,
                "client {}: READ {number} is answered before its bytes are here, or with others",
                self.number
            );
        }
        self.answered += 1;
    }
}

impl Lost {
    /// Connects again: reads back what it has written, and asks once more for what was not answered.
    pub(super) fn connect_again(
        self,
        can_invalidate: bool,
        chance: &mut Chance,
        now: Timestamp,
    ) -> Client {
        let mut to_ask = vec![request::short(self.unused)];
        for (number, written) in (self.unused + 1..).zip(&self.written) {
            to_ask.push(written.read_back(number, chance.once_in(2)));
        }
        to_ask.extend(self.unanswered);
        let mut client = Client::connect(
            self.number,
            self.floods,
            to_ask,
            can_invalidate,
            chance,
            now,
        );
        client.written = self.written;
        client
    }
}
