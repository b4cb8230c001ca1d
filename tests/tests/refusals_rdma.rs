//! What a server refuses over SMB Direct, the whole of it: supervisor, smbdirectd and children, with a
//! bystander who moves verified bytes by RDMA all the while. Natively on the simulated fabric, and
//! over soft-RoCE in the lab's guest. `tests/src/refusals` has what is tried.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fabric::rdma::Fabric;
use tests::client::simulated::SmbDirect;
use tests::lab::{Guest, binary, skip};
use tests::refusals::play;
use tests::server::Server;

fn on_fabric(scenario: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let enter = move |host: u8| {
        let address: IpAddr = [10, 9, 0, 2 + host].into();
        Fabric::new(&path, &format!("client{host}"), address).enter();
    };
    let server = Server::builder().on_fabric(folder.path());
    play::<SmbDirect>(scenario, server, Arc::new(enter));
}

fn in_lab(scenario: &str) {
    let player = match binary("refusal-scenario") {
        Ok(player) => player,
        Err(error) => return skip::report(&error.to_string()),
    };
    let folder = player.parent().expect("a file is in a folder");
    let guest = Guest::builder()
        .script(&format!(
            "ulimit -l unlimited; {} {scenario}",
            player.display()
        ))
        .environment("SMBDIRECT_BIN_DIR", folder.display().to_string())
        .time_limit(Duration::from_secs(110));
    if let Some(outcome) = guest.run_or_skip() {
        outcome.assert_succeeded();
        assert!(outcome.output.contains(&format!("{scenario}: ok")));
    }
}

#[test]
fn a_bad_descriptor_gets_a_status_or_ends_its_connection() {
    on_fabric("descriptors");
}

#[test]
fn a_bad_frame_ends_its_connection() {
    on_fabric("frames");
}

#[test]
fn a_client_that_vanishes_in_its_payload_leaves_nothing() {
    on_fabric("vanishing");
}

#[test]
fn a_payload_nothing_protects_is_denied() {
    on_fabric("unprotected");
}

#[test]
fn a_full_disk_is_told_as_such() {
    on_fabric("full-disk");
}

#[test]
fn a_full_disk_is_told_as_such_in_the_lab() {
    in_lab("full-disk");
}

#[test]
fn a_bad_descriptor_gets_a_status_or_ends_its_connection_in_the_lab() {
    in_lab("descriptors");
}

#[test]
fn a_bad_frame_ends_its_connection_in_the_lab() {
    in_lab("frames");
}

#[test]
fn a_client_that_vanishes_in_its_payload_leaves_nothing_in_the_lab() {
    in_lab("vanishing");
}

#[test]
fn a_payload_nothing_protects_is_denied_in_the_lab() {
    in_lab("unprotected");
}
