//! The machine with numbers for connections: who gets which, and who may open what.

use std::time::Duration;

use proto::control::broker::*;
use proto::control::{ChildId, ConnectionKind};
use proto::smb2::access::{AccessMask, ShareAccess};

use super::clients::{MAX_CONNECTIONS, SILENT, SLOW};
use super::machine::{Action, Machine, RESTORE_LIMIT};

mod files;
mod process;
mod restart;
mod sessions;

const GUID: [u8; 16] = [0x11; 16];
const NOW: Duration = Duration::from_secs(100);
const FILE: FileKey = FileKey {
    device: 8,
    inode: 42,
};

/// A message to a child, or to the supervisor (0), and the connection that goes with it.
type Sent<M> = (u64, M, Option<u32>);

struct Broker {
    machine: Machine<u32>,
    to_supervisor: Vec<(BrokerToSupervisor, Option<u32>)>,
}

impl Broker {
    fn with_children(count: u64) -> Broker {
        let mut machine = Machine::default();
        machine.start(NOW);
        (1..=count).for_each(|child| machine.child(ChildId(child), false));
        Broker {
            machine,
            to_supervisor: Vec::new(),
        }
    }

    /// A restarted broker whose children were there before.
    fn restarted(count: u64) -> Broker {
        let mut machine = Machine::default();
        (1..=count).for_each(|child| machine.child(ChildId(child), true));
        machine.start(NOW);
        Broker {
            machine,
            to_supervisor: Vec::new(),
        }
    }

    fn sent(&mut self) -> Vec<Sent<FromBroker>> {
        let mut sent = Vec::new();
        for action in self.machine.actions() {
            match action {
                Action::ToChild {
                    child,
                    message,
                    connection,
                } => sent.push((child.0, message, connection.map(|connection| *connection))),
                Action::ToSupervisor {
                    message,
                    connection,
                } => self
                    .to_supervisor
                    .push((message, connection.map(|connection| *connection))),
            }
        }
        sent
    }

    fn say(&mut self, child: u64, message: ToBroker) -> Vec<Sent<FromBroker>> {
        self.say_with(child, message, None)
    }

    fn say_with(
        &mut self,
        child: u64,
        message: ToBroker,
        connection: Option<u32>,
    ) -> Vec<Sent<FromBroker>> {
        self.machine
            .message(ChildId(child), message, connection, NOW);
        self.sent()
    }

    fn claim(&mut self, child: u64, client_guid: [u8; 16], dialect: u16) -> Vec<Sent<FromBroker>> {
        let message = ToBroker::Claim {
            claim: ClaimId(child),
            client_guid,
            dialect,
            kind: ConnectionKind::Tcp,
            preface: vec![child as u8],
        };
        let connection = Some(child as u32 * 10);
        self.machine
            .message(ChildId(child), message, connection, NOW);
        self.sent()
    }

    fn answer(&mut self, owner: u64, child: u64, answer: PassAnswer) -> Vec<Sent<FromBroker>> {
        let claim = key(child);
        self.say(owner, ToBroker::PassAnswer { claim, answer })
    }

    fn dies(&mut self, child: u64) -> Vec<Sent<FromBroker>> {
        self.machine.gone(ChildId(child), NOW);
        self.sent()
    }

    fn open(&mut self, child: u64, open: u64, mode: OpenMode) -> FromBroker {
        let open = OpenId(open);
        let file = FILE;
        let mut sent = self.say(child, ToBroker::Open { open, file, mode });
        assert_eq!(sent.len(), 1);
        sent.remove(0).1
    }

    /// Clients, passes, opens, files.
    fn counts(&self) -> [u64; 4] {
        let totals = self.machine.totals();
        [totals.clients, totals.passes, totals.opens, totals.files]
    }

    fn ended(&mut self) -> Vec<u64> {
        self.sent();
        let ended = self.to_supervisor.iter().filter_map(|(message, _)| {
            let BrokerToSupervisor::End { child, .. } = message else {
                return None;
            };
            Some(child.0)
        });
        ended.collect()
    }
}

fn key(child: u64) -> ClaimKey {
    ClaimKey {
        child: ChildId(child),
        claim: ClaimId(child),
    }
}

fn claimed(child: u64) -> Sent<FromBroker> {
    let claim = ClaimId(child);
    (child, FromBroker::Claimed { claim }, None)
}

