//! The project's state machines, unchanged, under virtual time and chance. A scenario supplies what
//! surrounds them (the RDMA device, the peer, sockets, the death of a process) and holds them to its
//! oracles after every step. All of a run follows from one seed, in one thread, without a clock.
//! `./x sim` runs it; nothing here is part of a daemon.

pub mod chance;
pub mod handoff;
pub mod run;
pub mod smbdirect;
pub mod trace;

pub use run::{Failure, SCENARIOS, Sabotage, Scenario, Tally, replay, run};
