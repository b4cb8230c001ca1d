//! The RDMA gateway: owns every RDMA device, speaks SMB Direct, relays whole SMB messages.
//!
//! `rdma` is the only place with `unsafe` and may be used by an active side too (the project's
//! test client does); `gateway` is the one loop; everything between is account and protocol.
//! `server`, `status` and `doctor` are the administrator's side: they ask, and change nothing.

mod addresses;
pub mod config;
pub mod doctor;
pub mod gateway;
mod listener;
mod memory;
pub mod privileges;
pub mod program;
pub mod rdma;
mod relay;
pub mod server;
pub mod status;
