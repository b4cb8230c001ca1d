//! Handoffs: a whole server on the simulated fabric, and clients that reach it over TCP and over SMB
//! Direct. `tests/tests/handoff.rs` plays each case once, `./x soak handoff` as often as asked.

pub mod connections;
pub mod deaths;
pub mod gateway_deaths;
mod stage;
mod stop_points;

pub use stage::{Stage, Way, guid};
