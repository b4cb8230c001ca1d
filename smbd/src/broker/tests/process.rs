//! The broker's loop with real sockets: what arrives with the wrong number of descriptors.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use proto::control::broker::*;
use proto::control::{ChildId, ConnectionKind};
use shm::link::{Datagram, pair};

use crate::broker::process;
use crate::messaging::ControlLink;

type Supervisor = ControlLink<BrokerToSupervisor, SupervisorToBroker>;
type Child = ControlLink<FromBroker, ToBroker>;

fn claim(number: u64) -> ToBroker {
    ToBroker::Claim {
        claim: ClaimId(number),
        client_guid: [1; 16],
        dialect: 0x0311,
        kind: ConnectionKind::Tcp,
        preface: vec![0xFE; 300],
    }
}

/// The next message that is not about the log.
fn next<I, O>(link: &mut ControlLink<I, O>) -> I
where
    I: proto::control::ControlMessage,
    O: proto::control::ControlMessage,
{
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut messages = Vec::new();
        let outcome = link.receive(&mut Datagram::new(), |message, _| messages.push(message));
        if let Some(message) = messages.pop() {
            return message;
        }
        outcome.unwrap();
        assert!(Instant::now() < deadline, "no message");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_claim_with_the_wrong_number_of_descriptors_ends_its_sender_and_nobody_else() {
    let (here, brokers) = pair().unwrap();
    let broker = std::thread::spawn(move || process::run(brokers));
    let mut supervisor = Supervisor::new(here);
    let children = [1, 2, 3].map(|number| {
        let (childs, brokers) = pair().unwrap();
        let child = ChildId(number);
        let resumes = false;
        let message = SupervisorToBroker::Child { child, resumes };
        supervisor.send_with(&message, vec![brokers]);
        childs
    });
    supervisor.send(&SupervisorToBroker::Start);
    supervisor.flush().unwrap();

    let mut message = Vec::new();
    proto::control::encode(&claim(1), &mut message);
    let (connection, _client) = pair().unwrap();
    for (child, count) in [(1, 0), (2, 2)] {
        let duplicates = (0..count).map(|_| connection.try_clone().unwrap());
        let descriptors: Vec<OwnedFd> = duplicates.collect();
        let socket = children[child as usize - 1].as_fd();
        shm::link::send(socket, &message, &descriptors).unwrap();
        let ended = next(&mut supervisor);
        assert!(
            matches!(ended, BrokerToSupervisor::End { child: found, .. } if found == ChildId(child)),
            "{count} descriptors: {ended:?}"
        );
    }
    let [_, _, third] = children;
    let mut third = Child::new(third);
    third.send_with(&claim(7), vec![connection]);
    third.flush().unwrap();
    // The others claimed nothing.
    let expected = FromBroker::Claimed { claim: ClaimId(7) };
    assert_eq!(next(&mut third), expected);
    drop(supervisor);
    broker.join().unwrap().unwrap();
}
