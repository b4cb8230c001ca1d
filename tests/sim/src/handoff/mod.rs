//! Clients that connect, children that claim and take connections, the broker, and the supervisor that
//! starts all of them, on real sockets in one thread: the broker's process, a child's link to it and its
//! rule of when a passed connection is served are the real ones. Chance decides whose turn it is; what
//! was not yet read is what is under way. Any process dies between any two of its steps.
//!
//! Oracles: a client never hears two processes, every connection is answered or closed in the end, a
//! client's connections end in one process, nobody keeps a descriptor of a connection that is served
//! elsewhere, and the broker counts the connections there are.

mod child;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use proto::control::ChildId;
use proto::control::ConnectionKind;
use proto::control::broker::{BrokerToSupervisor, SupervisorToBroker};
use shm::link::{Datagram, LinkError};
use smbd::broker::process::Process;
use smbd::messaging::ControlLink;

use self::child::{Child, Fate};
use crate::note;
use crate::run::{Sabotage, Scenario, Stage};

pub const SCENARIO: Scenario = Scenario {
    name: "handoff",
    what: "claims and passes between children and the broker, any of which may die",
    play,
    sabotages: &[
        Sabotage::ServedUntold,
        Sabotage::KeptDescriptor,
        Sabotage::SparedChild,
        Sabotage::UnnamedChild,
        Sabotage::UncountedEnd,
    ],
};

/// Rounds without news after which nothing follows but by a timer.
const QUIET_ROUNDS: u32 = 4;
/// Timers a run may need after its last step.
const TIMERS_AT_MOST: u32 = 40;

/// A client's end of one connection.
struct Client {
    guid: u8,
    /// None once it has left.
    end: Option<OwnedFd>,
    /// The processes that said something on it.
    answers: Vec<u64>,
    is_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connect,
    Leave,
    Child(u64),
    Broker,
    Supervisor,
    KillChild(u64),
    Hang(u64),
    Stop(u64),
    KillBroker,
}

struct World<'a> {
    stage: &'a mut Stage,
    now: Duration,
    broker: Option<Process>,
    /// The supervisor's end of the broker's link.
    control: Option<ControlLink<BrokerToSupervisor, SupervisorToBroker>>,
    children: BTreeMap<u64, Child>,
    last_child: u64,
    clients: Vec<Client>,
    to_connect: u64,
    guids: u64,
    deaths_left: u64,
    broker_deaths_left: u64,
    datagram: Datagram,
}

fn play(stage: &mut Stage) {
    let to_connect = stage.chance.between(1, 9);
    let guids = stage.chance.between(1, 3);
    let deaths_left = stage.chance.below(4);
    let broker_deaths_left = stage.chance.below(3);
    let mut world = World {
        stage,
        now: Duration::ZERO,
        broker: None,
        control: None,
        children: BTreeMap::new(),
        last_child: 0,
        clients: Vec::new(),
        to_connect,
        guids,
        deaths_left,
        broker_deaths_left,
        datagram: Datagram::new(),
    };
    world.start_broker();
    world.run();
}

