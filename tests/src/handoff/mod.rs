//! Handoffs: a whole server on the simulated fabric, and clients that reach it over TCP and over SMB
//! Direct. `tests/tests/handoff.rs` has the corner cases.

mod stage;

pub use stage::{Stage, Way, guid};
