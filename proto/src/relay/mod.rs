//! Records between smbdirectd and a child, over one relay link per RDMA connection.
//!
//! ARCHITECTURE.md ("Relay") says what each record means, its bound, and who owns which memory
//! when. This module encodes and decodes them and holds the limits; `smbdirectd/src/relay` and
//! `smbd/src/channel/relay.rs` drive them. Both ends are hostile to each other: a record is
//! decoded from a private copy, every length is checked against the record that carries it, and
//! an unknown kind is an error. All integers are little-endian; a record starts with its length
//! (a multiple of 8, header included) and its kind.

mod decode;
mod encode;
mod outline;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use decode::{Records, RelayError, ToChildRecords, ToGatewayRecords};
pub use outline::{MAX_WORDS, Outline, Word, word_at};

/// Both ends come from one build; another value ends the connection.
pub const VERSION: u16 = 1;
/// A whole SMB message travels inside its record up to this size; before `attach` it must.
pub const MAX_INLINE: u32 = 64 * 1024;
/// Once attached, messages up to this size still travel inside their record: a copy by the
/// kernel costs less than a slot and a second look at shared memory.
pub const INLINE_PREFERRED: u32 = 4096;
/// More RDMA descriptors in one operation are STATUS_INVALID_PARAMETER before they get here.
pub const MAX_DESCRIPTORS: usize = 256;
/// A reply may carry the payload of this many READs of its compound.
pub const MAX_WRITES: usize = 8;
/// Messages smbdirectd may have announced that the child has not released.
pub const MAX_MESSAGES: u32 = 256;
/// Extents a child may lend on a connection for payloads that are fetched ahead.
pub const MAX_LOANS: usize = 32;
/// Operations (`read_payload`, `reply` and `lend`) a child may have unfinished on a connection.
pub const MAX_OPERATIONS: u32 = 512;
/// The length, kind and flags before each record's body, in bytes.
pub const RECORD_HEADER: usize = 8;
/// Bytes either end keeps for the other at most: MAX_OPERATIONS replies (more than what
/// smbdirectd owes: MAX_MESSAGES messages), each with a full inline message and 8 KiB beside it.
pub const BACKLOG: usize = (MAX_OPERATIONS as usize) * (MAX_INLINE as usize + 8192);

/// Buffer Descriptor V1 (MS-SMBD 2.2.3.1) as it stands in a record.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Descriptor {
    /// Remote address.
    pub offset: U64,
    /// Steering tag.
    pub token: U32,
    /// Bytes behind it.
    pub length: U32,
}

/// Names an operation; the child chooses, smbdirectd echoes it. Nothing but the log depends on
/// what [`OperationId::message`] makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub u64);

/// Bits of an operation's number below its message's.
const OPERATION_BITS: u32 = 20;

impl OperationId {
    /// The `count`-th operation of a connection, for this message (0 for none). Of those unfinished
    /// no two are the same: there are [`MAX_OPERATIONS`] at most.
    pub fn of(message: u64, count: u64) -> OperationId {
        OperationId(message << OPERATION_BITS | count & ((1 << OPERATION_BITS) - 1))
    }

    /// The message it is for, as far as the child says so; 0 for none.
    pub fn message(self) -> u64 {
        self.0 >> OPERATION_BITS
    }
}

/// What logs call a message, smbdirectd's and the child's alike: `CONNECTION.MESSAGE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageName {
    /// smbdirectd's number of the connection.
    pub connection: u64,
    /// The message's on it.
    pub message: u64,
}

impl fmt::Display for MessageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.connection, self.message)
    }
}

/// Numbers the messages of a connection from 1 up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageSequence(pub u64);

/// Bytes of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionRange {
    /// From the region's start.
    pub offset: u64,
    /// At least 1, at most a part.
    pub length: u32,
}

/// What a child must know of its connection before its first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The client.
    pub peer: SocketAddr,
    /// The address the client reached.
    pub local: SocketAddr,
    /// Name of the RDMA device.
    pub device: String,
    /// Which of smbdirectd's connections this is, for logs and `smbd status`.
    pub connection: u64,
    /// The device's active speed, bit/s; 0 if unknown.
    pub link_speed: u64,
    /// The largest READ or WRITE that may move by RDMA, in bytes.
    pub max_read_write: u32,
    /// The largest SMB message the client takes (its MaxFragmentedSize).
    pub max_send: u32,
    /// The largest SMB message the client may send (our MaxFragmentedSize).
    pub max_receive: u32,
    /// Messages that may be announced and not released.
    pub max_messages: u32,
    /// Operations that may be unfinished.
    pub max_operations: u32,
    /// SEND_WITH_INV may be used on this device.
    pub invalidate: bool,
}

/// Where a message's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// In the record.
    Inline(&'a [u8]),
    /// In the region: for `message` in the connection's ring, for `reply` in the payload area.
    InRegion(RegionRange),
}

