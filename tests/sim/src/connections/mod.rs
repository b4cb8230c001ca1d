//! RDMA connections from end to end: clients, the device, smbdirectd's connections and their memory, the
//! relay sockets, the broker and its links, and the children, forked for a relay each, with their relay
//! channels. All but the device and the clients' requests is the real thing. Chance decides who has a turn
//! and what the device does: it carries requests out late, answers READs behind later SENDs or behind the
//! end, reports completions late or twice. A child may take nothing for a while, until its ring or its share
//! of messages is full. Connections are lost, children hang up or die, smbdirectd dies, and clients connect
//! again. In the end a client vanishes, a child dies or closes, the device fails.
//!
//! Oracles: every request is answered once, with the bytes that are its own and nobody else's, in the
//! answer, in the client's memory and in the child's; what was written can be read back, whoever died;
//! a token is invalidated once if that was asked for, and not used after; the device finds a receive for
//! each message; of a child that takes nothing no more waits than may, and nobody else waits for it; a
//! client's connections end in one process, which the broker counts; a child lets go of a dead smbdirectd's
//! channels and of no others; a connection that ends gives back every request, registration and queue
//! pair; nothing waits for ever.

mod child;
mod client;
mod deaths;
mod device;
mod hazards;
mod processes;
mod request;
mod served;
mod turns;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use proto::control::ConnectionId;
use proto::control::gateway::{GatewaySettings, GatewayTotals};
use proto::smbdirect::{ReadDepths, RequestedReads};
use proto::time::Timestamp;
use shm::link::Datagram;

use self::child::Child;
use self::client::Client;
use self::processes::Broker;
use self::request::{Flood, LONG_FRAGMENT};
use self::served::Files;
use crate::chance::Chance;
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
    what: "clients, smbdirectd's connections, the broker and children over a simulated device",
    play,
    sabotages: &[
        Sabotage::EarlyCompletion,
        Sabotage::StrayBytes,
        Sabotage::NeverReported,
        Sabotage::LostMessage,
        Sabotage::ForgottenReceive,
        Sabotage::KeptToken,
        Sabotage::SharedStall,
        Sabotage::ServedTwice,
        Sabotage::UnheardDeath,
        Sabotage::ForgottenWrite,
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
    /// Which client of the broker's: all its connections end in one process.
    group: u8,
    queues: Rc<RefCell<Queues>>,
    /// None once it is gone.
    connection: Option<Connection>,
    is_established: bool,
    peer_told: bool,
    /// Its client is to connect again: smbdirectd died, or the connection was lost.
    is_lost: bool,
    /// Its child hung up, of which the client hears from smbdirectd.
    is_hung_up: bool,
    /// Its client has another one.
    is_replaced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Client(usize),
    Gateway(usize),
    Child(u64),
    Broker,
    /// The device carries the oldest request out.
    Carry(usize),
    /// The peer answers the oldest RDMA READ.
    AnswerRead(usize),
    /// A completion may be seen.
    Reveal(usize, bool),
    /// A client's message reaches the device.
    Deliver(usize),
    /// A client hears that its connection is lost, and connects again.
    Reconnect(usize),
    /// The kernel is done with the queue pairs and the memory of smbdirectds that died.
    Bury,
}

