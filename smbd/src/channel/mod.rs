//! Channels: one connection of the client, over TCP or over a relay, behind one trait.
//!
//! Dispatch and handlers see only this. A channel delivers whole SMB2 messages, takes whole
//! replies, and, where it has RDMA, moves payload between the client and the child's region.
//! It parses nothing of SMB2 and keeps no state of a session.

mod buffers;
mod followed;
mod payload;
mod region;
mod relay;
mod tcp;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use futures::future::LocalBoxFuture;
use proto::control::ConnectionKind;
use proto::relay::{Descriptor, Outline};
use proto::smb2::NtStatus;

pub use buffers::{Buffers, Message, MessagePart, Piece};
pub use followed::Followed;
pub use payload::{Payload, PayloadSlice};
pub use region::SharedRegion;
pub use relay::RelayChannel;
pub use tcp::TcpChannel;

#[cfg(test)]
pub mod recording;

/// What carries a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Direct TCP (MS-SMB2 2.1), frames with a 4-byte length.
    Tcp,
    /// SMB Direct through smbdirectd.
    Rdma,
}

/// Sizes that bound what a channel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimits {
    /// The largest message that may be sent to the client.
    pub max_send: u32,
    /// The largest message the client may send.
    pub max_receive: u32,
    /// The largest READ or WRITE payload by RDMA; 0 where there is no RDMA.
    pub max_rdma: u32,
}

/// How much may be taken from a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One message, and what follows it is left to whoever will serve the client.
    OneMessage,
    /// Nothing: it is being asked who serves the client, or the channel is at its end.
    Nothing,
    /// Whatever comes.
    Freely,
}

/// A whole reply and what must move before it.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Consecutive pieces of the message (header and body, then bulk data); never copied together
    /// on TCP.
    pub pieces: Vec<Piece>,
    /// READ payloads to write to the client first, in order.
    pub writes: Vec<OutgoingPayload>,
    /// Token to invalidate with the message (SMB2_CHANNEL_RDMA_V1_INVALIDATE, MS-SMB2 2.2.19).
    pub invalidate: Option<u32>,
}

/// One READ's payload and where it goes.
#[derive(Debug)]
pub struct OutgoingPayload {
    /// The extent; given back when smbdirectd says the NIC is done with it.
    pub payload: Payload,
    /// How much of it, from its start; at least 1.
    pub length: u32,
    /// The client's buffers.
    pub descriptors: Vec<Descriptor>,
}

/// Why a channel is at its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The client or smbdirectd closed it; nothing is wrong.
    #[error("closed by the other end")]
    Closed,
    /// The other end broke the framing's rules.
    #[error("{0}")]
    Violation(String),
    /// The kernel refused an operation.
    #[error("{0}")]
    System(String),
}

/// One connection of the client.
///
/// Single-threaded: everything is called from the child's loop. `payload` and `fetch` return
/// futures of their own so that no borrow of the channel lives across a wait.
pub trait Channel {
    /// What the loop waits on: readable while [`Channel::wants_read`], and writable while
    /// [`Channel::flush`] says false.
    fn descriptor(&self) -> BorrowedFd<'_>;
    /// What the descriptor is, for the broker.
    fn kind(&self) -> ConnectionKind;
    /// Over what.
    fn transport(&self) -> Transport;
    /// The client's address.
    fn peer(&self) -> SocketAddr;
    /// The address it reached.
    fn local(&self) -> SocketAddr;
    /// The RDMA device, if any.
    fn device(&self) -> Option<String>;
    /// smbdirectd's number of the connection, if it is one of its own.
    fn gateway_connection(&self) -> Option<u64>;
    /// Sizes, as they are now: some widen when a session is authenticated.
    fn limits(&self) -> ChannelLimits;
    /// The number of the message that is being delivered, for the log; 0 where there is none.
    fn delivering(&self) -> u64 {
        0
    }
    /// Reads what has arrived and hands every whole message to `deliver`, in order. A new channel
    /// reads one message and then nothing until [`Channel::read_on`].
    fn receive(&self, deliver: &mut dyn FnMut(Vec<u8>)) -> Result<(), ChannelError>;
    /// Takes what another process read of a new channel, as if it had just arrived.
    fn replay(&self, preface: &[u8], deliver: &mut dyn FnMut(Vec<u8>)) -> Result<(), ChannelError>;
    /// Says how much may be read from now on.
    fn read_on(&self, reading: Reading);
    /// Whether the loop shall wait for more to read.
    fn wants_read(&self) -> bool;
    /// Whether [`Channel::receive`] has messages that were read already.
    fn has_unread(&self) -> bool;
    /// What was read of a channel that does not read on yet, for another process's `replay`.
    fn preface(&self) -> Vec<u8>;
    /// Whether all that was read is delivered and all that was queued is sent, so that another
    /// process may go on with the bare descriptor.
    fn is_between_messages(&self) -> bool {
        false
    }
    /// Since when a message has been arriving and is not whole.
    fn partial_since(&self) -> Option<Instant>;
    /// Queues a reply.
    fn send(&self, reply: Outgoing);
    /// Pushes out what is queued; true when all of it is gone.
    fn flush(&self) -> Result<bool, ChannelError>;
    /// A session of this channel is authenticated: RDMA rights may be had now.
    fn authenticated(&self);
    /// Whether payload can move by RDMA, now or as soon as smbdirectd has answered.
    fn has_rdma(&self) -> bool;
    /// Memory for a READ's payload. Waits while the client's budget is in use;
    /// INSUFFICIENT_RESOURCES when it can never fit.
    fn payload(&self, length: u32) -> LocalBoxFuture<'static, Result<Payload, NtStatus>>;
    /// A request was accepted that is about to [`Channel::fetch`] so much: the payload of others like
    /// it may be fetched before they are read.
    fn expect(&self, _length: u32, _outline: &dyn Fn() -> Option<Outline>) {}
    /// Memory, filled by RDMA READ from the client's `descriptors` (trimmed to `length`).
    fn fetch(
        &self,
        descriptors: Vec<Descriptor>,
        length: u32,
    ) -> LocalBoxFuture<'static, Result<Payload, NtStatus>>;
    /// Nothing has happened for a while: gives back memory that only a busy channel needs.
    fn relax(&self);
    /// Reads nothing more, and ends the connection after what is queued.
    fn close(&self);
    /// Ends the connection now, whoever still holds this channel.
    fn hang_up(&self);
    /// Whether nothing outside uses this channel's memory any more, so that it may be dropped.
    fn is_drained(&self) -> bool;
}