/// What smbdirectd's answer to `attach` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Bytes of the whole region.
    pub region_size: u64,
    /// Where the payload area starts.
    pub payload_offset: u64,
    /// Bytes of a part.
    pub part_size: u32,
    /// Parts granted now.
    pub parts: u32,
    /// Parts this client may ever have.
    pub max_parts: u32,
    /// Where this connection's message ring starts.
    pub ring_offset: u64,
    /// Bytes of the ring.
    pub ring_size: u32,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// The bytes moved.
    Done = 0,
    /// The connection failed before or while they did; `closed` follows.
    ConnectionLost = 1,
}

/// Why a connection ends; either end may say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseReason {
    /// The client went away.
    PeerDisconnected = 1,
    /// The client broke MS-SMBD.
    PeerViolation = 2,
    /// The client did not answer in time.
    TimedOut = 3,
    /// The device failed a work request or went away.
    DeviceError = 4,
    /// The child broke the relay's rules.
    RelayViolation = 5,
    /// The server ends it: logoff, error, shutdown.
    ServerClosed = 6,
    /// A limit was reached; the log says which.
    LimitReached = 7,
}

/// smbdirectd → child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToChild<'a> {
    /// First record of every relay.
    Hello(Hello),
    /// A whole SMB message has arrived.
    Message {
        /// Its number, to be released.
        sequence: MessageSequence,
        /// Its bytes.
        body: Body<'a>,
    },
    /// The payload of the `message` that follows is on its way into what this `lend` named;
    /// `payload_ready` says when it is there.
    Ahead {
        /// Which.
        operation: OperationId,
        /// How long it is; from the range's start.
        length: u32,
    },
    /// What this `lend` named is the child's again: nothing was fetched there.
    Returned {
        /// Which.
        operation: OperationId,
    },
    /// `attach` was granted. The memfd comes with it when the child had none.
    Attached(Attached),
    /// `attach` was refused: the memory budget is used up. The child serves without RDMA payload.
    AttachRefused,
    /// `grow` was answered: this many parts may be used now.
    Grown {
        /// Total granted.
        parts: u32,
    },
    /// The RDMA READs of a `read_payload` have ended; with `Done` the bytes are in the region.
    PayloadReady {
        /// Which.
        operation: OperationId,
        /// How.
        outcome: Outcome,
    },
    /// The NIC reads nothing of this reply any more; its memory is the child's again.
    Sent {
        /// Which.
        operation: OperationId,
        /// How.
        outcome: Outcome,
    },
    /// No more messages will come and nothing can be sent.
    Closed {
        /// Why.
        reason: CloseReason,
    },
    /// No work request of this connection is left: all its memory is the child's.
    Drained,
}

/// One READ's payload, written to the client before the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadWrite<'a> {
    /// The bytes.
    pub source: RegionRange,
    /// Where they go; the sum of lengths is at least `source.length`, the rest is trimmed.
    pub descriptors: &'a [Descriptor],
}

/// child → smbdirectd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGateway<'a> {
    /// Asks for RDMA rights, once, when a session is authenticated. A child that has a region
    /// already sends its memfd along; the memfd's identity names it.
    Attach,
    /// The region is mapped and may be sealed; nothing may name it before.
    Mapped,
    /// Every message up to this one is consumed.
    Release {
        /// The newest consumed.
        through: MessageSequence,
    },
    /// RDMA READ from the client into the region.
    ReadPayload {
        /// Names the answer.
        operation: OperationId,
        /// Where the bytes go; its length is what is read.
        target: RegionRange,
        /// Where they are; trimmed to `target.length`.
        descriptors: &'a [Descriptor],
    },
    /// From now on the payload of a message of this outline may be fetched into what is lent, before
    /// the child has seen it. Takes the place of an outline before it.
    Expect {
        /// Only such messages' payload may move unasked.
        outline: Outline,
    },
    /// Memory for a payload fetched ahead; an operation until it is returned or its payload ready.
    Lend {
        /// Names the answer.
        operation: OperationId,
        /// Where the bytes may go.
        target: RegionRange,
    },
    /// Nothing is expected any more, and what is lent and not used is to be returned.
    Recall,
    /// RDMA WRITEs, then the message, in one chain.
    Reply {
        /// Names the answer.
        operation: OperationId,
        /// Token to invalidate with the message's last SEND.
        invalidate: Option<u32>,
        /// READ payloads, first to last.
        writes: Vec<PayloadWrite<'a>>,
        /// The whole SMB message.
        body: Body<'a>,
    },
    /// Asks that this many parts (in total) may be used.
    Grow {
        /// Total wanted.
        parts: u32,
    },
    /// Ends the connection: what is queued is sent first.
    Close {
        /// Why.
        reason: CloseReason,
    },
}
