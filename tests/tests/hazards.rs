//! The ways in which one client of the whole server could harm another: natively on the simulated
//! fabric, and over soft-RoCE in the lab's guest. `tests/src/hazards` plays them, compares every byte,
//! and checks that the server holds what it held before. `fabric.rs` and `gateway.rs` have the gateway
//! alone.

#[path = "scenario/mod.rs"]
mod scenario;

use scenario::{play as in_lab, play_recorded};
use tests::hazards::{Ground, play, scenario as named};

#[track_caller]
fn on_fabric(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let ground = Ground::Fabric(folder.path().to_owned());
    play(ground, name, named(name).expect("a scenario"));
}

#[test]
fn a_stalled_child_stops_only_its_client() {
    on_fabric("stalled-child");
}

#[test]
fn a_peer_that_grants_one_credit_is_served_whole() {
    on_fabric("one-credit");
}

#[test]
fn a_message_in_fragments_of_one_byte_arrives_whole() {
    on_fabric("fragments");
}

#[test]
fn three_channels_opened_in_windows_order_work_at_once_in_one_process() {
    on_fabric("three-channels");
}

#[test]
fn three_channels_opened_in_windows_order_work_at_once_in_the_lab_and_on_the_wire_is_nothing_malformed()
 {
    play_recorded("three-channels");
}

#[test]
fn a_connection_lost_during_a_file_call_costs_nobody_a_byte() {
    on_fabric("lost-read");
}

#[test]
fn a_stalled_child_stops_only_its_client_in_the_lab() {
    in_lab("stalled-child");
}

#[test]
fn a_peer_that_grants_one_credit_is_served_whole_in_the_lab() {
    in_lab("one-credit");
}

#[test]
fn a_message_in_fragments_of_one_byte_arrives_whole_in_the_lab() {
    in_lab("fragments");
}

#[test]
fn a_connection_lost_during_a_file_call_costs_nobody_a_byte_in_the_lab() {
    in_lab("lost-read");
}

#[test]
fn nothing_stays_of_connections_left_at_any_step() {
    on_fabric("abandoned");
}

#[test]
fn nothing_stays_of_connections_left_at_any_step_in_the_lab() {
    in_lab("abandoned");
}
