//! SMB 2.0.2 to 3.1.1 on the wire (MS-SMB2, MS-FSCC): headers, chains, one file a command.
//! Server and test client both use it, so each message goes both ways. A decoder takes one
//! element of a chain (it starts at the SMB2 header) and borrows what varies in length; an
//! encoder appends the body that follows a header. No state, no policy, no crypto, no errno.

#[macro_use]
mod body;
#[macro_use]
mod record;

pub mod access;
mod buffer_response;
pub mod cancel;
pub mod change_notify;
pub mod close;
pub mod compound;
pub mod compression;
pub mod create;
pub mod create_context;
pub mod echo;
pub mod error;
pub mod flush;
pub mod fsctl;
pub mod header;
pub mod ids;
pub mod info;
pub mod ioctl;
pub mod lease;
pub mod lock;
pub mod logoff;
pub mod multi_protocol;
pub mod negotiate;
pub mod negotiate_context;
pub mod notification;
pub mod oplock_break;
pub mod query_directory;
pub mod query_info;
pub mod rdma;
pub mod rdma_transform;
pub mod read;
pub mod session_setup;
pub mod set_info;
pub mod status;
pub mod time;
pub mod transform;
pub mod tree_connect;
pub mod tree_disconnect;
pub mod utf16;
pub mod write;

pub use access::{AccessMask, CreateDisposition, CreateOptions, FileAttributes, ShareAccess};
pub use body::HEADER_SIZE;
pub use compound::{ChainWriter, Element, Elements};
pub use header::{Addressing, Command, Header, HeaderFlags};
pub use ids::{AsyncId, FileId, Guid, MessageId, SessionId, TreeId};
pub use negotiate::Dialect;
pub use rdma::{BufferDescriptorV1, Channel};
pub use status::{NtStatus, Severity};
pub use time::FileTime;

#[cfg(test)]
mod tests;
