//! The supervisor and a child. End of file on the socket ends the child.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{ConnectionId, ControlMessage, QueryId};

/// Supervisor to child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// The whole list a client may learn (FSCTL_QUERY_NETWORK_INTERFACE_INFO), right after the
    /// fork and again whenever it changes.
    Interfaces(Vec<NetworkInterface>),
    /// The broker was restarted; carries the child's end of the link to the new one. The child
    /// sends its state there again.
    Broker,
    /// Answered by [`FromChild::Status`].
    QueryStatus { query: QueryId },
    /// Finish what is under way, close everything, end.
    Shutdown,
}

/// Child to supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// This child serves this client: it owns its ClientGuid, or the client has none that counts.
    Serving { client_guid: [u8; 16] },
    /// A session was authenticated: the child no longer counts among its address's newcomers.
    Authenticated,
    /// Answers [`ToChild::QueryStatus`].
    Status { query: QueryId, status: ChildStatus },
}

/// One address a client may open another channel to (MS-SMB2 2.2.32.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    pub if_index: u32,
    /// RSS_CAPABLE.
    pub rss: bool,
    /// RDMA_CAPABLE.
    pub rdma: bool,
    /// Bits per second.
    pub speed: u64,
    pub address: IpAddr,
}

/// What a child serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChildStatus {
    pub client_guid: [u8; 16],
    /// The dialect revision of NEGOTIATE's answer (0x0311); 0 before it.
    pub dialect: u16,
    pub sessions: u32,
    pub opens: u32,
    /// What this process copied into or out of regions: messages, never payload.
    pub region_bytes_copied: u64,
    pub channels: Vec<ChannelStatus>,
}

/// One connection of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    pub transport: Transport,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// The RDMA device, empty for TCP.
    pub device: String,
    /// smbdirectd's number of it, for a relay.
    pub connection: Option<ConnectionId>,
    /// Authenticated users, empty before that.
    pub users: Vec<String>,
    /// A session on it must be signed or encrypted.
    pub must_protect: bool,
    /// Its client can sign or encrypt payload moved by RDMA (MS-SMB2 2.2.3.1.6).
    pub rdma_transform: bool,
}

/// What carries a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    Tcp,
    Rdma,
}

impl ControlMessage for ToChild {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Broker))
    }
}

impl ControlMessage for FromChild {
    fn descriptors(&self) -> usize {
        0
    }
}
