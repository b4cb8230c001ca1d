//! The real gateway on the simulated fabric, with a child and clients that behave and misbehave.
//! Runs natively and without root; each test ends with nothing held.

#[path = "fabric/limits.rs"]
mod limits;
#[path = "fabric/play.rs"]
mod play;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fabric::config::Limits;
use fabric::rdma::{Fabric, Transport};
use play::{Play, descriptors, pattern, unprivileged_settings};
use proto::relay::{
    Body, CloseReason, MAX_MESSAGES, OperationId, Outcome, PayloadWrite, ToGateway,
};
use proto::smb2::BufferDescriptorV1;
use tests::client::simulated::{Behaviour, SmbDirect};
use tests::client::{Access, ClientError, RdmaTransport, Transport as _};
use tests::gateway::{Child, Supervisor};
use tests::lab::{self, LabError};

/// Sends messages of many sizes to the child and gets each back.
fn echo_messages(play: &mut Play, client: usize, child: usize, sizes: &[usize]) {
    for (number, size) in sizes.iter().enumerate() {
        let sent = pattern(*size, number as u32 + 1);
        play.clients[client].queue(&sent);
        play.until("a message to the child", |play| {
            play.children[child].waiting() > 0
        });
        assert!(
            play.children[child].take_message().as_ref() == Some(&sent),
            "{size} bytes in"
        );
        let operation = number as u64;
        if *size <= 65_536 {
            play.children[child].reply(operation, Vec::new(), &sent);
        } else {
            let range = play.children[child].range(4096, *size as u32);
            play.children[child].fill(range, &sent);
            play.children[child].send(&ToGateway::Reply {
                operation: OperationId(operation),
                invalidate: None,
                writes: Vec::new(),
                body: Body::InRegion(range),
            });
        }
        let mut back = None;
        play.until("the reply", |play| {
            back = back.take().or_else(|| play.clients[client].take_message());
            back.is_some()
        });
        assert!(back == Some(sent), "{size} bytes out");
        play.until("sent", |play| {
            play.children[child].sent.get(&operation) == Some(&Outcome::Done)
        });
    }
}

const SIZES: [usize; 10] = [
    1,
    1339,
    1340,
    1341,
    4096,
    4097,
    65_536,
    65_537,
    300_000,
    1 << 20,
];

#[test]
fn messages_of_every_size_travel_both_ways() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::default());
    echo_messages(&mut play, client, child, &SIZES);
    play.end(before);
}

#[test]
fn a_client_that_grants_one_credit_gets_long_replies() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::granting(1));
    echo_messages(&mut play, client, child, &[1, 4096, 100_000]);
    play.end(before);
}

#[test]
fn a_message_in_fragments_of_one_byte_arrives_whole() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::default());
    let sent = pattern(128 << 10, 9);
    play.clients[client].queue_in_fragments(&sent, 1);
    play.until("the message", |play| play.children[child].waiting() > 0);
    assert!(play.children[child].take_message() == Some(sent));
    assert!(play.clients[client].counters().fragments_sent >= 128 << 10);
    play.end(before);
}

#[test]
fn payload_moves_both_ways_through_several_descriptors() {
    move_payload(Transport::InfiniBand);
}

#[test]
fn payload_moves_over_iwarp_through_sinks_that_may_be_written_to() {
    move_payload(Transport::Iwarp);
}

