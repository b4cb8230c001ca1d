//! Two machines over a fabric in memory: reliable, in order, with delays and virtual time.
//! It behaves as a queue pair does: a message that finds no posted receive is a bug of whoever
//! granted the credit, and fails the test. After every step `granted <= posted` is checked.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::super::{Connection, MessageKey, Outgoing, Parameters, Received, Role, State};
use super::START;
use crate::time::Timestamp;

/// More steps than any test needs; reaching it means two sides talk without end.
const STEP_LIMIT: usize = 400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    Server,
}

/// How long messages and completions take, and how often receives are posted late.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    state: u64,
    longest_delay: Duration,
    /// Of 256 turns, this many post nothing.
    late_posts: u8,
}

pub(super) struct Side {
    pub(super) machine: Connection,
    /// The driver posts nothing while set.
    pub(super) parked: bool,
    /// Upper-layer messages that arrived whole.
    pub(super) delivered: Vec<Vec<u8>>,
    /// Upper-layer messages queued, in order.
    pub(super) queued: Vec<Vec<u8>>,
    /// Tokens of arrived messages, in order, and those expected.
    pub(super) invalidated: Vec<u32>,
    pub(super) expected_tokens: Vec<u32>,
    /// Messages sent, of any kind.
    pub(super) sent: usize,
    /// Receives in the queue of the simulated queue pair.
    receives: u16,
    arrivals: VecDeque<(Timestamp, Packet)>,
    completions: VecDeque<Timestamp>,
    unsent: HashMap<MessageKey, Vec<u8>>,
    assembly: Vec<u8>,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    invalidate: Option<u32>,
}

pub(super) struct Pair {
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) now: Timestamp,
    schedule: Schedule,
}

impl Schedule {
    pub(super) const fn steady() -> Self {
        Self {
            state: 1,
            longest_delay: Duration::from_micros(10),
            late_posts: 0,
        }
    }

    pub(super) const fn random(seed: u64, longest_delay: Duration, late_posts: u8) -> Self {
        Self {
            state: seed | 1,
            longest_delay,
            late_posts,
        }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn delay(&mut self) -> Duration {
        let longest = u64::try_from(self.longest_delay.as_micros()).unwrap();
        Duration::from_micros(1 + self.next() % longest.max(1))
    }

    fn posts_late(&mut self) -> bool {
        self.next() % 256 < u64::from(self.late_posts)
    }
}

impl Side {
    fn new(role: Role, parameters: Parameters) -> Self {
        parameters.validate().expect("a test uses valid parameters");
        Self {
            machine: Connection::new(role, parameters, START),
            parked: false,
            delivered: Vec::new(),
            queued: Vec::new(),
            invalidated: Vec::new(),
            expected_tokens: Vec::new(),
            sent: 0,
            receives: 0,
            arrivals: VecDeque::new(),
            completions: VecDeque::new(),
            unsent: HashMap::new(),
            assembly: Vec::new(),
        }
    }

    fn queue(&mut self, length: u32, invalidate: Option<u32>) {
        let number = self.queued.len() as u64;
        let bytes: Vec<u8> = (0..u64::from(length))
            .map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ number) as u8)
            .collect();
        self.machine
            .queue_message(MessageKey(number), length, invalidate)
            .expect("the message is accepted");
        self.unsent.insert(MessageKey(number), bytes.clone());
        self.queued.push(bytes);
        self.expected_tokens.extend(invalidate);
    }

    fn post(&mut self) {
        let count = self.machine.receives_to_post();
        self.receives += count;
        self.machine.handle_posted(count);
        assert!(self.receives <= self.machine.parameters().receive_queue_depth());
        self.check();
    }

    fn check(&self) {
        let credits = self.machine.credits();
        assert!(
            credits.granted <= credits.posted,
            "granted more than is posted: {credits:?}"
        );
        assert_eq!(
            credits.posted, self.receives,
            "the machine lost count of its receives"
        );
    }

    fn packet(&mut self, outgoing: Outgoing) -> Packet {
        let mut bytes = outgoing.header.as_bytes().to_vec();
        if let Some(payload) = outgoing.payload {
            let message = &self.unsent[&payload.message];
            let range = payload.range.start as usize..payload.range.end as usize;
            assert!(range.len() <= self.machine.max_send_payload() as usize);
            assert_eq!(outgoing.last_of_message, range.end == message.len());
            bytes.extend(&message[range]);
            if outgoing.last_of_message {
                self.unsent.remove(&payload.message);
            }
        }
        self.sent += 1;
        Packet {
            bytes,
            invalidate: outgoing.invalidate,
        }
    }

    fn receive(&mut self, now: Timestamp, packet: Packet) {
        self.receives = self
            .receives
            .checked_sub(1)
            .expect("a message arrived that no receive was posted for");
        assert!(packet.bytes.len() <= self.machine.receive_buffer_size() as usize);
        match self.machine.handle_receive(now, &packet.bytes) {
            Ok(Received::Fragment {
                data,
                message_length,
                offset_in_message,
                last,
            }) => {
                assert_eq!(offset_in_message as usize, self.assembly.len());
                self.assembly.extend(&packet.bytes[data]);
                if last {
                    assert_eq!(message_length as usize, self.assembly.len());
                    self.delivered.push(std::mem::take(&mut self.assembly));
                }
                assert!(packet.invalidate.is_none() || last);
            }
            Ok(_) => assert_eq!(packet.invalidate, None),
            Err(violation) => panic!("an honest side was refused: {violation}"),
        }
        self.invalidated.extend(packet.invalidate);
        self.check();
    }

    fn next_event(&self) -> Option<Timestamp> {
        let arrival = self.arrivals.front().map(|(at, _)| *at);
        let completion = self.completions.front().copied();
        arrival.into_iter().chain(completion).min()
    }
}

