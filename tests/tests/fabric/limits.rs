//! Limits reached: newcomers get less or nothing, whoever is admitted loses nothing.

use std::time::{Duration, Instant};

use fabric::config::Limits;
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
