//! Memory and sockets between `smbdirectd` and `smbd`, and between `smbd`'s own processes.
//!
//! What another process can write is hostile: nothing here hands out a reference into shared
//! memory, bytes are copied in or out through checked offsets, and only the copies are read.
//! The pure parts ([`ring`], [`extents`]) know no memory at all: they keep account of offsets.

pub mod error;
pub mod extents;
pub mod link;
pub mod region;
pub mod ring;
pub mod scheduling;
pub mod wakeup;

pub use error::SystemError;
