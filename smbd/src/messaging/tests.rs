use std::os::fd::AsFd;

use futures::executor::LocalPool;
use futures::future::LocalBoxFuture;
use futures::task::LocalSpawnExt;
use futures::{FutureExt, future};
use proto::control::broker::*;
use proto::control::{ChildId, ConnectionKind};
use shm::link::{Datagram, pair};

use super::*;

/// The broker's end of a child's link, played by the test.
struct Peer(ControlLink<ToBroker, FromBroker>);

impl Peer {
    fn received(&mut self) -> Vec<ToBroker> {
        let mut messages = Vec::new();
        self.0
            .receive(&mut Datagram::new(), |message, _| messages.push(message))
            .unwrap();
        messages
    }

    fn say(&mut self, message: FromBroker) {
        self.0.send(&message);
        self.0.flush().unwrap();
    }
}

fn linked() -> (Broker, Peer) {
    let (left, right) = pair().unwrap();
    (Broker::new(left), Peer(ControlLink::new(right)))
}

fn reconnected(broker: &Broker) -> Peer {
    let (left, right) = pair().unwrap();
    broker.reconnect(left);
    broker.flush();
    Peer(ControlLink::new(right))
}

fn request() -> ClaimRequest {
    ClaimRequest {
        client_guid: [0; 16],
        dialect: 0x0311,
        kind: ConnectionKind::Tcp,
        preface: vec![0xFE, b'S', b'M', b'B'],
    }
}

const FILE: FileKey = FileKey {
    device: 1,
    inode: 2,
};
const MODE: OpenMode = OpenMode {
    access: 1,
    share: 7,
    delete_on_close: false,
    oplock: Oplock::None,
};

/// Opens [`FILE`] with the broker's consent.
fn opened(broker: &Broker, peer: &mut Peer) -> OpenId {
    let future = broker.open(FILE, MODE);
    broker.flush();
    let open = match peer.received()[..] {
        [ToBroker::Open { open, .. }] => open,
        ref other => panic!("{other:?}"),
    };
    peer.say(FromBroker::Granted {
        open,
        other_opens: false,
        oplock: Oplock::None,
    });
    assert!(broker.on_readable().is_empty());
    assert_eq!(future.now_or_never().unwrap().unwrap().open, open);
    open
}

#[test]
fn an_owner_gets_its_connection_back() {
    let (broker, mut peer) = linked();
    let (connection, client) = pair().unwrap();
    let claim = broker.claim(request(), connection);
    broker.flush();
    assert!(matches!(
        peer.received()[..],
        [ToBroker::Claim {
            claim: ClaimId(1),
            ..
        }]
    ));
    peer.say(FromBroker::Claimed { claim: ClaimId(1) });
    broker.on_readable();
    let Some(Claim::Owner(connection)) = claim.now_or_never() else {
        panic!("not the owner");
    };
    shm::link::send(connection.as_fd(), b"reply", &[]).unwrap();
    assert!(shm::link::receive(client.as_fd(), &mut Datagram::new()).unwrap());
}

#[test]
fn a_restarted_broker_is_told_everything_and_asked_again() {
    let (broker, mut peer) = linked();
    let (connection, _client) = pair().unwrap();
    let first = broker.claim(request(), connection);
    broker.flush();
    peer.received();
    peer.say(FromBroker::Claimed { claim: ClaimId(1) });
    broker.on_readable();
    assert!(matches!(first.now_or_never(), Some(Claim::Owner(_))));
    let kept = opened(&broker, &mut peer);
    let closing_open = opened(&broker, &mut peer);
    let closing = broker.close(closing_open);
    let opening = broker.open(FILE, MODE);
    broker.flush();
    peer.say(FromBroker::DeletePending {
        open: kept,
        on: true,
    });
    broker.on_readable();
    assert!(broker.is_delete_pending(kept));
    drop(peer);
    assert!(broker.on_readable().is_empty());
    assert!(broker.with_descriptor(|_| ()).is_none());

    let mut peer = reconnected(&broker);
    let state = |open, delete_pending| ToBroker::OpenState {
        open,
        file: FILE,
        mode: MODE,
        delete_pending,
    };
    assert_eq!(
        peer.received(),
        [
            ToBroker::OwnerState {
                client_guid: [0; 16],
                dialect: 0x0311,
                channels: 1
            },
            state(kept, true),
            state(closing_open, false),
            ToBroker::Restored,
            ToBroker::Close { open: closing_open },
            ToBroker::Open {
                open: OpenId(3),
                file: FILE,
                mode: MODE
            },
        ]
    );
    peer.say(FromBroker::Closed {
        open: closing_open,
        delete: false,
    });
    peer.say(FromBroker::Denied {
        open: OpenId(3),
        reason: ShareDenied::DeletePending,
    });
    // A datagram each time.
    broker.on_readable();
    broker.on_readable();
    assert!(matches!(closing.now_or_never(), Some(Closing::Done)));
    assert_eq!(
        opening.now_or_never(),
        Some(Err(ShareDenied::DeletePending))
    );
}