fn handed_over(child: u64) -> Sent<FromBroker> {
    let claim = ClaimId(child);
    (child, FromBroker::HandedOver { claim }, None)
}

/// The connection of `child`, passed to `owner`.
fn passed(owner: u64, child: u64, dialect: u16) -> Sent<FromBroker> {
    let message = FromBroker::Pass {
        claim: key(child),
        kind: ConnectionKind::Tcp,
        dialect,
        preface: vec![child as u8],
    };
    (owner, message, Some(child as u32 * 10))
}

#[test]
fn the_first_claim_makes_an_owner() {
    let mut broker = Broker::with_children(2);
    assert_eq!(broker.claim(1, GUID, 0x0311), [claimed(1)]);
    assert_eq!(broker.claim(2, [0x22; 16], 0x0311), [claimed(2)]);
    assert_eq!(broker.counts(), [2, 0, 0, 0]);
}

#[test]
fn a_second_connection_goes_to_the_owner_and_its_child_learns_it_once_it_is_taken() {
    let mut broker = Broker::with_children(2);
    broker.claim(1, GUID, 0x0311);
    assert_eq!(broker.claim(2, GUID, 0x0311), [passed(1, 2, 0x0311)]);
    assert_eq!(broker.answer(1, 2, PassAnswer::Accepted), [handed_over(2)]);
    assert!(broker.dies(2).is_empty());
    assert_eq!(broker.counts(), [1, 0, 0, 0]);
}

#[test]
fn guids_that_start_with_zero_bytes_are_told_apart() {
    let mut broker = Broker::with_children(3);
    let mut other = [0; 16];
    other[15] = 1;
    assert_eq!(broker.claim(1, [0; 16], 0x0311), [claimed(1)]);
    assert_eq!(broker.claim(2, other, 0x0311), [claimed(2)]);
    assert_eq!(broker.claim(3, [0; 16], 0x0311), [passed(1, 3, 0x0311)]);
}

#[test]
fn another_dialect_is_the_owners_business() {
    let mut broker = Broker::with_children(2);
    broker.claim(1, GUID, 0x0311);
    assert_eq!(broker.claim(2, GUID, 0x0210), [passed(1, 2, 0x0210)]);
}

#[test]
fn an_owner_that_died_before_leaves_its_client_to_the_next() {
    let mut broker = Broker::with_children(2);
    broker.claim(1, GUID, 0x0311);
    assert!(broker.dies(1).is_empty());
    assert_eq!(broker.claim(2, GUID, 0x0311), [claimed(2)]);
}

#[test]
fn an_owner_that_dies_meanwhile_makes_the_oldest_claimant_the_owner_of_all() {
    let mut broker = Broker::with_children(4);
    for child in 1..=4 {
        broker.claim(child, GUID, 0x0311);
    }
    assert_eq!(broker.answer(1, 2, PassAnswer::Accepted), [handed_over(2)]);
    assert_eq!(
        broker.dies(1),
        [claimed(3), passed(3, 4, 0x0311)],
        "the accepted connection died with its owner, the others go on"
    );
    assert_eq!(broker.answer(3, 4, PassAnswer::Accepted), [handed_over(4)]);
}

#[test]
fn owner_and_claimant_dead_a_new_child_is_asked_for() {
    let mut broker = Broker::with_children(2);
    broker.claim(1, GUID, 0x0311);
    broker.claim(2, GUID, 0x0311);
    assert!(broker.dies(2).is_empty());
    assert!(broker.dies(1).is_empty());
    let orphan = BrokerToSupervisor::Orphan {
        kind: ConnectionKind::Tcp,
        preface: vec![2],
    };
    assert_eq!(broker.to_supervisor, [(orphan, Some(20))]);
    assert_eq!(broker.counts(), [0; 4]);
}

#[test]
fn a_claimant_that_died_does_not_stop_the_owner_from_taking_its_connection() {
    let mut broker = Broker::with_children(2);
    broker.claim(1, GUID, 0x0311);
    broker.claim(2, GUID, 0x0311);
    broker.dies(2);
    assert!(broker.answer(1, 2, PassAnswer::Accepted).is_empty());
    assert_eq!(broker.ended(), [] as [u64; 0]);
    assert_eq!(broker.counts(), [1, 0, 0, 0]);
}

