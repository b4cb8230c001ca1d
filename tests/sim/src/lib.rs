//! The project's state machines, unchanged, under virtual time and chance. A scenario supplies what
//! surrounds them (the RDMA device, the peer, sockets, the death of a process) and holds them to its
//! oracles after every step. All of a run follows from one seed, in one thread, without a clock.
//! `./x sim` runs it; nothing here is part of a daemon.

pub mod chance;
#[allow(dead_code, reason = "smbdirectd's loop uses the rest")]
#[path = "../../../smbdirectd/src/config.rs"]
mod config;
pub mod connections;
#[allow(dead_code, reason = "smbdirectd's loop uses the rest")]
mod gateway;
pub mod handoff;
#[path = "../../../smbdirectd/src/memory/mod.rs"]
mod memory;
#[allow(dead_code, unused_imports, reason = "the interface is the device's")]
mod rdma;
#[allow(dead_code, reason = "smbdirectd's loop uses the rest")]
#[path = "../../../smbdirectd/src/relay/mod.rs"]
mod relay;
pub mod run;
pub mod smbdirect;
pub mod trace;

pub use run::{Failure, SCENARIOS, Sabotage, Scenario, Stage, Tally, exhaust, replay, run};