#[test]
fn a_pass_repeated_by_a_restarted_broker_is_taken_once() {
    let (broker, mut peer) = linked();
    let claim = ClaimKey {
        child: ChildId(9),
        claim: ClaimId(1),
    };
    let pass = FromBroker::Pass {
        claim,
        kind: ConnectionKind::Tcp,
        dialect: 0x0311,
        preface: vec![1, 2, 3],
    };
    let accepted = ToBroker::PassAnswer {
        claim,
        answer: PassAnswer::Accepted,
    };
    let (connection, _client) = pair().unwrap();
    peer.0
        .send_with(&pass, vec![connection.try_clone().unwrap()]);
    peer.0.flush().unwrap();
    let passed = broker.on_readable();
    assert_eq!(passed.len(), 1);
    broker.answer(passed[0].claim, PassAnswer::Accepted);
    broker.flush();
    assert_eq!(peer.received(), std::slice::from_ref(&accepted));

    let mut peer = reconnected(&broker);
    peer.received();
    peer.0.send_with(&pass, vec![connection]);
    peer.0.flush().unwrap();
    assert!(broker.on_readable().is_empty(), "served twice");
    broker.flush();
    assert_eq!(peer.received(), [accepted]);
}

#[test]
fn a_claim_under_way_is_sent_to_the_next_broker_with_its_connection() {
    let (broker, peer) = linked();
    let (connection, _client) = pair().unwrap();
    let claim = broker.claim(request(), connection);
    broker.flush();
    drop(peer);
    broker.on_readable();
    let mut peer = reconnected(&broker);
    assert!(matches!(
        peer.received()[..],
        [ToBroker::Restored, ToBroker::Claim { .. }]
    ));
    peer.say(FromBroker::HandedOver { claim: ClaimId(1) });
    broker.on_readable();
    assert!(matches!(claim.now_or_never(), Some(Claim::HandedOver)));
}

#[test]
fn a_connection_somebody_died_speaking_on_is_nobodys() {
    for answer in [
        FromBroker::Claimed { claim: ClaimId(1) },
        FromBroker::Refused {
            claim: ClaimId(1),
            reason: Refusal::TooManyConnections,
        },
    ] {
        let (broker, mut peer) = linked();
        let (connection, client) = pair().unwrap();
        let dead_owners = connection.try_clone().unwrap();
        let claim = broker.claim(request(), connection);
        broker.flush();
        peer.received();
        assert!(first_word::take(&dead_owners));
        drop(dead_owners);
        peer.say(answer);
        broker.on_readable();
        assert!(matches!(claim.now_or_never(), Some(Claim::HandedOver)));
        assert_eq!(broker.channels(), 0);
        let received = shm::link::receive(client.as_fd(), &mut Datagram::new());
        assert!(received.is_err(), "the client hears of its end");
    }
}

#[test]
fn a_duty_to_delete_ends_when_it_is_dropped() {
    let (broker, mut peer) = linked();
    let open = opened(&broker, &mut peer);
    let closing = broker.close(open);
    broker.flush();
    assert_eq!(peer.received(), [ToBroker::Close { open }]);
    peer.say(FromBroker::Closed { open, delete: true });
    broker.on_readable();
    let Some(Closing::Delete(duty)) = closing.now_or_never() else {
        panic!("nothing to delete");
    };
    broker.flush();
    assert_eq!(peer.received(), []);
    drop(duty);
    broker.flush();
    assert_eq!(peer.received(), [ToBroker::Deleted { open }]);
}

#[test]
fn an_open_nobody_waits_for_is_closed_again_and_its_deletion_ended() {
    let (broker, mut peer) = linked();
    drop(broker.open(FILE, MODE));
    let open = OpenId(1);
    broker.flush();
    peer.received();
    peer.say(FromBroker::Granted {
        open,
        other_opens: true,
        oplock: Oplock::None,
    });
    broker.on_readable();
    broker.flush();
    assert_eq!(peer.received(), [ToBroker::Close { open }]);
    peer.say(FromBroker::Closed { open, delete: true });
    broker.on_readable();
    broker.flush();
    assert_eq!(peer.received(), [ToBroker::Deleted { open }]);
}

#[test]
fn tasks_wake_when_their_answer_arrives() {
    let (broker, mut peer) = linked();
    let mut pool = LocalPool::new();
    let waiting: LocalBoxFuture<'static, _> = broker.open(FILE, MODE).boxed_local();
    let task = pool.spawner().spawn_local_with_handle(waiting).unwrap();
    pool.run_until_stalled();
    broker.flush();
    peer.received();
    peer.say(FromBroker::Granted {
        open: OpenId(1),
        other_opens: true,
        oplock: Oplock::None,
    });
    broker.on_readable();
    let granted = pool.run_until(future::ready(()).then(|()| task));
    assert!(granted.unwrap().other_opens);
}

#[test]
fn a_supervisor_that_is_gone_is_reported_once() {
    let (left, right) = pair().unwrap();
    let supervisor = Supervisor::new(left);
    drop(right);
    assert!(matches!(
        supervisor.on_readable()[..],
        [SupervisorEvent::Lost(ref error)] if error.is_closed()
    ));
    assert!(supervisor.on_readable().is_empty());
}

#[test]
fn an_attempt_without_its_turn_is_told_to_a_restarted_broker() {
    let (broker, mut peer) = linked();
    let key = LogonKey {
        user: [1; 16],
        network: [2; 16],
    };
    let delay = std::time::Duration::from_secs(2);
    let turn = broker.logon(key, delay);
    broker.flush();
    let asked = peer.received();
    drop(peer);
    broker.on_readable();
    let mut peer = reconnected(&broker);
    let again = peer.received();
    assert_eq!(again[..], [&[ToBroker::Restored], &asked[..]].concat());
    let attempt = AttemptId(1);
    let wait_ms = Some(1500);
    peer.say(FromBroker::LogonTurn { attempt, wait_ms });
    broker.on_readable();
    assert_eq!(
        turn.now_or_never(),
        Some(Some(std::time::Duration::from_millis(1500)))
    );
}
