//! Wire formats and pure state machines: no I/O, no clock, no `unsafe`.
//!
//! Depends on no other crate of the workspace. What arrives here is hostile; what leaves here has
//! been checked.
#![forbid(unsafe_code)]

pub mod control;
pub mod network;

pub mod relay;
pub mod rpc;
pub mod smb2;
pub mod smbdirect;
pub mod time;
pub mod wire;
