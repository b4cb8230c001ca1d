//! SMB Direct ([MS-SMBD]): its messages and the connection machine, for both roles.
//! The gateway drives the passive side, the test client the active side; both feed in what the
//! device and the clock report and post what the machine asks for. Nothing here does I/O, reads a
//! clock, or touches payload: receive buffers are read for their header and named by ranges.
//!
//! A driver's turn, after any input: post `receives_to_post` and report it by `handle_posted`, take
//! from `poll_send` until it is empty, and repeat while either has something, since the last send
//! credit may ask for one more receive. Then set a timer for `deadline` and look at `state`.

mod connection;
mod counters;
mod credits;
mod keepalive;
pub mod messages;
mod negotiation;
mod outgoing;
mod parameters;
mod read_depths;
mod reassembly;
mod send_queue;
mod state;
mod violation;

pub use connection::{Connection, Received};
pub use counters::Counters;
pub use credits::Credits;
pub use outgoing::{Header, Outgoing};
pub use parameters::{ParameterError, Parameters};
pub use read_depths::{NoReads, ReadDepths, RequestedReads};
pub use send_queue::{MessageKey, Payload, QueueError};
pub use state::{Role, State};
pub use violation::{CloseReason, PeerViolation};

#[cfg(test)]
mod tests;
