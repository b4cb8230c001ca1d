//! Plays one scenario against smbdirectd inside the lab's guest: `gateway-scenario NAME SMBDIRECTD`.
//! The client's host is where it runs, smbdirectd runs on the server's. `tests/tests/gateway.rs`
//! boots a guest for each.

use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use proto::control::gateway::GatewayTotals;
use proto::relay::{
    Body, CloseReason, MAX_DESCRIPTORS, MAX_MESSAGES, OperationId, Outcome, PayloadWrite,
    RegionRange, ToGateway,
};
use tests::gateway::{Child, Peer, Stage, Supervisor, settings};

const SERVER: &str = "10.9.0.1";

type Scenario = (&'static str, fn(&mut Stage));

const SCENARIOS: &[Scenario] = &[
    ("kernel-negotiate", kernel_client_sends_negotiate),
    ("messages", messages_of_every_size_travel_both_ways),
    ("payload", payload_moves_both_ways),
    ("stalled-child", a_stalled_child_stops_only_its_client),
    ("deaths", deaths_leave_nothing_behind),
    (
        "hostile-children",
        hostile_children_end_only_their_connection,
    ),
    ("bad-descriptor", a_bad_descriptor_ends_its_connection),
    ("shared-region", connections_of_a_child_share_its_region),
    (
        "late-attach",
        a_region_whose_connections_are_gone_is_replaced,
    ),
    ("limits", who_has_not_logged_on_gets_little),
    ("privileges", it_gives_up_its_privileges),
    ("churn", connections_come_and_go_without_a_leak),
    ("given-up", a_client_that_gave_up_is_no_refusal),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, smbdirectd] = arguments.as_slice() else {
        eprintln!("gateway-scenario: NAME SMBDIRECTD; it runs in the lab's guest");
        return ExitCode::from(2);
    };
    let Some((_, scenario)) = SCENARIOS.iter().find(|(known, _)| known == name) else {
        eprintln!("gateway-scenario: {name} is none of {SCENARIOS:?}");
        return ExitCode::from(2);
    };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "server", smbdirectd]);
    let mut stage = Stage::new(Supervisor::start(command, settings()));
    stage.until("smbdirectd to listen", |stage| {
        stage.supervisor.ready && !stage.supervisor.interfaces.is_empty()
    });
    let before = totals(&mut stage);
    let descriptors = open_descriptors(&stage);
    scenario(&mut stage);
    stage.peers.clear();
    stage.until("every connection to be gone", |stage| {
        // Each time: the kernel's client may have tried once more meanwhile.
        stage.children.iter_mut().for_each(Child::die);
        totals(stage).connections == 0
    });
    let after = totals(&mut stage);
    assert_eq!(held(&before), held(&after), "something was leaked");
    assert_eq!(descriptors, open_descriptors(&stage), "descriptors leaked");
    println!(
        "gateway-scenario {name}: ok accepted={} rdma_read_bytes={} rdma_write_bytes={}",
        after.accepted, after.rdma_read_bytes, after.rdma_write_bytes
    );
    assert!(stage.supervisor.shut_down(), "smbdirectd ended in disorder");
    ExitCode::SUCCESS
}

fn server() -> SocketAddr {
    // MS-SMBD 2.1: another port on iWARP.
    let iwarp = std::env::var("LAB_RDMA").is_ok_and(|kind| kind == "siw");
    let address = SERVER.parse().expect("an address");
    SocketAddr::new(address, if iwarp { 5445 } else { 445 })
}

fn totals(stage: &mut Stage) -> GatewayTotals {
    stage.supervisor.query();
    let deadline = Instant::now() + Duration::from_secs(10);
    while stage.supervisor.status.is_none() {
        assert!(Instant::now() < deadline, "no status");
        stage.turn();
    }
    stage.supervisor.status.as_ref().expect("just there").1
}

