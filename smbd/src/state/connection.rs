//! Connections (MS-SMB2 3.3.1.7): what has been negotiated on one channel.

use std::cell::OnceCell;
use std::rc::Rc;

use proto::smb2::negotiate::Capabilities;
use proto::smb2::{Dialect, Guid};

use crate::channel::Channel;

/// One connection of the client.
pub struct Connection {
    /// Numbers the process's connections, for logs.
    pub id: u64,
    /// What carries it.
    pub channel: Rc<dyn Channel>,
    /// Set by NEGOTIATE, once.
    pub negotiated: OnceCell<Negotiated>,
}

/// What NEGOTIATE settled.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// Connection.Dialect.
    pub dialect: Dialect,
    /// Connection.ClientGuid.
    pub client_guid: Guid,
    /// Connection.ServerCapabilities.
    pub capabilities: Capabilities,
    /// Connection.MaxTransactSize.
    pub max_transact: u32,
    /// Connection.MaxReadSize.
    pub max_read: u32,
    /// Connection.MaxWriteSize.
    pub max_write: u32,
}

impl Connection {
    /// Connection.MaxTransactSize.
    pub fn max_transact(&self) -> u32 {
        self.negotiated.get().map_or(0, |found| found.max_transact)
    }

    /// Connection.MaxReadSize.
    pub fn max_read(&self) -> u32 {
        self.negotiated.get().map_or(0, |found| found.max_read)
    }

    /// Connection.MaxWriteSize.
    pub fn max_write(&self) -> u32 {
        self.negotiated.get().map_or(0, |found| found.max_write)
    }
}
