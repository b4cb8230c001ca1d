//! Who may log on, and who that is on this machine: the user file and the Unix identity behind a
//! name.
//!
//! Read by the process that authenticates; written by the `passwd` command alone. Reads files and
//! the system's accounts, never a socket. Hashes are zeroed when dropped and never printed.

mod file;
mod identity;

pub use file::{UserEntry, UserFile, UserFileError};
pub use identity::{Identity, IdentityError, accounts_of};