fn held(totals: &GatewayTotals) -> [u64; 4] {
    [
        totals.connections,
        totals.queue_pairs,
        totals.memory_regions,
        totals.pinned_bytes,
    ]
}

fn open_descriptors(stage: &Stage) -> usize {
    let folder = format!("/proc/{}/fd", stage.supervisor.pid());
    std::fs::read_dir(folder).expect("its descriptors").count()
}

/// Bytes that differ from place to place and from seed to seed.
fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn kernel_client_sends_negotiate(stage: &mut Stage) {
    std::fs::create_dir_all("/mnt/scenario").expect("a mount point");
    let mut mount = Command::new("mount")
        .args(["-t", "cifs", "//10.9.0.1/share", "/mnt/scenario", "-o"])
        .arg("rdma,vers=3.1.1,user=nobody,pass=secret,echo_interval=5")
        .spawn()
        .expect("run mount");
    stage.until("the first message", |stage| {
        stage
            .children
            .first()
            .is_some_and(|child| child.waiting() > 0)
    });
    let message = stage.children[0].take_message().expect("checked");
    assert_eq!(message.get(..4), Some(&b"\xfeSMB"[..]), "an SMB2 header");
    assert_eq!(message.get(12..14), Some(&[0, 0][..]), "NEGOTIATE");
    let hello = stage.children[0].hello.clone().expect("hello comes first");
    assert_eq!(hello.peer.ip().to_string(), "10.9.0.2");
    println!(
        "NEGOTIATE of {} bytes arrived whole: {hello:?}",
        message.len()
    );
    stage.children[0].send(&ToGateway::Close {
        reason: CloseReason::ServerClosed,
    });
    stage.until("the end", |stage| stage.children[0].drained);
    mount.kill().expect("end mount");
    mount.wait().expect("mount ended");
}

fn messages_of_every_size_travel_both_ways(stage: &mut Stage) {
    let (peer, child) = stage.connect_attached(server());
    let sizes = [
        1,
        2,
        1339,
        1340,
        1341,
        4096,
        4097,
        65_535,
        65_536,
        65_537,
        300_000,
        1 << 20,
    ];
    for (number, size) in sizes.into_iter().enumerate() {
        let sent = pattern(size, number as u32 + 1);
        stage.peers[peer].send(&sent);
        stage.until("a message to the child", |stage| {
            stage.children[child].waiting() > 0
        });
        assert!(
            stage.children[child].take_message() == Some(sent.clone()),
            "{size} bytes in"
        );
        let operation = number as u64;
        if size <= 65_536 {
            stage.children[child].reply(operation, Vec::new(), &sent);
        } else {
            let range = stage.children[child].range(4096, size as u32);
            stage.children[child].fill(range, &sent);
            stage.children[child].send(&ToGateway::Reply {
                operation: OperationId(operation),
                invalidate: None,
                writes: Vec::new(),
                body: Body::InRegion(range),
            });
        }
        stage.until("the reply", |stage| !stage.peers[peer].inbox.is_empty());
        let back = stage.peers[peer].inbox.pop_front();
        assert!(back == Some(sent), "{size} bytes out");
        stage.until("sent", |stage| {
            stage.children[child].sent.get(&operation) == Some(&Outcome::Done)
        });
    }
}

