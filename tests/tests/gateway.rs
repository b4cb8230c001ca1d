//! smbdirectd over soft-RoCE in the lab's guest, one scenario a guest: `tests/src/bin/gateway-scenario.rs`
//! says what each does and checks that nothing is left of its connections.

use std::time::Duration;

use tests::lab::{Guest, RdmaKind, binary, skip};

#[track_caller]
fn play(scenario: &str) {
    play_on(RdmaKind::Rxe, scenario);
}

#[track_caller]
fn play_on(devices: RdmaKind, scenario: &str) {
    let (scenarios, smbdirectd) = match (binary("gateway-scenario"), binary("smbdirectd")) {
        (Ok(scenarios), Ok(smbdirectd)) => (scenarios, smbdirectd),
        (Err(error), _) | (_, Err(error)) => {
            skip::report(&error.to_string());
            return;
        }
    };
    let script = format!(
        "{} {scenario} {}",
        scenarios.display(),
        smbdirectd.display()
    );
    let guest = Guest::builder()
        .script(&script)
        .rdma(devices)
        .time_limit(Duration::from_secs(90));
    if let Some(outcome) = guest.run_or_skip() {
        outcome.assert_succeeded();
        assert!(outcome.output.contains(&format!("{scenario}: ok")));
    }
}

#[test]
fn the_kernel_clients_negotiate_arrives_whole() {
    play("kernel-negotiate");
}

#[test]
fn messages_of_every_size_travel_both_ways() {
    play("messages");
}

#[test]
fn payload_moves_both_ways_with_several_descriptors() {
    play("payload");
}

#[test]
fn a_stalled_child_stops_only_its_own_client() {
    play("stalled-child");
}

#[test]
fn the_death_of_a_child_or_a_client_leaves_nothing_behind() {
    play("deaths");
}

#[test]
fn a_hostile_child_ends_only_its_own_connection() {
    play("hostile-children");
}

#[test]
fn a_bad_descriptor_of_a_client_ends_its_connection() {
    play("bad-descriptor");
}

#[test]
fn the_connections_of_a_child_share_its_region() {
    play("shared-region");
}

#[test]
fn connections_come_and_go_without_a_leak() {
    play("churn");
}

#[test]
fn a_region_whose_connections_are_gone_is_replaced() {
    play("late-attach");
}

#[test]
fn who_has_not_logged_on_gets_little() {
    play("limits");
}

#[test]
fn it_gives_up_its_privileges() {
    play("privileges");
}

#[test]
fn payload_moves_both_ways_over_iwarp() {
    play_on(RdmaKind::Siw, "payload");
}

#[test]
fn deaths_leave_nothing_behind_over_iwarp() {
    play_on(RdmaKind::Siw, "deaths");
}

#[test]
fn a_client_that_gave_up_before_it_was_accepted_is_no_refusal() {
    play("given-up");
}
