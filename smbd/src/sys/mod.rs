//! The kernel, where a safe wrapper ends: forking, identities of threads, raw file calls.
//! With shm and smbdirectd's `rdma`, the only place where `unsafe` is allowed.

pub mod file;
pub mod fork;
#[cfg(feature = "kerberos")]
pub mod gssapi;
pub mod identity;
pub mod memory;
pub mod name_service;
pub mod poll;
pub mod pool;
pub mod privilege;
pub mod random;
