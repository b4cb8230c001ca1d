//! Plays one scenario of what is refused over SMB Direct inside the lab's guest:
//! `refusal-scenario NAME`. The client's host is where it runs, the whole server runs on the
//! server's. `tests/tests/refusals_rdma.rs` boots a guest for each.

use std::process::ExitCode;
use std::sync::Arc;

use tests::client::verbs::SmbDirect;
use tests::refusals::{SCENARIOS, play};
use tests::server::Server;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    if !SCENARIOS.contains(&name.as_str()) {
        eprintln!(
            "refusal-scenario: {name:?} is none of {SCENARIOS:?}; it runs in the lab's guest"
        );
        return ExitCode::from(2);
    }
    // Each thread is a client's host of its own only on a simulated fabric.
    if !play::<SmbDirect>(&name, Server::builder().in_lab(), Arc::new(|_| {})) {
        return ExitCode::FAILURE;
    }
    println!("refusal-scenario {name}: ok");
    ExitCode::SUCCESS
}
