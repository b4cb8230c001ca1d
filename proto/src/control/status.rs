//! What `smbd status` reads from the supervisor's status socket: one report, then end of file.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::broker::BrokerTotals;
use super::child::{ChildStatus, NetworkInterface};
use super::gateway::{
    ConnectionStatus, DeviceStatus, EndedConnection, GatewayTotals, RdmaInterface, UnheardAddress,
};

/// Everything the supervisor knows, and what the others answered in time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatusReport {
    pub supervisor: i32,
    pub zygote: Option<i32>,
    pub broker: Option<i32>,
    /// What the broker holds; None when it did not answer in time.
    pub brokered: Option<BrokerTotals>,
    /// TCP addresses listened on.
    pub listening: Vec<SocketAddr>,
    /// What clients are told.
    pub interfaces: Vec<NetworkInterface>,
    pub children: Vec<ChildReport>,
    pub gateway: Option<GatewayReport>,
    pub settings: ServerSettings,
}

/// What the configuration says of RDMA and of what must be protected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerSettings {
    /// Where a running server answers for its status.
    pub status_socket: String,
    /// `server smb transports` has RDMA, or leaves it open.
    pub rdma: bool,
    /// The port, where it is not the device's own.
    pub rdma_port: Option<u16>,
    /// `rdma devices`; none means all.
    pub rdma_devices: Vec<String>,
    /// Clients are told of interfaces and may bind channels.
    pub multichannel: bool,
    /// Every session must be signed, or encrypted.
    pub signing_required: bool,
    pub encryption_required: bool,
    /// `rdma transform`.
    pub rdma_transform: bool,
    /// `rdma allow unprotected payload`.
    pub unprotected_payload: bool,
    /// Bytes pinned for payload, in all and for a client.
    pub memory_budget: u64,
    pub memory_per_client: u64,
    pub max_connections: u32,
}

/// One child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildReport {
    pub child: u64,
    pub pid: i32,
    /// None when it did not answer in time.
    pub status: Option<ChildStatus>,
}

/// smbdirectd.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GatewayReport {
    pub pid: i32,
    pub interfaces: Vec<RdmaInterface>,
    pub connections: Vec<ConnectionStatus>,
    pub devices: Vec<DeviceStatus>,
    /// Addresses of RDMA devices nobody listens on.
    pub unheard: Vec<UnheardAddress>,
    /// How the last connections ended, the newest last.
    pub ended: Vec<EndedConnection>,
    /// None when it did not answer in time.
    pub totals: Option<GatewayTotals>,
}

impl StatusReport {
    /// Says of each RDMA connection which child serves it, as the children answered.
    pub fn name_owners(&mut self) {
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        for child in &self.children {
            let channels = child.status.iter().flat_map(|status| &status.channels);
            for number in channels.filter_map(|channel| channel.connection) {
                let connections = gateway.connections.iter_mut();
                connections
                    .filter(|found| found.connection == number)
                    .for_each(|found| found.child_pid = Some(child.pid));
            }
        }
    }

    /// The report's bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads a report; None when the bytes are not one.
    pub fn decode(bytes: &[u8]) -> Option<StatusReport> {
        postcard::from_bytes(bytes).ok()
    }
}
