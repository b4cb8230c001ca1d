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
    /// Some of the connections, before the [`FromGateway::Status`] of the same query: all of them
    /// do not fit one datagram.
    Connections {
        query: QueryId,
        connections: Vec<ConnectionStatus>,
    },
    /// Answers [`ToGateway::QueryStatus`].
    Status {
        query: QueryId,
        totals: GatewayTotals,
        devices: Vec<DeviceStatus>,
        unheard: Vec<UnheardAddress>,
        ended: Vec<EndedConnection>,
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
    /// Seconds of silence; MS-SMBD 3.1.2.2, Idle Connection Timer.
    pub keepalive_interval_s: u32,
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

/// An address of an RDMA device nobody listens on, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnheardAddress {
    pub address: IpAddr,
    pub why: Unheard,
    /// What smbdirectd said of it, with what to do.
    pub text: String,
}

/// Why an address of a device is not listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unheard {
    /// Somebody else has the port.
    PortTaken,
    /// The port may not be bound.
    NotPermitted,
    /// No more memory may be locked.
    MemoryLock,
    /// The device's port is not active.
    PortDown,
    /// The configuration names other devices.
    NotWanted,
    /// The device is soft-RoCE on a port of the address's interface, and takes no packets for that.
    DeviceOnPort,
    /// Something else; the text says what.
    Other,
}

/// A device in use, what it can do and what that leaves of the configured limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    pub name: String,
    pub iwarp: bool,
    /// The most it holds: work requests a queue, completions a queue.
    pub max_work_requests: u32,
    pub max_completions: u32,
    /// RDMA READs it may have outstanding.
    pub max_reads: u8,
    pub send_with_invalidate: bool,
    /// Bits per second.
    pub speed: u64,
    /// Bytes of a packet's payload; 0 if unknown.
    pub mtu: u32,
    /// A sentence for each limit that is lower than configured because of the device.
    pub lowered: Vec<String>,
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
    /// The process that serves it; None until one has said so. The supervisor's knowledge.
    pub child_pid: Option<i32>,
    /// Since it was accepted, in seconds.
    pub age_s: u64,
    pub limits: ConnectionLimits,
    pub credits: ConnectionCredits,
    pub counts: ConnectionCounts,
    /// Bytes of RDMA memory granted to its client, which all the client's connections share.
    pub region_bytes: u64,
}

/// What both sides agreed on; sizes in bytes, 0 before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectionLimits {
    /// Payload of one message to the client.
    pub max_send_payload: u32,
    /// A message from the client, headers included.
    pub max_receive_size: u32,
    /// A whole SMB message to the client, and from it.
    pub max_fragmented_send_size: u32,
    pub max_fragmented_receive_size: u32,
    pub max_read_write_size: u32,
    /// RDMA READs towards the client at a time.
    pub reads: u32,
    /// RDMA READs and WRITEs in the send queue at a time.
    pub rdma_depth: u32,
    /// SENDs in the send queue at a time.
    pub sends: u16,
}

/// Credits as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectionCredits {
    /// The client's, which smbdirectd may spend.
    pub held: u16,
    /// smbdirectd's, which the client may spend; and how many it should have.
    pub granted: u16,
    pub target: u16,
    /// Receive buffers posted.
    pub posted: u16,
    /// Granted, and received, since the connection began.
    pub granted_total: u64,
    pub received_total: u64,
}

/// What happened on a connection since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectionCounts {
    pub messages_in: u64,
    pub messages_out: u64,
    pub fragments_in: u64,
    pub fragments_out: u64,
    /// Messages without payload: credits and signs of life.
    pub empty_in: u64,
    pub empty_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Signs of life the client asked for, and smbdirectd did.
    pub keepalives_in: u64,
    pub keepalives_out: u64,
    /// RDMA READs done, and bytes read from the client (its WRITEs).
    pub rdma_reads: u64,
    pub rdma_read_bytes: u64,
    /// RDMA WRITEs done, and bytes written to the client (its READs).
    pub rdma_writes: u64,
    pub rdma_write_bytes: u64,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedConnection {
    pub connection: ConnectionId,
    pub peer: SocketAddr,
    pub device: String,
    /// How long ago, and how long it lived, in seconds.
    pub ago_s: u64,
    pub lived_s: u64,
    /// In one word.
    pub reason: String,
    /// A sentence that names the client, and the descriptor if one is to blame.
    pub message: String,
    pub counts: ConnectionCounts,
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