impl Pair {
    /// Connected, nothing exchanged yet. The server's negotiate receive is posted before anything.
    pub(super) fn new(client: Parameters, server: Parameters, schedule: Schedule) -> Self {
        let mut pair = Self {
            client: Side::new(Role::Active, client),
            server: Side::new(Role::Passive, server),
            now: START,
            schedule,
        };
        pair.server.post();
        pair
    }

    /// Negotiated, on a steady fabric.
    pub(super) fn established(client: Parameters, server: Parameters) -> Self {
        let mut pair = Self::new(client, server, Schedule::steady());
        pair.negotiate();
        pair
    }

    pub(super) fn negotiate(&mut self) {
        self.client.machine.handle_established(self.now);
        // The server's side of the connection manager speaks after the request has arrived.
        self.run_until(|pair| pair.server.machine.state() == State::AwaitingEstablished);
        self.server.machine.handle_established(self.now);
        self.run_until(|pair| pair.client.machine.state() == State::Established);
    }

    pub(super) fn queue(&mut self, who: Who, length: u32) {
        self.queue_invalidating(who, length, None);
    }

    pub(super) fn queue_invalidating(&mut self, who: Who, length: u32, token: Option<u32>) {
        match who {
            Who::Client => self.client.queue(length, token),
            Who::Server => self.server.queue(length, token),
        }
    }

    pub(super) fn all_delivered(&self) -> bool {
        self.server.delivered.len() == self.client.queued.len()
            && self.client.delivered.len() == self.server.queued.len()
    }

    /// Runs until everything queued has arrived, and checks that it did so intact and in order.
    pub(super) fn run_until_delivered(&mut self) {
        self.run_until(Self::all_delivered);
        assert_eq!(self.server.delivered, self.client.queued);
        assert_eq!(self.client.delivered, self.server.queued);
        assert_eq!(self.server.invalidated, self.client.expected_tokens);
        assert_eq!(self.client.invalidated, self.server.expected_tokens);
    }

    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..STEP_LIMIT {
            if done(self) {
                return;
            }
            if !self.step() {
                assert!(
                    done(self),
                    "deadlock: client {:?}, server {:?}",
                    self.client.machine.credits(),
                    self.server.machine.credits()
                );
                return;
            }
        }
        panic!("no end after {STEP_LIMIT} steps");
    }

    /// Runs until nothing is under way; timers do not count.
    pub(super) fn settle(&mut self) {
        for _ in 0..STEP_LIMIT {
            if !self.step() {
                return;
            }
        }
        panic!("the two sides do not fall silent");
    }

    /// Lets time pass, timers included.
    pub(super) fn advance(&mut self, duration: Duration) {
        let end = self.now.saturating_add(duration);
        loop {
            self.settle();
            let due = [&self.client, &self.server]
                .into_iter()
                .filter_map(|side| side.machine.deadline())
                .min();
            match due {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.fire_timers();
                }
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }

    pub(super) fn fire_timers(&mut self) {
        self.client.machine.handle_timeout(self.now);
        self.server.machine.handle_timeout(self.now);
    }

    /// Drives both sides and moves on to the next event. False: nothing can happen any more.
    fn step(&mut self) -> bool {
        self.drive(Who::Client, false);
        self.drive(Who::Server, false);
        if self.next_event().is_none() {
            // A driver that was late posts in the end.
            self.drive(Who::Client, true);
            self.drive(Who::Server, true);
        }
        let Some(at) = self.next_event() else {
            return false;
        };
        self.now = self.now.max(at);
        for side in [&mut self.client, &mut self.server] {
            let mut completed = 0;
            while side.completions.front().is_some_and(|at| *at <= self.now) {
                side.completions.pop_front();
                completed += 1;
            }
            side.machine.handle_send_complete(self.now, completed);
            while side.arrivals.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, packet) = side.arrivals.pop_front().unwrap();
                side.receive(self.now, packet);
            }
        }
        true
    }

    fn next_event(&self) -> Option<Timestamp> {
        let client = self.client.next_event();
        let server = self.server.next_event();
        client.into_iter().chain(server).min()
    }

    fn drive(&mut self, who: Who, post_now: bool) {
        let (side, peer) = match who {
            Who::Client => (&mut self.client, &mut self.server),
            Who::Server => (&mut self.server, &mut self.client),
        };
        if !side.parked && (post_now || !self.schedule.posts_late()) {
            side.post();
        }
        loop {
            while let Some(outgoing) = side.machine.poll_send(self.now) {
                let packet = side.packet(outgoing);
                side.check();
                // In order: nothing overtakes what was sent before it.
                let arrival = self.now.saturating_add(self.schedule.delay());
                let last = peer.arrivals.back().map_or(arrival, |(at, _)| *at);
                peer.arrivals.push_back((arrival.max(last), packet));
                let completion = self.now.saturating_add(self.schedule.delay());
                let last = side.completions.back().map_or(completion, |at| *at);
                side.completions.push_back(completion.max(last));
            }
            // A message behind the last credit may ask for one more receive.
            let may_post = !side.parked && post_now && side.machine.receives_to_post() > 0;
            if !may_post {
                break;
            }
            side.post();
        }
    }
}
