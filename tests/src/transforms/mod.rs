//! RDMA transform, case by case: those of Microsoft's suite for MS-SMBD by their names there, and what
//! the suite does not try. They run on the simulated fabric and, in the lab, on a real device.
//!
//! The other end is this crate's client: no kernel's speaks RDMA transform.

mod beyond;
mod cases;
mod scene;

use crate::refusals::{Enter, RdmaClient};
use crate::server::ServerBuilder;

pub use cases::SUITE;

use scene::Scene;
pub use scene::pattern;

/// What the suite does not try, by name.
pub const BEYOND: [&str; 9] = [
    "lengths",
    "invalidation",
    "changed-payload",
    "bare",
    "channels",
    "mandatory-signing",
    "required-encryption",
    "switched-off",
    "read-by-transform",
];

/// Plays one case, of the suite or beyond it, on a server made of this builder. False, noted as a
/// skip, where it cannot run.
///
/// # Panics
/// When the server does anything else than it should, and where there is no such case.
pub fn play<C: RdmaClient>(name: &str, server: ServerBuilder, enter: Enter) -> bool {
    let server = beyond::settings(name)
        .iter()
        .fold(server, |server, line| server.global(line));
    let Some(scene) = Scene::<C>::begin(server, &enter) else {
        return false;
    };
    match SUITE.iter().find(|case| case.name == name) {
        Some(case) => cases::play(case, &scene),
        None => beyond::play(name, &scene),
    }
    true
}

/// Plays every case of the suite on one server: what booting a guest for each would not be worth.
pub fn play_suite<C: RdmaClient>(server: ServerBuilder, enter: Enter) -> bool {
    let Some(scene) = Scene::<C>::begin(server, &enter) else {
        return false;
    };
    for case in SUITE {
        cases::play(case, &scene);
        println!("{}: ok", case.name);
    }
    true
}
