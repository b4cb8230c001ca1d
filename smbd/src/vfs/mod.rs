//! Files beneath a share's directory: names, lookups, opens, directories, metadata.
//!
//! The handlers call it, on threads of the pool (every call may block) and under the identity of
//! the session's user. It knows nothing of sessions, share modes or messages; a failure is the
//! NTSTATUS the client gets.

pub mod access;
pub mod at_once;
pub mod directory;
pub mod errno;
pub mod file;
pub mod metadata;
pub mod name;
pub mod open;
pub mod pattern;
pub mod security_descriptor;
pub mod share;
pub mod volume;

pub use at_once::Transfers;
pub use file::{File, Lock};
pub use metadata::Metadata;
pub use name::SharePath;
pub use open::{OpenRequest, Opened, open};
pub use pattern::Pattern;
pub use share::{Share, ShareOptions};

#[cfg(test)]
mod tests;
