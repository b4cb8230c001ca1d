//! The active side: an SMB2 client that tests drive, and that can misbehave.
//!
//! It speaks over any [`Transport`]: TCP, SMB Direct over verbs, SMB Direct over the simulated
//! fabric. Every request can be changed before it leaves ([`Connection::send_raw`]) and sent
//! without waiting ([`Connection::submit`]). It trusts the server as little as the server trusts
//! it: signatures are verified, ids are checked, an unexpected reply is an error.

mod compression;
mod connection;
mod files;
mod interfaces;
mod protection;
mod rdma;
mod session;
pub mod simulated;
mod tcp;
pub mod verbs;

use std::time::Duration;

use proto::smb2::NtStatus;

pub use compression::Compression;
pub use connection::{Connection, Negotiated, Offer, Reply};
pub use files::{OpenOptions, create_body, read_body, split, write_body, write_rdma_body};
pub use protection::{Protection, SealedPayload, write_protected_body};
pub use rdma::{Access, ExposedMemory, RdmaTransport};
pub use session::{Session, Tree};
pub use tcp::Tcp;

/// How long a test waits for an answer before it calls the server hung.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request has no ordinary answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error status.
    #[error("the server answered {0}")]
    Status(NtStatus),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Silence(Duration),
    /// The answer breaks the protocol; a server bug.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// This machine refused something.
    #[error("{0}")]
    Local(String),
}

impl ClientError {
    /// The status, if the server gave one.
    pub fn status(&self) -> Option<NtStatus> {
        match self {
            ClientError::Status(status) => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn protocol(error: impl std::fmt::Display) -> ClientError {
        ClientError::Protocol(error.to_string())
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        match error.kind() {
            WouldBlock | TimedOut => ClientError::Silence(PATIENCE),
            UnexpectedEof | ConnectionReset | BrokenPipe | ConnectionAborted => ClientError::Closed,
            _ => ClientError::Local(error.to_string()),
        }
    }
}

/// What carries whole SMB2 messages.
pub trait Transport {
    /// Sends one message.
    fn send(&mut self, message: &[u8]) -> Result<(), ClientError>;
    /// The next message, or [`ClientError::Silence`] after `patience`.
    fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, ClientError>;
    /// Its RDMA side, if it has one.
    fn rdma(&mut self) -> Option<&mut dyn RdmaTransport> {
        None
    }
}
