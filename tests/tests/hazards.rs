//! The ways in which one client of the whole server could harm another, over soft-RoCE in the lab's
//! guest: `tests/src/bin/server_scenario/hazards.rs` plays them, checks every byte, and that the
//! server holds what it held before. `fabric.rs` and `gateway.rs` have the gateway's side alone.

#[path = "scenario/mod.rs"]
mod scenario;

use scenario::play;

#[test]
fn a_stalled_child_stops_only_its_client() {
    play("stalled-child");
}

#[test]
fn a_peer_that_grants_one_credit_is_served_whole() {
    play("one-credit");
}

#[test]
fn a_message_in_fragments_of_one_byte_arrives_whole() {
    play("fragments");
}

#[test]
fn a_connection_lost_during_a_file_call_costs_nobody_a_byte() {
    play("lost-read");
}
