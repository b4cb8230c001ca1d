//! What the doctor knows before it decides: plain values, however they were learnt.

use std::net::IpAddr;

use proto::control::status::{ServerSettings, StatusReport};
use serde::Serialize;

/// Everything.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the configuration says, or the running server was started with.
    pub settings: ServerSettings,
    /// The running server's report; else why there is none.
    pub server: Result<Box<StatusReport>, String>,
    /// /dev/infiniband/rdma_cm is there.
    pub connection_manager: bool,
    /// Network interfaces but the loopback.
    pub interfaces: Vec<Interface>,
    /// RDMA devices.
    pub devices: Vec<RdmaDevice>,
    /// Bytes smbdirectd may lock, u64::MAX for any number; None while it does not run.
    pub memory_lock: Option<u64>,
    /// What this machine's packet filter does with RoCE v2 (UDP 4791), and with iWARP's port.
    pub roce_filter: Filter,
    pub iwarp_filter: Filter,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    pub name: String,
    pub kind: InterfaceKind,
    /// The bond, team or bridge it is a port of.
    pub master: Option<String>,
    /// Set up (IFF_UP), and with a carrier.
    pub up: bool,
    pub carrier: bool,
    pub mtu: u32,
    pub addresses: Vec<IpAddr>,
    /// Priorities with PFC on; None where it can't be told.
    pub pfc: Option<Vec<u8>>,
}

/// What an interface is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceKind {
    /// Hardware, or a kind that makes no difference.
    #[default]
    Plain,
    Bond,
    Team,
    Bridge,
    Vlan,
}

/// An RDMA device and its first port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RdmaDevice {
    pub name: String,
    pub iwarp: bool,
    /// Made by software: its packets pass the machine's packet filter.
    pub software: bool,
    /// The port's state, as the kernel names it ("ACTIVE").
    pub state: String,
    /// Its management queue pair (GSI) is in error: it takes no new connection.
    pub management_failed: bool,
    /// Interfaces it is on.
    pub interfaces: Vec<String>,
    pub gids: Vec<Gid>,
    /// Counters that tell of a network that loses or marks packets, as the device names them.
    pub counters: Vec<(String, u64)>,
}

/// An entry of a port's GID table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Gid {
    pub index: u32,
    pub gid: String,
    /// "RoCE v2", "IB/RoCE v1".
    pub kind: String,
    pub interface: String,
}

/// What the packet filter does with packets to a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Filter {
    /// It could not be read.
    #[default]
    Unknown,
    Open,
    /// Dropped in this chain.
    Blocked(String),
}

impl RdmaDevice {
    pub fn is_active(&self) -> bool {
        self.state == "ACTIVE"
    }
}
