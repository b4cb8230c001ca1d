//! What a client is told of the server's interfaces while addresses, links and RDMA devices come and
//! go on the second link: each change must be in the answer within a second.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use proto::smb2::fsctl::{InterfaceCapability, NetworkInterface};
use tests::client::{Connection, Offer, Tree};
use tests::hazards::{Scene, guid};
use tests::server::{PASSWORD, USER};

const LIMIT: Duration = Duration::from_secs(1);
const FIRST: &str = "10.9.0.1";
const SECOND: &str = "10.9.1.1";
const ADDED: &str = "10.9.1.77";

/// What is told of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Tcp,
    Rdma,
}

pub fn answers_follow_every_change(scene: &Scene) {
    let mut client = scene.connect_tcp().expect("the server listens");
    let offer = Offer {
        client_guid: guid(1),
        ..Offer::default()
    };
    client.exchange_negotiate(offer).expect("NEGOTIATE");
    let session = client.log_on(USER, PASSWORD).expect("the user logs on");
    let tree = client.tree_connect(session, "share").expect("the share");
    wait_until(
        &mut client,
        tree,
        "both links have RDMA",
        SECOND,
        Told::Rdma,
    );
    let changes = [
        ("ip addr add 10.9.1.77/24 dev veth-s2", ADDED, Told::Rdma),
        ("ip addr del 10.9.1.77/24 dev veth-s2", ADDED, Told::Nothing),
        ("rdma link del rdma_s2", SECOND, Told::Tcp),
        (
            "rdma link add rdma_s2 type rxe netdev veth-s2",
            SECOND,
            Told::Rdma,
        ),
        ("ip link set veth-s2 down", SECOND, Told::Nothing),
        ("ip link set veth-s2 up", SECOND, Told::Rdma),
    ];
    for round in 1..=3 {
        for (command, address, told) in changes {
            server(command);
            let took = wait_until(&mut client, tree, command, address, told);
            println!("{round}: {command}: {} ms", took.as_millis());
            assert!(took < LIMIT, "{command}: told after {took:?}");
            // Nothing else changed.
            let answer = client.interfaces(tree).expect("an answer");
            assert_eq!(told_of(&answer, FIRST), Told::Rdma, "{answer:?}");
        }
    }
    // The other end's link goes down: ours loses its carrier, which the kernel itself tells of once a
    // second at most.
    for (state, told) in [("down", Told::Nothing), ("up", Told::Rdma)] {
        run(Command::new("ip").args(["link", "set", "veth-c2", state]));
        let took = wait_until(&mut client, tree, state, SECOND, told);
        println!("carrier {state}: {} ms", took.as_millis());
        assert!(took < LIMIT + LIMIT, "carrier {state}: told after {took:?}");
    }
}

/// Asks until it is told; how long that took.
fn wait_until(
    client: &mut Connection,
    tree: Tree,
    what: &str,
    address: &str,
    told: Told,
) -> Duration {
    let began = Instant::now();
    loop {
        let answer = client.interfaces(tree).expect("an answer");
        if told_of(&answer, address) == told {
            return began.elapsed();
        }
        assert!(
            began.elapsed() < 10 * LIMIT,
            "{what}: {address} is not {told:?}: {answer:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn told_of(answer: &[NetworkInterface], address: &str) -> Told {
    let address: IpAddr = address.parse().expect("an address");
    let found = answer.iter().find(|found| found.address == address);
    match found.map(|found| found.capability.contains(InterfaceCapability::RDMA_CAPABLE)) {
        None => Told::Nothing,
        Some(false) => Told::Tcp,
        Some(true) => Told::Rdma,
    }
}

/// Runs a command on the server's host.
fn server(command: &str) {
    let words = command.split(' ');
    run(Command::new("ip")
        .args(["netns", "exec", "server"])
        .args(words));
}

fn run(command: &mut Command) {
    let status = command.status().expect("run ip");
    assert!(status.success(), "{command:?}: {status}");
}
