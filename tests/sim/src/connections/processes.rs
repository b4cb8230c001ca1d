//! The processes around smbdirectd: the supervisor, which has a child forked for each relay, and the real
//! broker, which says whose it is. `handoff` has their deaths.

use std::os::fd::OwnedFd;
use std::time::Duration;

use proto::control::ChildId;
use proto::control::broker::{BrokerToSupervisor, SupervisorToBroker};
use shm::link::Datagram;
use smbd::broker::process::Process;
use smbd::messaging::ControlLink;

use super::World;
use super::child::Child;
use crate::note;
use crate::run::Sabotage;

/// The broker, and the supervisor's end of its link.
pub(super) struct Broker {
    process: Process,
    control: ControlLink<BrokerToSupervisor, SupervisorToBroker>,
    datagram: Datagram,
    children: u64,
}

impl Broker {
    pub(super) fn start() -> Broker {
        let (here, there) = shm::link::pair().expect("a link");
        let mut control = ControlLink::new(here);
        control.send(&SupervisorToBroker::Start);
        let _ = control.flush();
        Broker {
            process: Process::new(there).expect("a broker"),
            control,
            datagram: Datagram::new(),
            children: 0,
        }
    }
}

impl World<'_> {
    /// As the supervisor does it with what smbdirectd announces.
    pub(super) fn fork(&mut self, group: u8, relay: OwnedFd) {
        let (brokers, childs) = shm::link::pair().expect("a link");
        let broker = &mut self.broker;
        broker.children += 1;
        let number = broker.children;
        let message = SupervisorToBroker::Child {
            child: ChildId(number),
            resumes: false,
        };
        broker.control.send_with(&message, vec![brokers]);
        let _ = broker.control.flush();
        note!("child {number} is forked");
        let has_tcp = self.stage.chance.once_in(2);
        let child = Child::new(number, group, has_tcp, childs, relay, &self.files);
        self.children.insert(number, child);
    }

    pub(super) fn broker_turn(&mut self) {
        let now = Duration::from_micros(self.now.as_micros());
        let broker = &mut self.broker;
        broker.process.wait(Some(Duration::ZERO)).expect("an epoll");
        assert!(broker.process.take(now).expect("what was said"));
        broker.process.act(now).expect("the broker's sockets");
        let mut orphans = Vec::new();
        let outcome = broker
            .control
            .receive(&mut broker.datagram, |message, descriptors| match message {
                BrokerToSupervisor::Orphan { .. } => orphans.extend(descriptors),
                BrokerToSupervisor::End { child, reason } => {
                    panic!("the broker ends child {}: {reason}", child.0)
                }
                BrokerToSupervisor::Problem { text } => note!("the broker says: {text}"),
                BrokerToSupervisor::Status { .. } => {}
            });
        assert!(outcome.is_ok(), "the broker is gone");
        // Of clients whose children died in the end: their connections end too.
        drop(orphans);
    }

    pub(super) fn child_turn(&mut self, number: u64) {
        if self.is_stalled(number) {
            return;
        }
        if let Some(child) = self.children.get_mut(&number)
            && !child.turn(self.stage)
        {
            note!("child {number} ends");
            self.children.remove(&number);
        }
    }

    /// Which child serves a client.
    pub(super) fn child_of(&self, client: u32) -> Option<u64> {
        let mut children = self.children.values();
        let child = children.find(|child| child.serves(client));
        child.map(|child| child.number)
    }

    pub(super) fn is_stalled(&self, child: u64) -> bool {
        let all = self.stage.sabotage == Some(Sabotage::SharedStall);
        self.stalled
            .is_some_and(|(stalled, _)| stalled == child || all)
    }
}