fn payload_moves_both_ways(stage: &mut Stage) {
    let (peer, child) = stage.connect_attached(server());
    let lists: [(u32, &[(usize, u32)]); 5] = [
        (4096, &[(0, 4096)]),
        (1 << 20, &[(0, 0xffc0), (0x20000, 1 << 20)]),
        (
            100_001,
            &[(77, 1), (4096, 50_000), (1 << 20, 50_000), (5 << 20, 9)],
        ),
        (8 << 20, &[(0, 8 << 20)]),
        (5000, &[(64, 0), (128, 5000), (9000, 0)]),
    ];
    for (number, (length, list)) in lists.into_iter().enumerate() {
        let operation = number as u64;
        let descriptors: Vec<_> = list
            .iter()
            .map(|(at, length)| stage.peers[peer].descriptor(*at, *length))
            .collect();
        let bytes = pattern(length as usize, number as u32 + 77);
        let spread = |each: &mut dyn FnMut(usize, std::ops::Range<usize>)| {
            let mut done = 0;
            for (at, part) in list {
                let part = (*part as usize).min(bytes.len() - done);
                each(*at, done..done + part);
                done += part;
            }
        };
        // The client's WRITE: RDMA READ into the region.
        spread(&mut |at, range| stage.peers[peer].fill(at, &bytes[range]));
        let range = stage.children[child].range(0, length);
        stage.children[child].read(operation, range, &descriptors);
        stage.until("payload_ready", |stage| {
            stage.children[child].ready.get(&operation) == Some(&Outcome::Done)
        });
        let arrived = stage.children[child].contents(range);
        assert!(
            arrived == bytes,
            "list {number} by READ: {:?} for {:?}, first difference at {:?}",
            &arrived[..16],
            &bytes[..16],
            arrived
                .iter()
                .zip(&bytes)
                .position(|(one, other)| one != other)
        );
        // The client's READ: RDMA WRITE from the region, and the message behind it.
        let other = pattern(length as usize, number as u32 + 99);
        stage.children[child].fill(range, &other);
        let write = PayloadWrite {
            source: range,
            descriptors: &descriptors,
        };
        stage.children[child].reply(operation, vec![write], b"here it is");
        stage.until("the reply", |stage| !stage.peers[peer].inbox.is_empty());
        stage.peers[peer].inbox.clear();
        spread(&mut |at, range| {
            let there = stage.peers[peer].contents(at, range.len());
            assert!(there == other[range], "list {number} by WRITE");
        });
        stage.until("sent", |stage| {
            stage.children[child].sent.contains_key(&operation)
        });
    }
    // As many descriptors as there may be, many operations at once: chains longer than the queue.
    let descriptors: Vec<_> = (0..MAX_DESCRIPTORS)
        .map(|index| stage.peers[peer].descriptor(index * 64, 64))
        .collect();
    for operation in 100..110 {
        let range =
            stage.children[child].range((operation - 100) << 16, 64 * MAX_DESCRIPTORS as u32);
        stage.children[child].read(operation, range, &descriptors);
        let write = PayloadWrite {
            source: range,
            descriptors: &descriptors,
        };
        stage.children[child].reply(operation, vec![write; 2], b"long");
    }
    stage.until("ten long operations", |stage| {
        let child = &stage.children[child];
        (100..110).all(|key| child.ready.contains_key(&key) && child.sent.contains_key(&key))
    });
    let totals = totals(stage);
    assert!(totals.rdma_read_bytes > 9 << 20 && totals.rdma_write_bytes > 9 << 20);
    stage.supervisor.check_only_connection();
}

fn a_stalled_child_stops_only_its_client(stage: &mut Stage) {
    let (stalled, child) = stage.connect_attached(server());
    let (other, other_child) = stage.connect_attached(server());
    stage.children[child].releases = false;
    let message = pattern(20_000, 5);
    for _ in 0..MAX_MESSAGES + 50 {
        stage.peers[stalled].send(&message);
    }
    // The ring of 4 MiB holds some two hundred of these; then the client runs out of credits.
    let mut last = (0, Instant::now());
    stage.until("the client to be stopped", |stage| {
        let waiting = stage.children[child].waiting();
        if waiting != last.0 {
            last = (waiting, Instant::now());
        }
        waiting > 50 && last.1.elapsed() > Duration::from_millis(300)
    });
    assert!(stage.children[child].waiting() < 250, "nothing stops it");
    for round in 0..20 {
        stage.peers[other].send(&pattern(5000, round));
        stage.until("another client's message", |stage| {
            stage.children[other_child].take_message().is_some()
        });
    }
    // It goes on where it stopped, and nothing is lost.
    stage.children[child].releases = true;
    stage.children[child].release();
    stage.until("everything", |stage| {
        stage.children[child].waiting() == MAX_MESSAGES as usize + 50
    });
    while let Some(arrived) = stage.children[child].take_message() {
        assert!(arrived == message);
    }
}

