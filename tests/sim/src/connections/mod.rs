//! RDMA connections from end to end: clients, the device, smbdirectd's connections and their memory, the
//! relay sockets, and the children's relay channels. All but the device and the clients' requests is the
//! real thing. Chance decides who has a turn and what the device does: it carries requests out late,
//! answers READs behind later SENDs, reports completions late or twice. A child may take nothing for a
//! while, until its ring or its share of messages is full. Then something ends: a client vanishes or
//! disconnects, a child dies or closes, the device fails.
//!
//! Oracles: every request is answered once, with the bytes that are its own and nobody else's, in the
//! answer, in the client's memory and in the child's; its token is invalidated once if that was asked for,
//! and not used after; the device finds a receive for each message; of a child that takes nothing no
//! more waits than may, and nobody else waits for it; a connection that ends gives back every request, registration and queue pair; nothing waits for ever.

mod child;
mod client;
mod device;
mod hazards;
mod request;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proto::control::ConnectionId;
use proto::control::gateway::{GatewaySettings, GatewayTotals};
use proto::smbdirect::{ReadDepths, RequestedReads};
use proto::time::Timestamp;
use shm::link::Datagram;

use self::child::Child;
use self::client::Client;
use self::request::{Flood, LONG_FRAGMENT};
use crate::config::Limits;
use crate::gateway::{Connection, Pace, Shared};
use crate::memory::{Memory, PART_SIZE};
use crate::note;
use crate::rdma::{
    Device, DeviceLimits, Identifier, ProtectionDomain, Queues, Transport, live_objects,
};
use crate::relay::Pool;
use crate::run::{Sabotage, Scenario, Stage};

pub const SCENARIO: Scenario = Scenario {
    name: "connections",
    what: "clients, smbdirectd's connections and their children over a simulated device",
    play,
    sabotages: &[
        Sabotage::EarlyCompletion,
        Sabotage::StrayBytes,
        Sabotage::NeverReported,
        Sabotage::LostMessage,
        Sabotage::ForgottenReceive,
        Sabotage::KeptToken,
        Sabotage::SharedStall,
    ],
};

const STEPS_AT_MOST: u64 = 100_000;
const STEP: Duration = Duration::from_micros(5);
/// Leaps of the clock in which a connection makes no progress before it is said to hang.
const LEAPS_AT_MOST: u32 = 60;
/// So often everybody looks before time passes: what one says may have another say something.
const LOOKS: u32 = 16;
/// Nothing takes as long but a keepalive, which is no progress.
const PATIENCE: Duration = Duration::from_secs(60);

struct Line {
    client: Client,
    child: usize,
    queues: Rc<RefCell<Queues>>,
    /// None once it is gone.
    connection: Option<Connection>,
    is_established: bool,
    relay_is_blocked: bool,
    peer_told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Client(usize),
    Gateway(usize),
    Child(usize),
    /// The device carries the oldest request out.
    Carry(usize),
    /// The peer answers the oldest RDMA READ.
    AnswerRead(usize),
    /// A completion may be seen.
    Reveal(usize, bool),
    /// A client's message reaches the device.
    Deliver(usize),
}

struct World<'a> {
    stage: &'a mut Stage,
    now: Timestamp,
    lines: Vec<Line>,
    children: BTreeMap<usize, Child>,
    shared: Shared,
    /// A SEND overtakes the answer to a READ posted before it, as siw lets it.
    overtakes: bool,
    duplicates: bool,
    progress: u64,
    /// This child takes nothing; no more time passes than until then.
    stalled: Option<(usize, Timestamp)>,
}

fn play(stage: &mut Stage) {
    let before = live_objects();
    let flood = match stage.chance.below(32) {
        0 => Some(Flood::Bytes),
        1..3 => Some(Flood::Messages),
        _ => None,
    };
    let mut world = World::new(stage, flood);
    if flood.is_some() {
        world.stall();
    }
    let ends_early = world.stage.chance.once_in(3);
    let steps = match ends_early {
        true => world.stage.chance.below(600),
        false => STEPS_AT_MOST,
    };
    world.run(steps, |world| {
        world.lines.iter().all(|line| line.client.is_content())
    });
    if !ends_early {
        world.check_content();
    }
    world.end();
    let answered: u64 = world.lines.iter().map(|line| line.client.answered).sum();
    world.stage.tally.add("answered requests", answered);
    drop(world);
    assert_eq!(
        live_objects(),
        before,
        "registrations and queue pairs are left"
    );
}

