//! The broker: what children must agree on. Who owns a ClientGuid, who has which file open,
//! and how soon after a failed logon the next one is judged.
//!
//! [`machine`] decides and does no I/O; [`process`] runs it over the control sockets as a process
//! of its own, unprivileged. It never reads a byte a client sent: a claim's preface is carried,
//! not parsed. Children are hostile: one that breaks the rules is reported and ended, and what it
//! held is released as if it had died.
//!
//! A restarted broker answers nobody until every child that was there before has told it its
//! state again, or [`machine::RESTORE_LIMIT`] has passed.

pub mod clients;
pub mod files;
pub mod logons;
pub mod machine;
pub mod process;
mod sessions;
#[cfg(test)]
mod tests;