struct World<'a> {
    stage: &'a mut Stage,
    now: Timestamp,
    lines: Vec<Line>,
    children: BTreeMap<u64, Child>,
    broker: Broker,
    files: Files,
    shared: Shared,
    device: Rc<Device>,
    /// The domain of all connections where it is not one for each.
    domain: Rc<ProtectionDomain>,
    connections: u64,
    /// Counts the smbdirectds there were.
    smbdirectd: u64,
    /// Steps after which it dies, and after which a connection is lost.
    deaths: Vec<u64>,
    losses: Vec<u64>,
    steps: u64,
    /// What those that died had, until the kernel is done with it.
    remains: Vec<Shared>,
    /// Sockets that should be closed.
    unheard: Vec<OwnedFd>,
    /// One has: connections may end of which nobody here knows why.
    child_died: bool,
    /// Nobody connects any more.
    is_ending: bool,
    /// A SEND overtakes the answer to a READ posted before it, as siw lets it.
    overtakes: bool,
    duplicates: bool,
    progress: u64,
    /// This child takes nothing; no more time passes than until then.
    stalled: Option<(u64, Timestamp)>,
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
    world.run(steps, |world| world.is_content());
    if !ends_early {
        world.check_content();
        world.check_children();
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

/// What smbdirectd's connections share, as it begins.
fn begin(limits: Limits) -> Shared {
    Shared {
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
    }
}

impl<'a> World<'a> {
    fn new(stage: &'a mut Stage, flood: Option<Flood>) -> World<'a> {
        let limits = Limits::new(GatewaySettings {
            uid: 0,
            gid: 0,
            devices: Vec::new(),
            port_override: None,
            memory_budget: 24 * u64::from(PART_SIZE),
            // A part for each domain of three connections, and of what is left of lost ones.
            client_memory: 8 * u64::from(PART_SIZE),
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
        let device = Device::new(transport);
        let deaths = match stage.chance.below(8) {
            0 => vec![stage.chance.below(400), stage.chance.below(800)],
            1 | 2 => vec![stage.chance.below(600)],
            _ => Vec::new(),
        };
        let losses = match stage.chance.once_in(2) {
            true => vec![stage.chance.below(300), stage.chance.below(600)],
            false => Vec::new(),
        };
        let mut world = World {
            overtakes: transport == Transport::Iwarp,
            duplicates: stage.chance.once_in(3),
            now: Timestamp::ZERO,
            lines: Vec::new(),
            children: BTreeMap::new(),
            broker: Broker::start(),
            files: Files::default(),
            shared: begin(limits),
            domain: ProtectionDomain::new(&device),
            device,
            connections: 0,
            smbdirectd: 0,
            deaths,
            losses,
            steps: 0,
            remains: Vec::new(),
            unheard: Vec::new(),
            child_died: false,
            is_ending: false,
            progress: 0,
            stalled: None,
            stage,
        };
        for number in 0..world.stage.chance.between(1, 3) as u32 {
            let group = world.stage.chance.below(2) as u8;
            let flood = flood.filter(|_| number == 0);
            world.connect(group, |can_invalidate, chance, now| {
                Client::new(number, flood, can_invalidate, chance, now)
            });
        }
        world
    }

    /// A client connects.
    fn connect(&mut self, group: u8, client: impl FnOnce(bool, &mut Chance, Timestamp) -> Client) {
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
        let client = client(
            device_limits.send_with_invalidate,
            &mut self.stage.chance,
            self.now,
        );
        let queues = Queues::new(self.stage.chance.once_in(2));
        let queues = Rc::new(RefCell::new(queues));
        let peer = ([192, 0, 2, 10 + client.number as u8], 50_000).into();
        // On iWARP each connection has a domain of its own.
        let domain = match self.device.transport() {
            Transport::InfiniBand => self.domain.clone(),
            Transport::Iwarp => ProtectionDomain::new(&self.device),
        };
        self.connections += 1;
        let number = served::number(self.smbdirectd, self.connections, client.number);
        let connection = Connection::accept(
            ConnectionId(number),
            Identifier::new(peer, &queues),
            &domain,
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
        self.lines.push(Line {
            client,
            group,
            queues,
            connection: Some(connection),
            is_established: false,
            peer_told: false,
            is_lost: false,
            is_hung_up: false,
            is_replaced: false,
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
            self.steps += 1;
            if self.deaths.contains(&self.steps) {
                self.kill();
            }
            if self.losses.contains(&self.steps) {
                self.lose();
            }
        }
        assert!(taken < STEPS_AT_MOST, "there is no end to it");
        self.stage.tally.add("steps", taken);
    }

    fn possible(&self) -> Vec<Step> {
        let mut possible = Vec::with_capacity(32);
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
            // What was posted goes on without its poster.
            let is_served = line.connection.is_some();
            let is_cut = queues.disconnects || !is_served;
            let hears = match line.is_lost {
                true => !line.is_hung_up || is_cut,
                false => self.child_died && is_cut && !line.is_replaced,
            };
            add(Step::Reconnect(index), hears && !self.is_ending);
            if !is_served && !queues.is_orphaned() {
                continue;
            }
            let due = line.connection.as_ref().and_then(Connection::deadline);
            let due = due.is_some_and(|due| due <= self.now);
            let has_news = queues.wakes || due || !line.is_established;
            add(Step::Gateway(index), has_news && is_served);
            let carries = queues.has_requests() && !queues.failed && line.client.is_alive;
            let waits = queues.has_reads() && !queues.oldest_is_read() && !self.overtakes;
            add(Step::Carry(index), carries && !waits);
            let answers = line.client.is_alive || queues.failed;
            add(Step::AnswerRead(index), queues.has_reads() && answers);
            let [sends, receives] = queues.has_hidden();
            add(Step::Reveal(index, false), sends && is_served);
            add(Step::Reveal(index, true), receives && is_served);
        }
        if !self.remains.is_empty() {
            possible.push(Step::Bury);
        }
        // Sockets: now and then somebody looks.
        if !possible.is_empty() {
            let lines = self.lines.iter().enumerate();
            let served = lines.filter(|(_, line)| line.connection.is_some());
            possible.extend(served.map(|(index, _)| Step::Gateway(index)));
            let children = self.children.keys().copied();
            let awake = children.filter(|child| !self.is_stalled(*child));
            possible.extend(awake.map(Step::Child));
            possible.push(Step::Broker);
        }
        possible
    }

    fn look(&mut self) {
        for index in 0..self.lines.len() {
            self.gateway_turn(index);
        }
        self.broker_turn();
        let children: Vec<u64> = self.children.keys().copied().collect();
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
            Step::Broker => self.broker_turn(),
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
            Step::Reconnect(index) => self.reconnect(index),
            Step::Bury => self.bury(),
        }
    }

    fn is_content(&self) -> bool {
        let mut lines = self.lines.iter().filter(|line| !line.is_replaced);
        lines.all(|line| line.client.is_content() && !line.is_lost)
    }

    fn check_content(&self) {
        for line in self.lines.iter().filter(|line| !line.is_replaced) {
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
