//! Control sockets, typed: the link every process of smbd uses, and a child's two ends.
//!
//! A child has one link to the broker ([`Broker`]) and one to the supervisor ([`Supervisor`]).
//! Both are single-threaded and never block: the child's loop calls `on_readable` and `flush`,
//! its tasks await the futures. A broker that dies is invisible to the tasks: what was asked is
//! asked again of the next one. Nothing here knows SMB.

mod broker;
pub mod first_word;
mod link;
mod supervisor;
#[cfg(test)]
mod tests;

pub use broker::{
    Broker, Claim, ClaimRequest, Closing, DeleteDuty, Grant, LostSession, PassedConnection,
};
pub use link::{ControlLink, ControlLinkError};
pub use supervisor::{Supervisor, SupervisorEvent};
