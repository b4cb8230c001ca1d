//! The RDMA gateway: owns every RDMA device, speaks SMB Direct, relays whole SMB messages.
//!
//! `rdma` is the only place with `unsafe` and may be used by an active side too (the project's
//! test client does); `gateway` is the one loop; everything between is account and protocol.

mod addresses;
pub mod config;
pub mod gateway;
mod listener;
mod memory;
pub mod privileges;
pub mod rdma;
mod relay;
