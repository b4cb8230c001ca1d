//! A simulated RDMA fabric, and the real gateway on it. [`rdma`] has the interface of
//! `smbdirectd::rdma` without a device; the gateway's own sources, unchanged, are compiled against
//! it here. Tests use both to run SMB Direct, RDMA payload and lost peers natively, without root,
//! in milliseconds. No daemon is built with it, and no feature can switch one over to it.

mod addresses;
#[path = "../../smbdirectd/src/config.rs"]
pub mod config;
#[path = "../../smbdirectd/src/gateway/mod.rs"]
pub mod gateway;
#[path = "../../smbdirectd/src/listener.rs"]
mod listener;
#[path = "../../smbdirectd/src/memory/mod.rs"]
mod memory;
#[path = "../../smbdirectd/src/privileges.rs"]
pub mod privileges;
#[path = "../../smbdirectd/src/program.rs"]
pub mod program;
pub mod rdma;
#[path = "../../smbdirectd/src/relay/mod.rs"]
mod relay;
