//! RDMA transform: a signed or encrypted session's payload by RDMA. The other end is this project's client:
//! no kernel's speaks it.

pub mod beyond;
mod client;
pub mod suite;
