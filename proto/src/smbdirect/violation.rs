//! Why a connection ends: the rules a peer can break, one variant each, and the other reasons.
//! The connection latches the first; the driver logs it and disconnects.

use thiserror::Error;

use super::messages::{TooShort, VERSION};
use super::parameters::{SMALLEST_FRAGMENTED_SIZE, SMALLEST_RECEIVE_SIZE};

/// A rule of [MS-SMBD] the peer broke. The connection ends, with no answer to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PeerViolation {
    /// 3.1.5.6, 3.1.5.7, 3.1.5.8: the fixed part is not all there.
    #[error("received {0}")]
    TooShort(#[from] TooShort),
    /// 3.1.5.6, 3.1.5.7, 3.1.5.8: a peer asks for at least one credit, always.
    #[error("received CreditsRequested 0, expected at least 1")]
    NoCreditsRequested,
    /// 3.1.5.7: an active side without credits could never send.
    #[error("received a negotiate response with CreditsGranted 0, expected at least 1")]
    NoCreditsGranted,
    #[error("received MaxReceiveSize {received}, expected at least {SMALLEST_RECEIVE_SIZE}")]
    MaxReceiveSize { received: u32 },
    #[error("received MaxFragmentedSize {received}, expected at least {SMALLEST_FRAGMENTED_SIZE}")]
    MaxFragmentedSize { received: u32 },
    /// 3.1.5.7.
    #[error("received NegotiatedVersion {received:#06x}, expected {VERSION:#06x}")]
    NegotiatedVersion { received: u16 },
    /// 3.1.5.7: the peer would send more than the buffers posted for it hold.
    #[error("received PreferredSendSize {received}, expected at most MaxReceiveSize {maximum}")]
    PreferredSendSize { received: u32, maximum: u32 },
    /// 3.1.5.7.
    #[error("received negotiate response status {status:#010x}, expected success")]
    NegotiateRefused { status: u32 },
    /// 3.1.5.8: nothing may be sent before negotiation is over.
    #[error("received a message while the connection was {state}, expected none")]
    UnexpectedMessage { state: &'static str },
    /// 3.1.5.1: each message spends a credit.
    #[error("received a message for which no credit was granted")]
    NoCreditHeld,
    /// 3.1.1.1: SendCredits is counted in sixteen bits, as the grants are.
    #[error("received CreditsGranted {received} on top of {held}, expected at most 65535 in all")]
    TooManyCreditsGranted { received: u16, held: u16 },
    /// 3.1.5.8.
    #[error("received DataOffset {received}, expected a multiple of 8")]
    DataOffsetAlignment { received: u32 },
    /// 3.1.5.8.
    #[error(
        "received DataOffset {data_offset} and DataLength {data_length}, \
         expected both inside the {message_length} bytes of the message"
    )]
    DataOutsideMessage {
        data_offset: u32,
        data_length: u32,
        message_length: usize,
    },
    /// 3.1.5.8.
    #[error(
        "received DataLength {data_length} and RemainingDataLength {remaining}, \
         expected at most MaxFragmentedSize {maximum} together"
    )]
    MessageTooLong {
        data_length: u32,
        remaining: u32,
        maximum: u32,
    },
    /// 3.1.5.8: fragments of one message are contiguous and count down without a gap.
    #[error(
        "received a fragment with DataLength {data_length} and RemainingDataLength {remaining}, \
         expected them to make up the {due} bytes still due"
    )]
    FragmentLength {
        data_length: u32,
        remaining: u32,
        due: u32,
    },
    /// The connection had ended for another reason before this message was looked at.
    #[error("received a message after the connection was closed")]
    AfterClose,
}

/// Why a connection is closed. The first reason stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CloseReason {
    #[error("the peer broke the protocol: {0}")]
    Violation(PeerViolation),
    /// 3.1.6.1.
    #[error("negotiation did not finish in time")]
    NegotiateTimeout,
    /// 3.1.6.2.
    #[error("the peer gave no sign of life after it was asked for one")]
    KeepaliveTimeout,
    /// The peer could have sent the rest of a message, and did not.
    #[error("the peer left a message incomplete for too long")]
    PartialMessageTimeout,
    /// The answer named the only version there is, 3.1.5.6.
    #[error("the peer speaks no version of SMB Direct that is known here")]
    VersionNotSupported,
    /// No receive was posted in time, so no credit could be granted, 3.1.5.6.
    #[error("no receive buffer was available for the connection")]
    NoReceiveBuffers,
    #[error("the peer disconnected")]
    PeerDisconnected,
    /// A work request or the queue pair failed.
    #[error("the transport failed")]
    TransportError,
    #[error("closed from this side")]
    Local,
}