fn move_payload(transport: Transport) {
    let mut play = Play::begin(|fabric| {
        for device in &mut fabric.devices {
            device.transport = transport;
        }
    });
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::default());
    let cases = [
        (1, 1),
        (4096, 1),
        (100_001, 7),
        (1 << 20, 256),
        (8 << 20, 3),
    ];
    for (operation, (length, pieces)) in (1..).zip(cases) {
        let bytes = pattern(length, operation);
        let operation = u64::from(operation);
        let memory = play.expose(client, &bytes);
        let list = descriptors(memory.descriptor, pieces);
        // The client's WRITE: RDMA READs into the region.
        let range = play.children[child].range(0, length as u32);
        play.children[child].read(operation, range, &list);
        play.until("payload_ready", |play| {
            play.children[child].ready.get(&operation) == Some(&Outcome::Done)
        });
        assert!(
            play.children[child].contents(range) == bytes,
            "{length} read"
        );
        // The client's READ: RDMA WRITEs from the region, and the message behind them.
        let other = pattern(length, 1000 + pieces);
        play.children[child].fill(range, &other);
        let write = PayloadWrite {
            source: range,
            descriptors: &list,
        };
        play.children[child].reply(operation, vec![write], b"done");
        play.until("the reply", |play| {
            play.clients[client].take_message().as_deref() == Some(b"done")
        });
        let there = play.clients[client].contents(memory).unwrap();
        assert!(there == other, "{length} written");
        assert!(!play.clients[client].withdraw(memory).unwrap());
    }
    let moved: u64 = cases.iter().map(|(length, _)| *length as u64).sum();
    let totals = play.totals();
    assert_eq!(totals.rdma_read_bytes, moved);
    assert_eq!(totals.rdma_write_bytes, moved);
    play.end(before);
}

#[test]
fn a_reply_invalidates_the_token_it_names() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::default());
    let memory = play.expose(client, &pattern(4096, 1));
    play.children[child].send(&ToGateway::Reply {
        operation: OperationId(1),
        invalidate: Some(memory.descriptor.token),
        writes: Vec::new(),
        body: Body::Inline(b"gone"),
    });
    play.until("the reply", |play| {
        play.clients[client].take_message().is_some()
    });
    assert!(play.clients[client].withdraw(memory).unwrap());
    play.end(before);
}

#[test]
fn a_child_that_releases_nothing_stops_its_own_client_only() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    let (stalled, child) = play.connect_attached(Behaviour::default());
    let (other, other_child) = play.connect_attached(Behaviour::default());
    play.children[child].releases = false;
    let (message, count) = (pattern(3000, 5), MAX_MESSAGES as usize + 200);
    for _ in 0..count {
        play.clients[stalled].queue(&message);
    }
    let mut last = (0, Instant::now());
    play.until("the client to be stopped", |play| {
        let waiting = play.children[child].waiting();
        if waiting != last.0 {
            last = (waiting, Instant::now());
        }
        waiting > 50 && last.1.elapsed() > Duration::from_millis(200)
    });
    assert!(play.children[child].waiting() <= MAX_MESSAGES as usize);
    assert!(play.clients[stalled].queued() > 0, "nothing stops it");
    echo_messages(&mut play, other, other_child, &[1, 100_000]);
    play.children[child].releases = true;
    play.children[child].release();
    play.until("everything", |play| play.children[child].waiting() == count);
    while let Some(arrived) = play.children[child].take_message() {
        assert!(arrived == message);
    }
    play.end(before);
}

#[test]
fn a_client_lost_with_its_payload_in_flight_is_closed_then_drained() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::default());
    let memory = play.expose(client, &pattern(1 << 20, 1));
    let list = descriptors(memory.descriptor, 4);
    let range = play.children[child].range(0, 1 << 20);
    // Nobody drives the client from here on: its device serves nothing.
    let lost = play.clients.remove(client);
    play.children[child].read(1, range, &list);
    let write = PayloadWrite {
        source: range,
        descriptors: &list,
    };
    play.children[child].reply(2, vec![write], b"never arrives");
    play.totals();
    assert!(play.children[child].ready.is_empty(), "it is in flight");
    lost.vanish();
    // That `drained` is the last record is asserted by the child.
    play.until("closed and drained", |play| {
        let child = &play.children[child];
        child.closed.is_some() && child.drained && child.ended
    });
    let ended = &play.children[child];
    assert_eq!(ended.ready.get(&1), Some(&Outcome::ConnectionLost));
    assert_eq!(ended.sent.get(&2), Some(&Outcome::ConnectionLost));
    play.end(before);
}

