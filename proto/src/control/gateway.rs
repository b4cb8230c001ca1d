//! The supervisor and smbdirectd. The supervisor sends `Configure` first; smbdirectd then drops
//! its privileges, listens, and answers `Ready`. End of file on the socket ends smbdirectd.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{ConnectionId, ControlMessage, QueryId};

/// Supervisor to smbdirectd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGateway {
    /// Once, first.
    Configure(GatewaySettings),
    /// Answered by [`FromGateway::Status`].
    QueryStatus { query: QueryId },
    /// Disconnect everyone and end.
    Shutdown,
}

/// smbdirectd to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGateway {
    /// Configured and running unprivileged; devices may still come and go.
    Ready,
    /// The whole list of addresses listened on, at `Ready` and again whenever it changes.
    Interfaces(Vec<RdmaInterface>),
    /// SMB Direct is negotiated and the first SMB message is in. Carries the child's end of the
    /// relay link.
    Connection {
        connection: ConnectionId,
        peer: SocketAddr,
        local: SocketAddr,
        device: String,
    },
    /// Answers [`ToGateway::QueryStatus`].
    Status {
        query: QueryId,
        connections: Vec<ConnectionStatus>,
        totals: GatewayTotals,
    },
    /// Something an administrator should read, with what to do about it; smbdirectd goes on.
    Problem { text: String },
}

/// What smbdirectd needs of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewaySettings {
    /// User to become once started; 0 stays root (tests).
    pub uid: u32,
    /// Group to become.
    pub gid: u32,
    /// Devices to use by name; none means all.
    pub devices: Vec<String>,
    /// Listen here instead of 445 (5445 on iWARP).
    pub port_override: Option<u16>,
    /// Pinned bytes in all.
    pub memory_budget: u64,
    /// Pinned bytes of one client's region.
    pub client_memory: u64,
    pub max_connections: u32,
    /// MS-SMBD 3.1.1.1, Connection.ReceiveCreditMax.
    pub receive_credits: u16,
    /// Bytes; MS-SMBD 2.2.2, MaxReadWriteSize.
    pub max_read_write: u32,
    /// Bytes; MS-SMBD 2.2.1, MaxReceiveSize.
    pub max_receive_size: u32,
    /// Bytes; MS-SMBD 2.2.1, MaxFragmentedSize.
    pub max_fragmented_receive_size: u32,
}

/// An address smbdirectd listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaInterface {
    pub address: IpAddr,
    /// The RDMA device's name ("rxe0").
    pub device: String,
    /// The port listened on.
    pub port: u16,
    /// Bits per second.
    pub speed: u64,
    /// The network interface's index.
    pub if_index: u32,
}

/// One RDMA connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    pub connection: ConnectionId,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub device: String,
    /// The connection machine's state, for a person.
    pub state: String,
    /// Bytes read from the client (its WRITEs).
    pub rdma_read_bytes: u64,
    /// Bytes written to the client (its READs).
    pub rdma_write_bytes: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    /// Credits the client has granted us and we have not spent.
    pub send_credits: u32,
}

/// Counters of the whole smbdirectd since it started; the first four are what is held now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GatewayTotals {
    pub connections: u64,
    pub queue_pairs: u64,
    pub memory_regions: u64,
    pub pinned_bytes: u64,
    pub rdma_read_bytes: u64,
    pub rdma_write_bytes: u64,
    /// What this process copied into or out of regions: messages, never payload.
    pub region_bytes_copied: u64,
    pub accepted: u64,
    pub refused: u64,
}

impl ControlMessage for ToGateway {
    fn descriptors(&self) -> usize {
        0
    }
}

impl ControlMessage for FromGateway {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Connection { .. }))
    }
}
