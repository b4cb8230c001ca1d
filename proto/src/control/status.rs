//! What `smbd status` reads from the supervisor's status socket: one report, then end of file.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::broker::BrokerTotals;
use super::child::{ChildStatus, NetworkInterface};
use super::gateway::{ConnectionStatus, GatewayTotals, RdmaInterface};

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
    /// None when it did not answer in time.
    pub totals: Option<GatewayTotals>,
}

impl StatusReport {
    /// The report's bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads a report; None when the bytes are not one.
    pub fn decode(bytes: &[u8]) -> Option<StatusReport> {
        postcard::from_bytes(bytes).ok()
    }
}