impl World<'_> {
    fn run(&mut self) {
        let steps = self.stage.chance.between(20, 160);
        for step in 0..steps {
            // Deaths are spread over the run: most come when something is under way.
            let deaths = self.deaths_left + self.broker_deaths_left;
            let dies = self.stage.chance.below(steps - step) < deaths;
            let mut possible = match dies {
                true => self.deaths(),
                false => Vec::new(),
            };
            if possible.is_empty() {
                possible = self.possible();
            }
            let step = self.stage.chance.one_of(&possible);
            self.take(step);
            self.listen();
        }
        self.stage.tally.add("steps", steps);
        self.settle();
        self.check_end();
    }

    fn possible(&self) -> Vec<Step> {
        let mut possible = vec![Step::Broker, Step::Supervisor];
        if self.to_connect > 0 {
            possible.push(Step::Connect);
        }
        if self.clients.len() > 1 && self.to_connect.is_multiple_of(4) {
            possible.push(Step::Leave);
        }
        for &child in self.children.keys() {
            possible.extend([Step::Child(child); 3]);
        }
        possible
    }

    fn deaths(&self) -> Vec<Step> {
        let mut possible = Vec::new();
        if self.deaths_left > 0 {
            for &child in self.children.keys() {
                possible.push(Step::KillChild(child));
                if self.deaths_left == 2 {
                    possible.extend([Step::Hang(child), Step::Stop(child)]);
                }
            }
        }
        if self.broker_deaths_left > 0 {
            possible.push(Step::KillBroker);
        }
        possible
    }

    fn take(&mut self, step: Step) {
        self.now += Duration::from_micros(10);
        match step {
            Step::Connect => self.connect(),
            Step::Leave => {
                let index = self.stage.chance.index(self.clients.len());
                note!("client {index} leaves");
                self.clients[index].end = None;
            }
            Step::Child(child) => {
                self.child_turn(child, false);
                self.silence(child);
            }
            Step::Broker => self.broker_turn(false),
            Step::Supervisor => self.supervisor_turn(),
            Step::KillChild(child) => {
                self.deaths_left -= 1;
                self.stage.tally.add("dead children", 1);
                if self.stage.chance.once_in(3) {
                    note!("child {child} is killed");
                    self.children.remove(&child);
                } else {
                    self.child_turn(child, true);
                }
            }
            Step::Hang(child) => {
                self.deaths_left -= 1;
                if let Some(child) = self.children.get_mut(&child) {
                    note!("child {} hangs", child.id);
                    self.stage.tally.add("hanging children", 1);
                    child.hangs = true;
                }
            }
            Step::Stop(child) => {
                if let Some(child) = self.children.get_mut(&child) {
                    note!("child {} is told to end", child.id);
                    child.stop();
                }
            }
            Step::KillBroker => {
                self.broker_deaths_left -= 1;
                self.stage.tally.add("dead brokers", 1);
                if self.stage.chance.once_in(2) {
                    note!("the broker is killed");
                    self.broker = None;
                } else {
                    self.broker_turn(true);
                }
            }
        }
    }

    /// An owner dies behind its first word on a passed connection, and the broker beside it, before it
    /// hears that the connection is taken: only the connection's mark knows.
    fn silence(&mut self, id: u64) {
        let spoke = self
            .children
            .get_mut(&id)
            .is_some_and(Child::has_just_spoken);
        let may_die = self.deaths_left > 0 && self.broker_deaths_left > 0;
        if spoke && may_die && self.stage.chance.once_in(3) {
            note!("child {id} and the broker are killed behind the child's first word");
            self.deaths_left -= 1;
            self.broker_deaths_left -= 1;
            self.stage.tally.add("brokers dead with who spoke", 1);
            self.children.remove(&id);
            self.broker = None;
        }
    }

    fn connect(&mut self) {
        self.to_connect -= 1;
        let (end, server) = shm::link::pair().expect("a connection");
        let client = self.clients.len();
        let guid = self.stage.chance.below(self.guids) as u8 + 1;
        note!("client {client}, of ClientGuid {guid}, connects");
        self.clients.push(Client {
            guid,
            end: Some(end),
            answers: Vec::new(),
            is_closed: false,
        });
        self.stage.tally.add("connections", 1);
        self.fork(server, client);
    }

    /// As the supervisor does it.
    fn fork(&mut self, connection: OwnedFd, client: usize) {
        self.last_child += 1;
        let id = self.last_child;
        let (brokers, childs) = shm::link::pair().expect("a link");
        if let Some(control) = &mut self.control {
            let message = SupervisorToBroker::Child {
                child: ChildId(id),
                resumes: false,
            };
            control.send_with(&message, vec![brokers]);
            let _ = control.flush();
        }
        note!("child {id} is forked for client {client}");
        let guid = self.clients[client].guid;
        let child = Child::new(id, childs, connection, client, guid);
        self.children.insert(id, child);
    }

    fn child_turn(&mut self, id: u64, dies: bool) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let step_of_death = match dies {
            true => Some(self.stage.chance.below(Child::STEPS)),
            false => None,
        };
        match child.turn(self.stage, step_of_death) {
            Fate::Lives => {}
            Fate::Ended => {
                note!("child {id} ends");
                self.children.remove(&id);
            }
            Fate::Dies => {
                note!("child {id} dies at step {step_of_death:?} of its turn");
                self.children.remove(&id);
            }
        }
    }

    fn broker_turn(&mut self, dies: bool) {
        let Some(broker) = &mut self.broker else {
            return;
        };
        broker.wait(Some(Duration::ZERO)).expect("an epoll set");
        let lives = broker.take(self.now).expect("what was said");
        if dies && self.stage.chance.once_in(2) {
            note!("the broker dies before it answers");
            self.broker = None;
            return;
        }
        assert!(lives, "the supervisor is there");
        broker.act(self.now).expect("the broker's sockets");
        if dies {
            note!("the broker dies behind its answers");
            self.broker = None;
        }
    }

    fn supervisor_turn(&mut self) {
        let Some(control) = &mut self.control else {
            return self.start_broker();
        };
        let mut messages = Vec::new();
        let outcome = control.receive(&mut self.datagram, |message, descriptors| {
            messages.push((message, descriptors));
        });
        for (message, mut descriptors) in messages {
            match message {
                BrokerToSupervisor::Orphan { preface, .. } => {
                    let client = child::client_of(&preface);
                    note!("the supervisor takes in client {client}, an orphan");
                    self.stage.tally.add("orphans", 1);
                    if let Some(connection) = descriptors.pop() {
                        self.fork(connection, client);
                    }
                }
                BrokerToSupervisor::End { child, reason } => {
                    note!("the supervisor ends child {}: {reason}", child.0);
                    assert!(
                        self.children.get(&child.0).is_none_or(|child| child.hangs),
                        "the broker ends an honest child: {reason}"
                    );
                    if !self.stage.goes_wrong(Sabotage::SparedChild, 1) {
                        self.children.remove(&child.0);
                    }
                }
                BrokerToSupervisor::Problem { text } => note!("the broker says: {text}"),
                BrokerToSupervisor::Status { .. } => {}
            }
        }
        if outcome.is_err() {
            note!("the supervisor finds the broker dead");
            self.control = None;
        }
    }

    /// The supervisor's `introduce_children`.
    fn start_broker(&mut self) {
        note!("a broker starts");
        let (here, there) = shm::link::pair().expect("a link");
        let mut control = ControlLink::new(here);
        self.broker = Some(Process::new(there).expect("a broker"));
        let unnamed = self.stage.goes_wrong(Sabotage::UnnamedChild, 2);
        for (id, child) in &mut self.children {
            let (brokers, childs) = shm::link::pair().expect("a link");
            let message = SupervisorToBroker::Child {
                child: ChildId(*id),
                resumes: true,
            };
            if unnamed && child.owns() {
                continue;
            }
            control.send_with(&message, vec![brokers]);
            child.relink(childs);
        }
        control.send(&SupervisorToBroker::Start);
        let _ = control.flush();
        self.control = Some(control);
    }

    /// Clients hear what was said to them.
    fn listen(&mut self) {
        for (index, client) in self.clients.iter_mut().enumerate() {
            let Some(end) = &client.end else {
                continue;
            };
            loop {
                match shm::link::receive(end.as_fd(), &mut self.datagram) {
                    Ok(true) => {
                        let who = child::answerer(self.datagram.bytes());
                        note!("client {index} hears child {who}");
                        client.answers.push(who);
                    }
                    Ok(false) => break,
                    Err(LinkError::Closed) => {
                        client.is_closed = true;
                        break;
                    }
                    Err(error) => panic!("a client's socket: {error}"),
                }
            }
            assert!(
                client.answers.len() < 2,
                "client {index} is answered by the children {:?}",
                client.answers
            );
        }
    }

    /// Nobody dies any more, and everybody has as many turns as they need.
    fn settle(&mut self) {
        let mut timers = 0;
        loop {
            let mut quiet = 0;
            let mut before = String::new();
            while quiet < QUIET_ROUNDS {
                self.supervisor_turn();
                self.broker_turn(false);
                let children: Vec<u64> = self.children.keys().copied().collect();
                for child in children {
                    self.child_turn(child, false);
                }
                self.listen();
                let after = self.summary();
                quiet = if after == before { quiet + 1 } else { 0 };
                before = after;
            }
            let due = self.broker.as_ref().and_then(Process::next_tick);
            match due {
                Some(due) if timers < TIMERS_AT_MOST => {
                    timers += 1;
                    self.now = self.now.max(due);
                    note!("{:?} later", self.now);
                }
                _ => return,
            }
        }
    }

    /// What is worth another round when it changes.
    fn summary(&self) -> String {
        let children = self.children.values().map(Child::summary);
        let answers = self.clients.iter().map(|client| client.answers.len());
        format!(
            "{:?} {:?} {}",
            children.collect::<Vec<_>>(),
            answers.collect::<Vec<_>>(),
            self.control.is_some()
        )
    }

    fn check_end(&mut self) {
        let mut answered = 0;
        for (index, client) in self.clients.iter().enumerate() {
            let Some(_) = &client.end else {
                continue;
            };
            let holders: Vec<&Child> = self
                .children
                .values()
                .filter(|child| child.serves(index))
                .collect();
            // A child that hangs is ended when it is in somebody's way, and not before.
            if holders.iter().any(|child| child.hangs) {
                continue;
            }
            let holders: Vec<u64> = holders.iter().map(|child| child.id).collect();
            assert!(
                client.is_closed || !client.answers.is_empty(),
                "client {index} waits for ever"
            );
            assert!(holders.len() < 2, "client {index} is served by {holders:?}");
            assert_eq!(
                client.is_closed,
                holders.is_empty(),
                "client {index}: nobody serves it and its connection is open, or the reverse"
            );
            answered += client.answers.len() as u64;
        }
        self.stage.tally.add("answered", answered);
        let mut owners = BTreeSet::new();
        for child in self.children.values().filter(|child| child.owns()) {
            assert!(
                owners.insert(child.guid),
                "two processes serve ClientGuid {}",
                child.guid
            );
            child.check_count();
        }
        assert!(
            self.children.values().all(|child| !child.is_waiting()),
            "a claim is never answered"
        );
    }
}

const KIND: ConnectionKind = ConnectionKind::Tcp;
