//! Control messages between the processes: one enum per direction, `serde` over `postcard`.
//!
//! Every control socket is an inherited `SOCK_SEQPACKET` pair (`shm::link::SocketLink`). A process
//! that is executed finds its end as descriptor 0 ([`CONTROL_DESCRIPTOR`]). Messages without
//! descriptors share datagrams; a message that carries descriptors is alone in its datagram, and
//! its variant says which descriptors those are. Both ends come from one build, so there is no
//! version; whatever does not decode ends the peer that sent it.

pub mod broker;
pub mod child;
pub mod gateway;
pub mod status;
#[cfg(test)]
mod tests;
pub mod zygote;

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where an executed process (zygote, broker, smbdirectd) finds its control socket: standard input.
pub const CONTROL_DESCRIPTOR: i32 = 0;
/// Bytes a control link keeps for an end that does not read; a claim or a pass is the longest
/// message (its preface, [`MAX_PREFACE`]), and 64 of them may wait.
pub const BACKLOG: usize = 64 * MAX_PREFACE;
/// The longest preface: a NEGOTIATE message, or a relay's first datagrams (`hello` and one inline
/// message). It leaves a datagram (128 KiB) room for the rest of the message.
pub const MAX_PREFACE: usize = 96 * 1024;

/// A child process, numbered by the supervisor and never reused while it runs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ChildId(pub u64);

/// An RDMA connection, numbered by smbdirectd and never reused while it runs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ConnectionId(pub u64);

/// A status query, numbered by who asks and echoed in the answer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct QueryId(pub u64);

/// What a connection's descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConnectionKind {
    /// A TCP socket; its messages have the 4-byte length prefix of MS-SMB2 2.1.
    Tcp,
    /// A relay link to smbdirectd; its messages are `proto::relay` records.
    Relay,
}

/// A datagram that is not what its sender should send. The sender is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The bytes at this offset decode to no message.
    #[error("control message at byte {offset} of a datagram can't be decoded")]
    Malformed {
        /// Where the message starts in its datagram.
        offset: usize,
    },
    /// The message came with another number of descriptors than it carries.
    #[error("control message with {found} descriptors instead of {expected}")]
    Descriptors {
        /// What came.
        found: usize,
        /// What the message's variant carries.
        expected: usize,
    },
}

/// A message of a control socket: knows how many descriptors it carries.
pub trait ControlMessage: Serialize + DeserializeOwned {
    /// Descriptors that travel with this message.
    fn descriptors(&self) -> usize;
}

/// Appends the message's bytes.
///
/// Serializing into memory fails for no type of this module; if it did, nothing would be appended
/// and the peer would end this process for an empty message, so nothing is hidden.
pub fn encode<M: ControlMessage>(message: &M, out: &mut Vec<u8>) {
    if let Ok(bytes) = postcard::to_stdvec(message) {
        out.extend_from_slice(&bytes);
    }
}

/// The messages of a datagram, which came with `descriptors` descriptors.
pub fn decode<M: ControlMessage>(bytes: &[u8], descriptors: usize) -> Messages<'_, M> {
    Messages {
        bytes,
        offset: 0,
        descriptors,
        message: PhantomData,
    }
}

/// Iterates over a datagram; ends after the first error.
#[derive(Debug)]
pub struct Messages<'a, M> {
    bytes: &'a [u8],
    offset: usize,
    descriptors: usize,
    message: PhantomData<M>,
}

impl<M: ControlMessage> Iterator for Messages<'_, M> {
    type Item = Result<M, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self
            .bytes
            .get(self.offset..)
            .filter(|left| !left.is_empty())?;
        let offset = self.offset;
        let Ok((message, rest)) = postcard::take_from_bytes::<M>(left) else {
            self.offset = self.bytes.len();
            return Some(Err(ControlError::Malformed { offset }));
        };
        self.offset = self.bytes.len() - rest.len();
        let alone = offset == 0 && rest.is_empty();
        let expected = message.descriptors();
        if expected != self.descriptors || (expected != 0 && !alone) {
            self.offset = self.bytes.len();
            return Some(Err(ControlError::Descriptors {
                found: self.descriptors,
                expected,
            }));
        }
        Some(Ok(message))
    }
}