fn deaths_leave_nothing_behind(stage: &mut Stage) {
    // A child dies while the NIC reads for it; its client is disconnected.
    let (peer, child) = stage.connect_attached(server());
    let (survivor, survivor_child) = stage.connect_attached(server());
    let descriptor = stage.peers[peer].descriptor(0, 8 << 20);
    let range = stage.children[child].range(0, 8 << 20);
    stage.children[child].read(1, range, &[descriptor]);
    stage.children[child].die();
    stage.until("the dead child's client to notice", |stage| {
        stage.peers[peer].ended.is_some()
    });
    // A client dies while its payload is on the way: the child hears how each operation ended.
    let (peer, child) = stage.connect_attached(server());
    let descriptor = stage.peers[peer].descriptor(0, 8 << 20);
    let range = stage.children[child].range(0, 8 << 20);
    // What smbdirectd has not taken when a client dies is answered by `drained` alone, so it gets a
    // moment to take both: less than 16 MiB need on a soft device.
    stage.children[child].send_together(&[
        ToGateway::ReadPayload {
            operation: OperationId(1),
            target: range,
            descriptors: &[descriptor],
        },
        ToGateway::Reply {
            operation: OperationId(2),
            invalidate: None,
            writes: vec![PayloadWrite {
                source: range,
                descriptors: &[descriptor],
            }],
            body: Body::Inline(b"never arrives"),
        },
    ]);
    std::thread::sleep(Duration::from_millis(10));
    drop(stage.peers.remove(peer));
    stage.until_within(Duration::from_secs(30), "closed and drained", |stage| {
        let child = &stage.children[child];
        child.closed.is_some() && child.drained && child.ended
    });
    let lost = &stage.children[child];
    assert!(lost.ready.contains_key(&1) && lost.sent.contains_key(&2));
    // Nobody else noticed.
    stage.peers[survivor].send(b"still here");
    stage.until("the survivor", |stage| {
        stage.children[survivor_child].take_message().is_some()
    });
}

fn hostile_children_end_only_their_connection(stage: &mut Stage) {
    let (survivor, survivor_child) = stage.connect_attached(server());
    type Hostile = fn(&mut Stage, usize, usize);
    let attacks: [Hostile; 6] = [
        |stage, _, child| stage.children[child].send(&ToGateway::Attach),
        |stage, _, child| stage.children[child].send(&ToGateway::Mapped),
        |stage, peer, child| {
            let outside = RegionRange {
                offset: 0,
                length: 4096,
            };
            let descriptor = stage.peers[peer].descriptor(0, 4096);
            stage.children[child].read(1, outside, &[descriptor]);
        },
        |stage, peer, child| {
            let across = stage.children[child].range((8 << 20) - 1, 2);
            let descriptor = stage.peers[peer].descriptor(0, 4096);
            stage.children[child].read(1, across, &[descriptor]);
        },
        |stage, peer, child| {
            let range = stage.children[child].range(0, 8192);
            let short = stage.peers[peer].descriptor(0, 4096);
            stage.children[child].read(1, range, &[short]);
        },
        |stage, _, child| {
            stage.children[child].send(&ToGateway::Release {
                through: proto::relay::MessageSequence(1 << 40),
            });
        },
    ];
    for attack in attacks {
        let (peer, child) = stage.connect_attached(server());
        attack(stage, peer, child);
        stage.until("the hostile child's end", |stage| {
            stage.children[child].closed == Some(CloseReason::RelayViolation)
                && stage.children[child].drained
        });
    }
    stage.peers[survivor].send(b"still here");
    stage.until("the survivor", |stage| {
        stage.children[survivor_child].take_message().is_some()
    });
}

