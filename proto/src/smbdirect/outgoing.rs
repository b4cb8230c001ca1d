//! A message on its way out: the bytes of its header, and by name what follows them.

use super::messages::NegotiateResponse;
use super::send_queue::Payload;

/// One message to post, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub header: Header,
    /// The bytes that follow the header; a negotiate or empty message has none.
    pub payload: Option<Payload>,
    /// The payload completes its upper-layer message.
    pub last_of_message: bool,
    /// Post as SEND_WITH_INVALIDATE of this token, or as a plain SEND where the device cannot.
    pub invalidate: Option<u32>,
    /// Disconnect once this one has been sent.
    pub disconnect_after: bool,
}

/// The bytes of a message up to its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; Header::MAX],
    length: u8,
}

impl Header {
    /// The longest header: a negotiate response.
    pub const MAX: usize = NegotiateResponse::SIZE;

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// `message`, and zeroes after it up to `length`.
    pub(super) fn padded<const N: usize>(message: [u8; N], length: u8) -> Self {
        let mut bytes = [0; Self::MAX];
        for (to, from) in bytes.iter_mut().zip(message) {
            *to = from;
        }
        Self { bytes, length }
    }
}

impl Outgoing {
    pub(super) fn without_payload(header: Header) -> Self {
        Self {
            header,
            payload: None,
            last_of_message: false,
            invalidate: None,
            disconnect_after: false,
        }
    }
}
