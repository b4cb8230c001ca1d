//! Processes of a server are killed under the kernel's client, with mounts over SMB Direct and TCP, in
//! the lab's guest; and where its bytes go. `tests/src/bin/server_scenario` plays it, and checks that
//! the server holds what it held before. `processes.rs` has deaths over TCP alone.

#[path = "scenario/mod.rs"]
mod scenario;

use scenario::{play, play_on_links};

#[test]
fn clients_of_killed_children_come_back_and_nobody_else_notices() {
    play("killed-children");
}

#[test]
fn a_killed_smbdirectd_is_back_within_a_second_and_tcp_never_stops() {
    play("killed-smbdirectd");
}

#[test]
fn a_killed_broker_or_zygote_is_not_noticed() {
    play("killed-broker");
}

#[test]
fn a_mount_of_two_channels_comes_back_with_both() {
    play_on_links(2, "killed-channels");
}

#[test]
fn payload_by_rdma_is_not_copied() {
    play("copies");
}