fn a_bad_descriptor_ends_its_connection(stage: &mut Stage) {
    let (peer, child) = stage.connect_attached(server());
    let mut wrong = stage.peers[peer].descriptor(0, 4096);
    wrong.token = (wrong.token.get() ^ 0x5a5a_0000).into();
    let range = stage.children[child].range(0, 4096);
    stage.children[child].read(1, range, &[wrong]);
    stage.until("its end", |stage| stage.children[child].drained);
    assert_eq!(
        stage.children[child].closed,
        Some(CloseReason::PeerViolation)
    );
    assert_eq!(
        stage.children[child].ready.get(&1),
        Some(&Outcome::ConnectionLost)
    );
    totals(stage);
    stage.supervisor.check_last_ending(&wrong);
}

fn connections_of_a_child_share_its_region(stage: &mut Stage) {
    let (_, first) = stage.connect_attached(server());
    let (peer, second) = (stage.connect(server()), stage.children.len());
    stage.peers[peer].send(b"a second channel");
    stage.until("the second channel", |stage| stage.children.len() > second);
    let (before, after) = stage.children.split_at_mut(second);
    after[0].attach_beside(&before[first]);
    stage.until("its mapping", |stage| stage.children[second].is_mapped());
    let (one, two) = (
        stage.children[first].attached.expect("attached"),
        stage.children[second].attached.expect("attached"),
    );
    assert_eq!(one.region_size, two.region_size);
    assert_ne!(one.ring_offset, two.ring_offset, "a ring each");
    // More parts than the budget has are answered with what there is.
    stage.children[second].send(&ToGateway::Grow { parts: 1000 });
    stage.until("grown", |stage| stage.children[second].parts > 1);
    assert_eq!(stage.children[second].parts, two.max_parts);
    // What one connection wrote the other can send.
    let range = stage.children[first].range(8 << 20, 4096);
    stage.children[first].fill(range, &pattern(4096, 3));
    stage.children[second].send(&ToGateway::Reply {
        operation: OperationId(1),
        invalidate: None,
        writes: Vec::new(),
        body: Body::InRegion(range),
    });
    stage.until("the reply", |stage| !stage.peers[peer].inbox.is_empty());
    assert!(stage.peers[peer].inbox[0] == pattern(4096, 3));
    // The first connection ends; the region lives on.
    stage.children[first].die();
    stage.children[second].reply(2, Vec::new(), b"after");
    stage.until("another reply", |stage| stage.peers[peer].inbox.len() == 2);
}

fn a_region_whose_connections_are_gone_is_replaced(stage: &mut Stage) {
    let (peer, first) = stage.connect_attached(server());
    stage.peers[peer].disconnect();
    stage.until("the first connection's end", |stage| {
        stage.children[first].drained && totals(stage).connections == 0
    });
    let (peer, second) = (stage.connect(server()), stage.children.len());
    stage.peers[peer].send(b"back again");
    stage.until("the child", |stage| stage.children.len() > second);
    let (before, after) = stage.children.split_at_mut(second);
    after[0].attach_beside(&before[first]);
    stage.until("a new region", |stage| stage.children[second].is_mapped());
    let range = stage.children[second].range(0, 4096);
    let descriptor = stage.peers[peer].descriptor(0, 4096);
    stage.peers[peer].fill(0, &pattern(4096, 9));
    stage.children[second].read(1, range, &[descriptor]);
    stage.until("its payload", |stage| {
        stage.children[second].ready.contains_key(&1)
    });
    assert!(stage.children[second].contents(range) == pattern(4096, 9));
}