#[test]
fn a_device_that_keeps_its_requests_loses_the_queue_pair_before_drained_is_said() {
    let mut play = Play::begin(|fabric| fabric.keeps_requests = true);
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::default());
    let memory = play.expose(client, &pattern(1 << 20, 1));
    let list = descriptors(memory.descriptor, 4);
    let range = play.children[child].range(0, 1 << 20);
    let lost = play.clients.remove(client);
    play.children[child].read(1, range, &list);
    play.totals();
    lost.vanish();
    play.until("drained", |play| play.children[child].drained);
    // From here on the child uses that memory for others.
    assert_eq!(play.totals().queue_pairs, before.queue_pairs);
    play.end(before);
}

#[test]
fn a_client_that_connects_and_says_nothing_is_let_go() {
    let mut limits = Limits::new(unprivileged_settings());
    limits.first_message = Duration::from_millis(300);
    let mut play = Play::begin_with(limits, |_| {});
    let before = play.totals();
    let client = play.connect(Behaviour::default());
    play.until("credits", |play| play.clients[client].credits().held > 0);
    // It answers keepalives all the while.
    play.until("its end", |play| play.clients[client].over().is_some());
    assert!(play.children.is_empty());
    play.end(before);
}

#[test]
fn a_child_that_dies_takes_its_connection_along_and_nothing_else() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    let (survivor, survivor_child) = play.connect_attached(Behaviour::default());
    let held = play.totals();
    let (client, child) = play.connect_attached(Behaviour::default());
    let memory = play.expose(client, &pattern(1 << 20, 1));
    let range = play.children[child].range(0, 1 << 20);
    play.children[child].read(1, range, &descriptors(memory.descriptor, 2));
    play.children[child].die();
    play.until("its client to notice", |play| {
        play.clients[client].over().is_some()
    });
    play.clients.remove(client);
    let deadline = Instant::now() + Duration::from_secs(10);
    while play.totals().connections > held.connections {
        assert!(Instant::now() < deadline, "the connection stays");
    }
    let now = play.totals();
    assert_eq!(now.queue_pairs, held.queue_pairs);
    assert_eq!(now.pinned_bytes, held.pinned_bytes);
    echo_messages(&mut play, survivor, survivor_child, &[1, 70_000]);
    play.end(before);
}

#[test]
fn a_bad_descriptor_ends_its_connection_and_no_byte_moves() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    type Spoil = fn(BufferDescriptorV1) -> BufferDescriptorV1;
    let spoilt: [(&str, Spoil); 4] = [
        ("a token nobody gave", |good| BufferDescriptorV1 {
            token: good.token ^ 0x5a5a_0000,
            ..good
        }),
        ("an address before the memory", |good| BufferDescriptorV1 {
            offset: good.offset - 1,
            ..good
        }),
        ("an address that wraps", |good| BufferDescriptorV1 {
            offset: u64::MAX,
            ..good
        }),
        ("more bytes than there are", |good| BufferDescriptorV1 {
            length: good.length + 1,
            ..good
        }),
    ];
    for (what, spoil) in spoilt {
        let (client, child) = play.connect_attached(Behaviour::default());
        let memory = play.expose(client, &pattern(4096, 1));
        let bad = spoil(memory.descriptor);
        let range = play.children[child].range(0, bad.length);
        play.children[child].read(1, range, &descriptors(bad, 1));
        play.until(what, |play| play.children[child].drained);
        let ended = &play.children[child];
        assert_eq!(ended.closed, Some(CloseReason::PeerViolation), "{what}");
        assert_eq!(ended.ready.get(&1), Some(&Outcome::ConnectionLost));
        assert!(ended.contents(range).iter().all(|byte| *byte == 0));
    }
    // Memory the client took back while the request was on its way.
    let (client, child) = play.connect_attached(Behaviour::default());
    let memory = play.expose(client, &pattern(4096, 1));
    play.clients[client].withdraw(memory).unwrap();
    let range = play.children[child].range(0, 4096);
    let list = descriptors(memory.descriptor, 1);
    let write = PayloadWrite {
        source: range,
        descriptors: &list,
    };
    play.children[child].reply(7, vec![write], b"never arrives");
    play.until("the end", |play| play.children[child].drained);
    assert_eq!(
        play.children[child].sent.get(&7),
        Some(&Outcome::ConnectionLost)
    );
    assert_eq!(play.clients[client].take_message(), None);
    play.end(before);
}

