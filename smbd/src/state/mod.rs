//! What a client has: connections, sessions, tree connects, opens (MS-SMB2 3.3.1).
//!
//! All of it belongs to the child's loop thread; nothing is borrowed across a wait. An identifier
//! is a slab index with a generation, so that a stale one finds nothing. Dropping a connection
//! drops what hangs from it, in order: opens, tree connects, sessions.

mod channel_sequence;
mod connection;
mod open;
mod oplocks;
mod session;
mod tree;

pub use crate::negotiation::Negotiated;
pub use channel_sequence::{ChannelSequence, Sequenced};
pub use connection::Connection;
pub use open::{DiskOpen, HeldLock, MAX_OPENS, NotAdded, Open, OpenFile, Opens, PipeOpen};
pub use oplocks::{Break, Oplocks};
pub use session::{Logon, Purpose, Session, SessionParts, SessionUser, Sessions};
pub use tree::{Tree, TreeKind, Trees};