impl<'a> World<'a> {
    fn new(stage: &'a mut Stage, flood: Option<Flood>) -> World<'a> {
        let limits = Limits::new(GatewaySettings {
            uid: 0,
            gid: 0,
            devices: Vec::new(),
            port_override: None,
            memory_budget: 9 * u64::from(PART_SIZE),
            // A part for each domain of three connections.
            client_memory: 3 * u64::from(PART_SIZE),
            max_connections: 8,
            receive_credits: stage.chance.one_of(&[4, 16, 64]),
            max_read_write: 1 << 20,
            max_receive_size: match flood {
                Some(Flood::Bytes) => LONG_FRAGMENT,
                _ => stage.chance.one_of(&[512, 1364]),
            },
            max_fragmented_receive_size: 1 << 17,
            keepalive_interval_s: 120,
        });
        let transport = stage.chance.one_of(&[
            Transport::InfiniBand,
            Transport::InfiniBand,
            Transport::Iwarp,
        ]);
        let mut world = World {
            overtakes: transport == Transport::Iwarp,
            duplicates: stage.chance.once_in(3),
            now: Timestamp::ZERO,
            lines: Vec::new(),
            children: BTreeMap::new(),
            shared: Shared {
                memory: Memory::new(
                    limits.settings().memory_budget,
                    limits.settings().client_memory,
                ),
                pool: Pool::new(limits.pool()),
                totals: GatewayTotals::default(),
                datagram: Datagram::new(),
                limits,
                pace: Pace::default(),
                completions: Vec::new(),
                chain: Vec::new(),
            },
            progress: 0,
            stalled: None,
            stage,
        };
        let device = Device::new(transport);
        let shared_domain = ProtectionDomain::new(&device);
        for number in 0..world.stage.chance.between(1, 3) as u32 {
            // On iWARP each connection has a domain of its own.
            let domain = match transport {
                Transport::InfiniBand => shared_domain.clone(),
                Transport::Iwarp => ProtectionDomain::new(&device),
            };
            world.connect(number, flood.filter(|_| number == 0), &domain);
        }
        world
    }

    fn connect(&mut self, number: u32, flood: Option<Flood>, domain: &Rc<ProtectionDomain>) {
        let queues = Rc::new(RefCell::new(Queues::default()));
        let peer = ([192, 0, 2, 10 + number as u8], 50_000).into();
        let device_limits = DeviceLimits {
            max_work_requests: self.stage.chance.one_of(&[32, 256, 16_384]),
            max_completions: 65_536,
            max_sge: 16,
            max_initiator_depth: self.stage.chance.one_of(&[1, 4, 16]),
            max_responder_resources: 16,
            send_with_invalidate: !self.stage.chance.once_in(4),
            max_message: 1 << 30,
            speed: 0,
        };
        let connection = Connection::accept(
            ConnectionId(u64::from(number) + 1),
            Identifier::new(peer, &queues),
            domain,
            device_limits,
            RequestedReads {
                peer: ReadDepths {
                    served: 16,
                    outstanding: 16,
                },
                by_private_data: false,
            },
            &self.shared.limits,
            self.now,
        )
        .expect("a connection");
        let child = self.stage.chance.index(2);
        self.children.entry(child).or_default();
        self.lines.push(Line {
            client: Client::new(
                number,
                flood,
                device_limits.send_with_invalidate,
                &mut self.stage.chance,
                self.now,
            ),
            child,
            queues,
            connection: Some(connection),
            is_established: false,
            relay_is_blocked: false,
            peer_told: false,
        });
    }

    /// Until it is over, or so many steps.
    fn run(&mut self, steps: u64, over: impl Fn(&World<'_>) -> bool) {
        let mut taken = 0;
        let mut leaps = 0;
        let until = self.now.saturating_add(PATIENCE);
        while taken < steps && self.now < until && !over(self) {
            let possible = self.possible();
            let before = self.progress;
            if possible.is_empty() {
                // Sockets tell nobody here: every process looks.
                for _ in 0..LOOKS {
                    self.look();
                }
                if self.progress == before {
                    leaps += 1;
                    if leaps > LEAPS_AT_MOST || !self.leap() {
                        return;
                    }
                } else {
                    leaps = 0;
                }
                continue;
            }
            leaps = 0;
            let step = self.stage.chance.one_of(&possible);
            self.take(step);
            taken += 1;
        }
        assert!(taken < STEPS_AT_MOST, "there is no end to it");
        self.stage.tally.add("steps", taken);
    }

    fn possible(&self) -> Vec<Step> {
        let mut possible = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            let queues = line.queues.borrow();
            let mut add = |step, can: bool| {
                if can {
                    possible.push(step);
                }
            };
            add(Step::Client(index), line.client.can_turn(self.now));
            add(
                Step::Deliver(index),
                line.client.is_alive && !line.client.wire.is_empty(),
            );
            if line.connection.is_none() {
                continue;
            }
            let due = line.connection.as_ref().and_then(Connection::deadline);
            let due = due.is_some_and(|due| due <= self.now);
            add(
                Step::Gateway(index),
                queues.wakes || due || !line.is_established,
            );
            let carries = queues.has_requests() && !queues.failed && line.client.is_alive;
            let waits = queues.has_reads() && !queues.oldest_is_read() && !self.overtakes;
            add(Step::Carry(index), carries && !waits);
            add(
                Step::AnswerRead(index),
                queues.has_reads() && line.client.is_alive,
            );
            let [sends, receives] = queues.has_hidden();
            add(Step::Reveal(index, false), sends);
            add(Step::Reveal(index, true), receives);
        }
        // Sockets: now and then somebody looks.
        if !possible.is_empty() {
            possible.extend((0..self.lines.len()).map(Step::Gateway));
            let children = self.children.keys().copied();
            let awake = children.filter(|child| !self.is_stalled(*child));
            possible.extend(awake.map(Step::Child));
        }
        possible
    }

    fn look(&mut self) {
        for index in 0..self.lines.len() {
            self.gateway_turn(index);
        }
        let children: Vec<usize> = self.children.keys().copied().collect();
        for child in children {
            self.child_turn(child);
        }
        self.progress += self.possible().len() as u64;
    }

    /// To the next timer of anybody.
    fn leap(&mut self) -> bool {
        let connections = self.lines.iter().filter_map(|line| {
            let connection = line.connection.as_ref()?;
            connection.deadline()
        });
        let clients = self
            .lines
            .iter()
            .filter(|line| line.client.is_alive)
            .filter_map(|line| line.client.machine.deadline());
        let Some(due) = connections.chain(clients).min() else {
            return false;
        };
        if self.stalled.is_some_and(|(_, until)| due > until) {
            return false;
        }
        self.now = self.now.max(due).saturating_add(STEP);
        note!("{} later", self.now);
        true
    }

    fn take(&mut self, step: Step) {
        self.now = self.now.saturating_add(STEP);
        match step {
            Step::Client(index) => {
                self.lines[index].client.turn(self.now);
                self.progress += 1;
            }
            Step::Gateway(index) => self.gateway_turn(index),
            Step::Child(child) => self.child_turn(child),
            Step::Carry(index) => self.carry(index),
            Step::AnswerRead(index) => self.answer_read(index),
            Step::Reveal(index, receive) => {
                let twice = self.duplicates && self.stage.chance.once_in(10);
                self.lines[index].queues.borrow_mut().reveal(receive, twice);
                if twice {
                    self.stage.tally.add("completions seen twice", 1);
                }
            }
            Step::Deliver(index) => self.deliver(index),
        }
    }

    /// As the gateway's loop does it: what happened, then one `advance`.
    fn gateway_turn(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let Some(connection) = &mut line.connection else {
            return;
        };
        if !line.is_established && self.stage.chance.once_in(3) {
            line.is_established = true;
            connection.handle_established(self.now);
        }
        let (wakes, failed, disconnects) = {
            let queues = line.queues.borrow();
            (queues.wakes, queues.failed, queues.disconnects)
        };
        if wakes {
            connection.handle_completions(self.now, &mut self.shared);
        }
        connection.handle_relay(self.now, &mut self.shared);
        if connection.deadline().is_some_and(|due| due <= self.now) {
            connection.handle_deadline(self.now);
        }
        // The connection manager tells of the peer's end, or answers this side's.
        let over = !line.client.is_alive || disconnects;
        if over && failed && !line.peer_told && self.stage.chance.once_in(2) {
            note!("connection {index}: disconnected");
            line.peer_told = true;
            line.client.is_alive = false;
            connection.handle_disconnected(self.now, &mut self.shared);
        }
        connection.advance(self.now, &mut self.shared);
        // The loop looks once more, if it likes, and arms before it sleeps.
        if self.stage.chance.once_in(3) && connection.look(self.now, &mut self.shared) {
            connection.advance(self.now, &mut self.shared);
        }
        while connection.arm(self.now, &mut self.shared) {
            connection.advance(self.now, &mut self.shared);
        }
        if let Some(socket) = connection.take_announcement() {
            note!("connection {index}: is announced");
            if let Some(child) = self.children.get_mut(&line.child) {
                child.serve(line.client.number, socket);
            }
        }
        line.relay_is_blocked = connection.relay().is_some_and(|(_, blocked)| blocked);
        if connection.is_gone(self.now) {
            note!("connection {index}: is gone");
            connection.dismantle(&mut self.shared);
            line.connection = None;
            line.client.is_alive = false;
            self.progress += 1;
        }
    }

    fn is_stalled(&self, child: usize) -> bool {
        let all = self.stage.sabotage == Some(Sabotage::SharedStall);
        self.stalled
            .is_some_and(|(stalled, _)| stalled == child || all)
    }

    fn child_turn(&mut self, child: usize) {
        if self.is_stalled(child) {
            return;
        }
        if let Some(child) = self.children.get_mut(&child) {
            child.turn(self.stage);
        }
    }

    fn check_content(&self) {
        for line in &self.lines {
            assert!(
                line.client.is_content(),
                "client {} waits for ever for {:?}; it has {:?}",
                line.client.number,
                line.client.open,
                line.client.machine.credits()
            );
            assert_eq!(line.client.machine.close_reason(), None);
        }
    }
}
