//! The addresses this program can be reached at: those of its simulated devices.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use shm::SystemError;

use crate::rdma::Fabric;

/// An address of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) address: IpAddr,
    pub(crate) if_index: u32,
}

/// One for each device.
pub(crate) fn local_addresses() -> Result<Vec<Local>, SystemError> {
    let addresses = Fabric::addresses().into_iter().zip(1..);
    Ok(addresses
        .map(|(address, if_index)| Local { address, if_index })
        .collect())
}

/// A simulated device comes and goes with its program.
pub(crate) fn watch_changes() -> Vec<OwnedFd> {
    Vec::new()
}

pub(crate) fn drain(_socket: &OwnedFd) {}
