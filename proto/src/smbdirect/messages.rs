//! The three messages of [MS-SMBD] 2.2 and the buffer descriptor of 2.2.3.1, little-endian.
//! Decoding reads fields and checks only that the fixed part is there; what the fields may say is
//! checked by the connection machine. Reserved fields are sent as zero and ignored on receipt.

use std::ops::Range;

use thiserror::Error;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The only version of the protocol, [MS-SMBD] 2.2.1.
pub const VERSION: u16 = 0x0100;

/// SMB_DIRECT_RESPONSE_REQUESTED, [MS-SMBD] 2.2.3.
pub const RESPONSE_REQUESTED: u16 = 0x0001;

/// The longest negotiate request that must be accepted; the first receive holds at least this.
pub const NEGOTIATE_RECEIVE_SIZE: u32 = 512;

/// Payload follows the fixed part at the next multiple of eight.
pub const PAYLOAD_OFFSET: u32 = 24;

/// A received message ends before its fixed part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a {message} of {received} bytes, expected at least {minimum}")]
pub struct TooShort {
    pub message: &'static str,
    pub received: usize,
    pub minimum: usize,
}

/// SMBDirect Negotiate Request, [MS-SMBD] 2.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NegotiateRequest {
    pub min_version: u16,
    pub max_version: u16,
    pub credits_requested: u16,
    pub preferred_send_size: u32,
    pub max_receive_size: u32,
    pub max_fragmented_size: u32,
}

/// SMBDirect Negotiate Response, [MS-SMBD] 2.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NegotiateResponse {
    pub min_version: u16,
    pub max_version: u16,
    pub negotiated_version: u16,
    pub credits_requested: u16,
    pub credits_granted: u16,
    /// An NTSTATUS.
    pub status: u32,
    pub max_read_write_size: u32,
    pub preferred_send_size: u32,
    pub max_receive_size: u32,
    pub max_fragmented_size: u32,
}

/// The fixed part of an SMBDirect Data Transfer message, [MS-SMBD] 2.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataTransferHeader {
    /// Absolute: the number of credits the sender would like to hold in all.
    pub credits_requested: u16,
    /// An increment to what the receiver already holds.
    pub credits_granted: u16,
    pub flags: u16,
    /// Bytes of this upper-layer message still to come after this one.
    pub remaining_data_length: u32,
    pub data_offset: u32,
    pub data_length: u32,
}

/// Buffer Descriptor V1, [MS-SMBD] 2.2.3.1: one piece of a peer's registered memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferDescriptorV1 {
    pub offset: u64,
    pub token: u32,
    pub length: u32,
}

impl NegotiateRequest {
    pub const SIZE: usize = size_of::<NegotiateRequestBytes>();

    /// Bytes after the fixed part are ignored.
    pub fn decode(message: &[u8]) -> Result<Self, TooShort> {
        let wire = NegotiateRequestBytes::read(message, "negotiate request")?;
        Ok(Self {
            min_version: wire.min_version.get(),
            max_version: wire.max_version.get(),
            credits_requested: wire.credits_requested.get(),
            preferred_send_size: wire.preferred_send_size.get(),
            max_receive_size: wire.max_receive_size.get(),
            max_fragmented_size: wire.max_fragmented_size.get(),
        })
    }

    pub fn encode(&self) -> [u8; Self::SIZE] {
        zerocopy::transmute!(NegotiateRequestBytes {
            min_version: self.min_version.into(),
            max_version: self.max_version.into(),
            reserved: U16::ZERO,
            credits_requested: self.credits_requested.into(),
            preferred_send_size: self.preferred_send_size.into(),
            max_receive_size: self.max_receive_size.into(),
            max_fragmented_size: self.max_fragmented_size.into(),
        })
    }
}

impl NegotiateResponse {
    pub const SIZE: usize = size_of::<NegotiateResponseBytes>();

    /// A refusal carries the two versions and the status; all else is zero, [MS-SMBD] 3.1.5.3.
    pub const fn refusal(status: u32) -> Self {
        Self {
            min_version: VERSION,
            max_version: VERSION,
            negotiated_version: 0,
            credits_requested: 0,
            credits_granted: 0,
            status,
            max_read_write_size: 0,
            preferred_send_size: 0,
            max_receive_size: 0,
            max_fragmented_size: 0,
        }
    }

    /// Bytes after the fixed part are ignored.
    pub fn decode(message: &[u8]) -> Result<Self, TooShort> {
        let wire = NegotiateResponseBytes::read(message, "negotiate response")?;
        Ok(Self {
            min_version: wire.min_version.get(),
            max_version: wire.max_version.get(),
            negotiated_version: wire.negotiated_version.get(),
            credits_requested: wire.credits_requested.get(),
            credits_granted: wire.credits_granted.get(),
            status: wire.status.get(),
            max_read_write_size: wire.max_read_write_size.get(),
            preferred_send_size: wire.preferred_send_size.get(),
            max_receive_size: wire.max_receive_size.get(),
            max_fragmented_size: wire.max_fragmented_size.get(),
        })
    }