#[test]
fn an_owner_that_takes_nothing_is_reported_and_then_ended() {
    let mut broker = Broker::with_children(2);
    broker.claim(1, GUID, 0x0311);
    broker.claim(2, GUID, 0x0311);
    assert_eq!(broker.machine.next_tick(), Some(NOW + SLOW));
    broker.machine.tick(NOW + SLOW);
    assert_eq!(broker.ended(), [] as [u64; 0]);
    assert_eq!(broker.to_supervisor.len(), 1, "a line for the log");
    assert_eq!(broker.machine.next_tick(), Some(NOW + SILENT));
    broker.machine.tick(NOW + SILENT);
    broker.machine.tick(NOW + SILENT * 2);
    assert_eq!(broker.ended(), [1], "once");
    assert_eq!(broker.machine.next_tick(), None);
    assert_eq!(broker.dies(1), [claimed(2)]);
}

#[test]
fn a_refusal_of_the_owner_reaches_the_claimant() {
    let mut broker = Broker::with_children(2);
    broker.claim(1, GUID, 0x0311);
    broker.claim(2, GUID, 0x0311);
    let reason = Refusal::TooManyUnauthenticated;
    let refused = FromBroker::Refused {
        claim: ClaimId(2),
        reason,
    };
    assert_eq!(
        broker.answer(1, 2, PassAnswer::Refused(reason)),
        [(2, refused, None)]
    );
}

#[test]
fn a_client_that_comes_back_while_its_owner_ends_is_served_by_the_next() {
    let mut broker = Broker::with_children(3);
    broker.claim(1, GUID, 0x0311);
    broker.claim(2, GUID, 0x0311);
    let ending = PassAnswer::Refused(Refusal::Ending);
    assert!(broker.answer(1, 2, ending).is_empty());
    assert!(broker.claim(3, GUID, 0x0311).is_empty(), "not even asked");
    assert_eq!(broker.dies(1), [claimed(2), passed(2, 3, 0x0311)]);
}

#[test]
fn a_client_with_all_the_connections_it_may_have_is_refused_until_one_ends() {
    let mut broker = Broker::with_children(u64::from(MAX_CONNECTIONS) + 2);
    let last = u64::from(MAX_CONNECTIONS) + 1;
    broker.claim(1, GUID, 0x0311);
    for child in 2..last {
        broker.claim(child, GUID, 0x0311);
        if child % 2 == 0 {
            broker.answer(1, child, PassAnswer::Accepted);
        }
    }
    let refused = FromBroker::Refused {
        claim: ClaimId(last),
        reason: Refusal::TooManyConnections,
    };
    assert_eq!(broker.claim(last, GUID, 0x0311), [(last, refused, None)]);
    broker.say(1, ToBroker::ChannelClosed);
    assert_eq!(
        broker.claim(last + 1, GUID, 0x0311),
        [passed(1, last + 1, 0x0311)]
    );
}

#[test]
fn a_child_that_breaks_the_rules_is_ended_and_holds_nothing() {
    let offences = [
        ToBroker::ChannelClosed,
        ToBroker::Restored,
        ToBroker::Close { open: OpenId(5) },
        ToBroker::Deleted { open: OpenId(1) },
        ToBroker::PassAnswer {
            claim: key(1),
            answer: PassAnswer::Accepted,
        },
    ];
    for offence in offences {
        let mut broker = Broker::with_children(2);
        broker.open(2, 1, mode(AccessMask::READ_DATA, ShareAccess::all()));
        broker.say(2, offence);
        assert_eq!(broker.ended(), [2]);
        assert_eq!(broker.counts(), [0; 4]);
        broker.claim(2, GUID, 0x0311);
        assert_eq!(broker.counts(), [0; 4], "it is not heard any more");
    }
}

#[test]
fn one_child_serves_one_client() {
    let mut broker = Broker::with_children(1);
    broker.claim(1, GUID, 0x0311);
    broker.claim(1, [0x22; 16], 0x0311);
    assert_eq!(broker.ended(), [1]);
}

fn mode(access: AccessMask, share: ShareAccess) -> OpenMode {
    OpenMode {
        access: access.bits(),
        share: share.bits(),
        delete_on_close: false,
        oplock: Oplock::None,
    }
}

fn denied(open: u64, reason: ShareDenied) -> FromBroker {
    let open = OpenId(open);
    FromBroker::Denied { open, reason }
}