#[test]
fn a_client_that_stops_granting_holds_up_its_replies_only() {
    let mut play = Play::begin(|_| {});
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::granting(4));
    play.clients[client].set_granting(false);
    let reply = pattern(60_000, 3);
    play.children[child].reply(1, Vec::new(), &reply);
    for _ in 0..200 {
        play.turn();
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(!play.children[child].sent.contains_key(&1));
    assert_eq!(play.clients[client].take_message(), None);
    assert_eq!(play.children[child].closed, None);
    play.clients[client].set_granting(true);
    // A grant needs a message to travel on.
    play.clients[client].queue(b"go on");
    let mut back = None;
    play.until("the reply", |play| {
        back = back.take().or_else(|| play.clients[client].take_message());
        back.is_some()
    });
    assert!(back == Some(reply));
    play.end(before);
}

/// A smbdirectd process on the fabric in `folder`, once it listens.
fn start_process(program: &Path, folder: &Path) -> Supervisor {
    let mut command = Command::new(program);
    command
        .env("SMBDIRECT_FABRIC", folder)
        .env("SMBDIRECT_FABRIC_DEVICES", "server0=10.9.0.1");
    let mut supervisor = Supervisor::start(command, unprivileged_settings());
    wait_for("smbdirectd to listen", || {
        supervisor.turn();
        !supervisor.interfaces.is_empty()
    });
    supervisor
}

#[track_caller]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_killed_smbdirectd_ends_its_relays_without_drained_and_a_new_one_serves() {
    let program = match lab::binary("smbdirectd-simulated") {
        Ok(program) => program,
        Err(LabError::Skip(reason)) => return lab::skip::report(&reason),
        Err(error) => panic!("{error}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let address = "10.9.0.2".parse().unwrap();
    Fabric::new(folder.path(), "client0", address).enter();
    for _ in 0..2 {
        let mut supervisor = start_process(&program, folder.path());
        let server = "10.9.0.1:445".parse().unwrap();
        let mut client = SmbDirect::connect(server, Behaviour::default()).unwrap();
        client.send(b"hello").unwrap();
        wait_for("the announcement", || {
            supervisor.turn();
            !supervisor.announced.is_empty()
        });
        let announced = supervisor.announced.pop_front().unwrap();
        let mut child = Child::new(announced.socket);
        child.attach();
        wait_for("the region", || {
            child.turn();
            child.is_mapped()
        });
        let memory = client
            .expose(&pattern(1 << 20, 1), Access::RemoteRead)
            .unwrap();
        let range = child.range(0, 1 << 20);
        child.read(1, range, &descriptors(memory.descriptor, 1));
        // Killed with the READ in flight, as nobody drives the client.
        drop(supervisor);
        wait_for("the relay's end", || {
            child.turn();
            child.ended
        });
        assert!(!child.drained, "its memory may still be written to");
        let lost = client.receive(Duration::from_secs(5));
        assert!(matches!(lost, Err(ClientError::Closed)), "{lost:?}");
    }
}

#[test]
fn where_nobody_listens_connecting_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let address = "10.9.0.2".parse().unwrap();
    Fabric::new(folder.path(), "client0", address).enter();
    let nobody = "10.9.0.1:445".parse().unwrap();
    let refused = SmbDirect::connect(nobody, Behaviour::default());
    assert!(matches!(refused, Err(ClientError::Local(text)) if text.contains("rejected")));
}