    pub fn encode(&self) -> [u8; Self::SIZE] {
        zerocopy::transmute!(NegotiateResponseBytes {
            min_version: self.min_version.into(),
            max_version: self.max_version.into(),
            negotiated_version: self.negotiated_version.into(),
            reserved: U16::ZERO,
            credits_requested: self.credits_requested.into(),
            credits_granted: self.credits_granted.into(),
            status: self.status.into(),
            max_read_write_size: self.max_read_write_size.into(),
            preferred_send_size: self.preferred_send_size.into(),
            max_receive_size: self.max_receive_size.into(),
            max_fragmented_size: self.max_fragmented_size.into(),
        })
    }
}

impl DataTransferHeader {
    /// A message without payload is exactly this long: no padding follows, [MS-SMBD] 2.2.3.
    pub const SIZE: usize = size_of::<DataTransferBytes>();

    pub fn decode(message: &[u8]) -> Result<Self, TooShort> {
        let wire = DataTransferBytes::read(message, "data transfer message")?;
        Ok(Self {
            credits_requested: wire.credits_requested.get(),
            credits_granted: wire.credits_granted.get(),
            flags: wire.flags.get(),
            remaining_data_length: wire.remaining_data_length.get(),
            data_offset: wire.data_offset.get(),
            data_length: wire.data_length.get(),
        })
    }

    /// The fixed part alone. A sender with payload adds zeroes up to `PAYLOAD_OFFSET`.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        zerocopy::transmute!(DataTransferBytes {
            credits_requested: self.credits_requested.into(),
            credits_granted: self.credits_granted.into(),
            flags: self.flags.into(),
            reserved: U16::ZERO,
            remaining_data_length: self.remaining_data_length.into(),
            data_offset: self.data_offset.into(),
            data_length: self.data_length.into(),
        })
    }

    pub fn response_requested(&self) -> bool {
        self.flags & RESPONSE_REQUESTED != 0
    }

    /// Where the payload lies in a message of `received` bytes; `None` where it does not fit.
    /// An offset inside the fixed part is legal, [MS-SMBD] 3.1.5.8 asks only for alignment.
    pub fn payload_range(&self, received: usize) -> Option<Range<usize>> {
        let start = u64::from(self.data_offset);
        let end = start + u64::from(self.data_length);
        if end > received as u64 {
            return None;
        }
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

impl BufferDescriptorV1 {
    pub const SIZE: usize = size_of::<BufferDescriptorBytes>();

    pub fn decode(bytes: &[u8]) -> Result<Self, TooShort> {
        let wire = BufferDescriptorBytes::read(bytes, "buffer descriptor")?;
        Ok(Self {
            offset: wire.offset.get(),
            token: wire.token.get(),
            length: wire.length.get(),
        })
    }

    pub fn encode(&self) -> [u8; Self::SIZE] {
        zerocopy::transmute!(BufferDescriptorBytes {
            offset: self.offset.into(),
            token: self.token.into(),
            length: self.length.into(),
        })
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct NegotiateRequestBytes {
    min_version: U16,
    max_version: U16,
    reserved: U16,
    credits_requested: U16,
    preferred_send_size: U32,
    max_receive_size: U32,
    max_fragmented_size: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct NegotiateResponseBytes {
    min_version: U16,
    max_version: U16,
    negotiated_version: U16,
    reserved: U16,
    credits_requested: U16,
    credits_granted: U16,
    status: U32,
    max_read_write_size: U32,
    preferred_send_size: U32,
    max_receive_size: U32,
    max_fragmented_size: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DataTransferBytes {
    credits_requested: U16,
    credits_granted: U16,
    flags: U16,
    reserved: U16,
    remaining_data_length: U32,
    data_offset: U32,
    data_length: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BufferDescriptorBytes {
    offset: U64,
    token: U32,
    length: U32,
}

/// Reads the fixed part off the front of a message.
trait FixedPart: FromBytes + Sized {
    fn read(bytes: &[u8], message: &'static str) -> Result<Self, TooShort> {
        match Self::read_from_prefix(bytes) {
            Ok((fixed, _rest)) => Ok(fixed),
            Err(_) => Err(TooShort {
                message,
                received: bytes.len(),
                minimum: size_of::<Self>(),
            }),
        }
    }
}

impl FixedPart for NegotiateRequestBytes {}
impl FixedPart for NegotiateResponseBytes {}
impl FixedPart for DataTransferBytes {}
impl FixedPart for BufferDescriptorBytes {}
