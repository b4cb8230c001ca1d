//! RDMA devices as they are: what comes, goes and changes while a client's connection on another device must stay.
//! tests/lab/devices.sh has the scenarios; each is a guest of its own.

use std::time::Duration;

use tests::lab::{Guest, RdmaKind};

#[track_caller]
fn play(scenario: &str) {
    play_on(RdmaKind::Rxe, scenario);
}

#[track_caller]
fn play_on(kind: RdmaKind, scenario: &str) {
    let Some(guest) = Guest::of_our_server("devices.sh") else {
        return;
    };
    let guest = guest
        .argument(scenario)
        .links(if scenario.starts_with("bond") { 3 } else { 2 })
        .rdma(kind)
        .time_limit(Duration::from_secs(120));
    if let Some(outcome) = guest.run_or_skip() {
        outcome.assert_succeeded();
        let last = outcome.output.lines().last().unwrap_or_default();
        assert_eq!(last, format!("devices: ok {scenario}"));
    }
}

#[test]
fn devices_are_removed_added_and_renamed_beside_a_connection() {
    play("come-and-go");
}

#[test]
fn an_iwarp_device_is_let_go_of_when_it_is_removed() {
    play_on(RdmaKind::Siw, "iwarp");
}

#[test]
fn addresses_come_and_go_of_both_families() {
    play("address");
}

#[test]
fn a_vlan_is_served_by_the_device_of_its_interface() {
    play("vlan");
}

#[test]
fn a_device_on_a_bridge_is_served() {
    play("bridge");
}

#[test]
fn a_device_on_a_bond_is_served_whichever_link_is_active() {
    play("bond");
}

#[test]
fn a_connection_over_a_bond_stays_when_another_link_becomes_active() {
    play_on(RdmaKind::Siw, "bond-iwarp");
}

#[test]
fn what_keeps_clients_from_rdma_on_a_team_is_said() {
    play("team");
}

#[test]
fn clients_are_told_of_no_interface_without_a_carrier() {
    play("carrier");
}

#[test]
fn too_small_a_limit_of_locked_memory_is_said_with_its_remedy() {
    play("memory-lock");
}

#[test]
fn a_port_that_may_not_be_bound_is_said_once_with_its_remedy() {
    play("permission");
}