fn who_has_not_logged_on_gets_little(stage: &mut Stage) {
    // A first message longer than 64 KiB.
    let peer = stage.connect(server());
    stage.peers[peer].send(&pattern(65_537, 1));
    stage.until("the end of who sends too much", |stage| {
        stage.peers[peer].ended.is_some()
    });
    assert!(stage.children.is_empty(), "no child was asked for");
    // A peer that never negotiates: five seconds.
    let silent = stage.peers.len();
    stage.peers.push(Peer::connect_silently(server()));
    let started = Instant::now();
    stage.until("the end of who says nothing", |stage| {
        stage.peers[silent].ended.is_some()
    });
    let waited = started.elapsed();
    assert!(waited > Duration::from_secs(4), "it had only {waited:?}");
    // Half a message: ten seconds, and the connections beside it live.
    let (other, other_child) = stage.connect_attached(server());
    let half = stage.connect(server());
    stage.peers[half].send_part_of_a_message();
    stage.until_within(
        Duration::from_secs(15),
        "the end of half a message",
        |stage| stage.peers[half].ended.is_some(),
    );
    stage.peers[other].send(b"still here");
    stage.until("the other", |stage| {
        stage.children[other_child].take_message().is_some()
    });
}

fn a_client_that_gave_up_is_no_refusal(stage: &mut Stage) {
    // Its request waits at a smbdirectd that does not run, and it leaves before that runs again.
    signal(stage, "STOP");
    let mut peer = Peer::connect(server());
    let patience = Instant::now() + Duration::from_secs(2);
    while Instant::now() < patience {
        peer.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(peer);
    signal(stage, "CONT");
    stage.connect_attached(server());
    let after = totals(stage);
    assert_eq!((after.accepted, after.refused), (1, 0));
}

fn signal(stage: &Stage, name: &str) {
    let pid = stage.supervisor.pid().to_string();
    let status = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(status.expect("run kill").success());
}

fn it_gives_up_its_privileges(stage: &mut Stage) {
    let path = format!("/proc/{}/status", stage.supervisor.pid());
    let status = std::fs::read_to_string(path).expect("its status");
    let field = |name: &str| -> String {
        let line = status.lines().find(|line| line.starts_with(name));
        let words = line.expect("a field").split_whitespace().skip(1);
        words.collect::<Vec<_>>().join(" ")
    };
    let net_bind_service = format!("{:016x}", 1 << 10);
    assert_eq!(field("Uid:"), "65534 65534 65534 65534");
    assert_eq!(field("Gid:"), "65534 65534 65534 65534");
    assert_eq!(field("Groups:"), "");
    assert_eq!(field("CapEff:"), net_bind_service);
    assert_eq!(field("CapPrm:"), net_bind_service);
    assert_eq!(field("CapInh:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "1");
    let limits = format!("/proc/{}/limits", stage.supervisor.pid());
    let limits = std::fs::read_to_string(limits).expect("its limits");
    let of = |name: &str| -> Vec<&str> {
        let line = limits.lines().find(|line| line.starts_with(name));
        let values = line.expect("a limit").trim_start_matches(name);
        values.split_whitespace().take(2).collect()
    };
    assert_eq!(of("Max core file size"), ["0", "0"]);
    let locked: u64 = of("Max locked memory")[1].parse().expect("a number");
    assert!(locked >= settings().memory_budget && locked < 2 * settings().memory_budget);
}

fn connections_come_and_go_without_a_leak(stage: &mut Stage) {
    let rounds = std::env::var("GATEWAY_ROUNDS").ok();
    let rounds: usize = rounds.and_then(|text| text.parse().ok()).unwrap_or(50);
    for round in 0..rounds {
        let (peer, child) = stage.connect_attached(server());
        let descriptor = stage.peers[peer].descriptor(0, 65_536);
        let range = stage.children[child].range(0, 65_536);
        stage.children[child].read(1, range, &[descriptor]);
        if round % 2 == 0 {
            stage.peers[peer].disconnect();
            stage.until("closed", |stage| stage.children[child].drained);
        } else {
            stage.children[child].die();
        }
        drop(stage.peers.remove(peer));
        drop(stage.children.remove(child));
    }
}
