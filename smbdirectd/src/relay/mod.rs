//! One connection's relay: which record its child may send when, messages on their way to the
//! child, operations on their way to the device. Pure but for copies into the shared region; the
//! gateway owns sockets and queue pairs and calls this.

mod inbound;
mod loans;
mod phase;
mod segments;

pub use inbound::{Fragment, Inbound, Pool, Step};
pub use loans::Loans;
pub use phase::{Breach, Phase};
pub use segments::{Segment, TooFewBytes, trim};
