//! The addresses this program can be reached at: those of its simulated devices.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use shm::SystemError;

use crate::rdma::Fabric;

/// An address of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) address: IpAddr,
    pub(crate) interface: String,
    pub(crate) if_index: u32,
}

impl Local {
    /// No simulated device is soft-RoCE, of which alone this is asked.
    pub(crate) fn arrives_on(&self, _below: &str) -> bool {
        true
    }
}

/// One for each device.
pub(crate) fn local_addresses() -> Result<Vec<Local>, SystemError> {
    let addresses = Fabric::addresses().into_iter().zip(1..);
    Ok(addresses
        .map(|(address, if_index)| Local {
            address,
            interface: format!("simulated{if_index}"),
            if_index,
        })
        .collect())
}

/// A simulated device comes and goes with its program.
pub(crate) fn watch_changes() -> Vec<OwnedFd> {
    Vec::new()
}

pub(crate) fn drain(_socket: &OwnedFd) {}
