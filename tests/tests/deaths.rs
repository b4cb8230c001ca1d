//! Processes of a server are killed under the kernel's client, with mounts over SMB Direct and TCP, in
//! the lab's guest; and where its bytes go. `tests/src/bin/server_scenario` plays it, and checks that
//! the server holds what it held before. `processes.rs` has deaths over TCP alone.

#[path = "scenario/mod.rs"]
mod scenario;

use scenario::play;

#[test]
fn clients_of_killed_children_come_back_and_nobody_else_notices() {
    play("killed-children");
}

#[test]
fn a_killed_smbdirectd_is_back_within_a_second_and_tcp_never_stops() {
    play("killed-smbdirectd");
}

#[test]
fn payload_by_rdma_is_not_copied() {
    play("copies");
}
