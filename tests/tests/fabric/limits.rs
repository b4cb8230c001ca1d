//! Limits reached: newcomers get less or nothing, whoever is admitted loses nothing.

use std::time::{Duration, Instant};

use fabric::config::Limits;
use fabric::rdma::Transport;
use proto::control::gateway::GatewaySettings;
use tests::client::simulated::{Behaviour, SmbDirect};

use super::play::{Play, unprivileged_settings};

/// Unattached connections one address may have.
const UNATTACHED_PER_ADDRESS: usize = 64;

#[test]
fn at_the_budget_newcomers_are_served_inline_until_somebody_leaves() {
    let settings = GatewaySettings {
        memory_budget: 16 << 20,
        client_memory: 8 << 20,
        ..unprivileged_settings()
    };
    let mut play = Play::begin_with(Limits::new(settings), |_| {});
    let before = play.totals();
    let first = play.connect_attached(Behaviour::default());
    let second = play.connect_attached(Behaviour::default());
    let full = play.totals().pinned_bytes;
    let (client, child) = (play.connect(Behaviour::default()), play.children.len());
    play.clients[client].queue(b"the first message");
    play.until("a third child", |play| play.children.len() > child);
    play.children[child].attach();
    play.until("its refusal", |play| play.children[child].refused);
    play.children[child].take_message();
    assert!(play.totals().pinned_bytes < full + (8 << 20), "a part more");
    super::echo_messages(&mut play, client, child, &[1, 65_536]);
    for (client, child) in [first, second] {
        super::echo_messages(&mut play, client, child, &[1, 70_000]);
    }
    play.children[first.1].die();
    let deadline = Instant::now() + Duration::from_secs(20);
    while play.totals().connections > 2 {
        assert!(Instant::now() < deadline, "the first connection stays");
    }
    let (client, child) = play.connect_attached(Behaviour::default());
    super::echo_messages(&mut play, client, child, &[70_000]);
    play.end(before);
}

#[test]
fn an_address_has_so_many_connections_nobody_logged_on_over_and_the_admitted_live_on() {
    let settings = GatewaySettings {
        max_connections: 200,
        ..unprivileged_settings()
    };
    let mut play = Play::begin_with(Limits::new(settings), |_| {});
    let before = play.totals();
    let (admitted, child) = play.connect_attached(Behaviour::default());
    let silent: Vec<usize> = (0..UNATTACHED_PER_ADDRESS)
        .map(|_| play.connect(Behaviour::default()))
        .collect();
    assert_eq!(silent.len(), UNATTACHED_PER_ADDRESS);
    let server = play.server();
    let refused = SmbDirect::connect(server, Behaviour::default());
    assert!(refused.is_err(), "one more than allowed");
    assert_eq!(play.totals().refused, 1);
    super::echo_messages(&mut play, admitted, child, &[1, 70_000]);
    play.end(before);
}

/// A child for a message of this client's, which asks for memory and gets none.
fn connect_refused(play: &mut Play) -> (usize, usize) {
    let (client, child) = (play.connect(Behaviour::default()), play.children.len());
    play.clients[client].queue(b"the first message");
    play.until("its child", |play| play.children.len() > child);
    play.children[child].attach();
    play.until("its refusal", |play| play.children[child].refused);
    play.children[child].take_message();
    (client, child)
}

#[test]
fn where_no_part_can_be_locked_a_client_loses_one_connection_and_is_served_inline_from_there() {
    let mut play = Play::begin(|fabric| fabric.lockable = 4 << 20);
    let before = play.totals();
    let (client, child) = (play.connect(Behaviour::default()), play.children.len());
    play.clients[client].queue(b"the first message");
    play.until("its child", |play| play.children.len() > child);
    play.children[child].attach();
    play.until("its end", |play| play.children[child].closed.is_some());
    for _ in 0..2 {
        let (client, child) = connect_refused(&mut play);
        super::echo_messages(&mut play, client, child, &[1, 65_536]);
    }
    play.end(before);
}

#[test]
fn where_only_a_part_can_be_locked_a_client_keeps_the_receive_buffers_it_has() {
    let mut play = Play::begin(|fabric| fabric.lockable = (8 << 20) + (200 << 10));
    let before = play.totals();
    let (client, child) = play.connect_attached(Behaviour::default());
    super::echo_messages(&mut play, client, child, &[1, 65_536, 70_000, 500_000]);
    assert!(play.totals().pinned_bytes <= (8 << 20) + (200 << 10));
    play.end(before);
}

#[test]
fn where_no_read_sinks_can_be_locked_an_iwarp_client_is_served_inline() {
    let mut play = Play::begin(|fabric| {
        fabric.devices[0].transport = Transport::Iwarp;
        fabric.lockable = 300 << 10;
    });
    let before = play.totals();
    let (client, child) = connect_refused(&mut play);
    super::echo_messages(&mut play, client, child, &[1, 65_536]);
    play.end(before);
}

#[test]
fn where_no_more_buffers_can_be_locked_newcomers_are_refused_and_the_admitted_live_on() {
    let mut play = Play::begin(|fabric| fabric.lockable = 150 << 10);
    let before = play.totals();
    let (client, child) = (play.connect(Behaviour::default()), play.children.len());
    play.clients[client].queue(b"the first message");
    play.until("its child", |play| play.children.len() > child);
    let server = play.server();
    assert!(SmbDirect::connect(server, Behaviour::default()).is_err());
    assert_eq!(play.totals().refused, 1);
    play.children[child].take_message();
    super::echo_messages(&mut play, client, child, &[1, 65_536]);
    play.end(before);
}

#[test]
fn queues_are_as_deep_as_the_device_allows_and_the_status_says_what_that_costs() {
    let mut play = Play::begin(|fabric| {
        let limits = &mut fabric.devices[0].limits;
        limits.max_work_requests = 64;
        limits.max_completions = 48;
        limits.max_initiator_depth = 4;
    });
    let before = play.totals();
    let device = play.device();
    for said in [
        "rdma receive credits: 47 instead of 255, as a queue of the device holds 48",
        "SENDs at a time: 12 instead of 64",
        "RDMA READs and WRITEs at a time: 24 instead of 256",
        "RDMA READs towards a client at a time: 4 instead of 32",
    ] {
        let lowered = &device.lowered;
        assert!(lowered.iter().any(|one| one.contains(said)), "{lowered:?}");
    }
    let (client, child) = play.connect_attached(Behaviour::default());
    super::echo_messages(&mut play, client, child, &[1, 65_536, 70_000, 800_000]);
    play.end(before);
}
