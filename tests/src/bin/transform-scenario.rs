//! Plays RDMA transform inside the lab's guest: `transform-scenario suite`, or the name of one case.
//! The client's host is where it runs, the whole server runs on the server's.
//! `tests/tests/rdma_transform.rs` boots a guest for each.

use std::process::ExitCode;
use std::sync::Arc;

use tests::client::verbs::SmbDirect;
use tests::refusals::Enter;
use tests::server::Server;
use tests::transforms::{BEYOND, SUITE, play, play_suite};

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let is_case = SUITE.iter().any(|case| case.name == name) || BEYOND.contains(&name.as_str());
    if !is_case && name != "suite" {
        eprintln!(
            "transform-scenario: there is no case {name:?}; 'suite' plays all of Microsoft's"
        );
        return ExitCode::from(2);
    }
    // Each thread is a client's host of its own only on a simulated fabric.
    let enter: Enter = Arc::new(|_| {});
    let server = Server::builder().in_lab();
    let played = match name.as_str() {
        "suite" => play_suite::<SmbDirect>(server, enter),
        name => play::<SmbDirect>(name, server, enter),
    };
    if !played {
        return ExitCode::FAILURE;
    }
    println!("transform-scenario {name}: ok");
    ExitCode::SUCCESS
}
