//! READ (MS-SMB2 2.2.19, 2.2.20). The response's fixed part is encoded alone, so that bulk data
//! is never copied through a message buffer.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};

use super::body::{after_fixed, append_buffer, fixed_part};
use super::ids::{FileId, FileIdWire};
use super::rdma::{Channel, Descriptors};
use crate::wire::{WireError, length_u16};

bitflags! {
    /// MS-SMB2 2.2.19, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ReadFlags: u8 {
        const UNBUFFERED = 0x01;
        const REQUEST_COMPRESSED = 0x02;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest<'a> {
    pub padding: u8,
    pub flags: ReadFlags,
    pub length: u32,
    pub offset: u64,
    pub file_id: FileId,
    pub minimum_count: u32,
    /// The raw Channel field, see [`Channel`].
    pub channel: u32,
    pub remaining_bytes: u32,
    /// ReadChannelInfo, raw; empty when the channel is NONE.
    pub channel_info: &'a [u8],
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        padding: u8,
        flags: u8,
        length: U32,
        offset: U64,
        file_id: FileIdWire,
        minimum_count: U32,
        channel: U32,
        remaining_bytes: U32,
        channel_info_offset: U16,
        channel_info_length: U16,
    }

    struct ResponseWire {
        structure_size: U16,
        data_offset: u8,
        reserved: u8,
        data_length: U32,
        data_remaining: U32,
        flags: U32,
    }
}

impl<'a> ReadRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 49)?;
        Ok(Self {
            padding: wire.padding,
            flags: ReadFlags::from_bits_retain(wire.flags),
            length: wire.length.get(),
            offset: wire.offset.get(),
            file_id: wire.file_id.into(),
            minimum_count: wire.minimum_count.get(),
            channel: wire.channel.get(),
            remaining_bytes: wire.remaining_bytes.get(),
            channel_info: buffers.slice(
                wire.channel_info_offset,
                wire.channel_info_length,
                "ReadChannelInfo",
            )?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 49.into(),
            padding: self.padding,
            flags: self.flags.bits(),
            length: self.length.into(),
            offset: self.offset.into(),
            file_id: self.file_id.into(),
            minimum_count: self.minimum_count.into(),
            channel: self.channel.into(),
            remaining_bytes: self.remaining_bytes.into(),
            channel_info_offset: if self.channel_info.is_empty() {
                0.into()
            } else {
                after_fixed::<RequestWire>().into()
            },
            channel_info_length: length_u16(self.channel_info.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.channel_info);
    }

    /// The Channel field, if it is one the specification knows.
    pub fn channel(&self) -> Result<Channel, u32> {
        Channel::try_from(self.channel)
    }

    /// ReadChannelInfo as V1 descriptors (MS-SMB2 3.3.5.12).
    pub fn descriptors(&self) -> Result<Descriptors<'a>, WireError> {
        Descriptors::new(self.channel_info)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadResponse<'a> {
    /// Bytes that went by RDMA instead of lying in `data`.
    pub data_remaining: u32,
    /// Reserved before 3.1.1; see [`RESPONSE_RDMA_TRANSFORM`].
    pub flags: u32,
    pub data: &'a [u8],
}

/// MS-SMB2 2.2.20, Flags: the buffer holds an SMB2_RDMA_TRANSFORM, and no data.
pub const RESPONSE_RDMA_TRANSFORM: u32 = 0x1;

/// The part of a READ response before its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadResponseFixed {
    /// Bytes of data the caller will send behind this part.
    pub data_length: u32,
    pub data_remaining: u32,
    pub flags: u32,
    /// Zero bytes between this part and the data; DataOffset says so to the client.
    pub padding: u8,
}

impl ReadResponseFixed {
    /// From the start of the header to the data.
    pub const DATA_OFFSET: u8 = after_fixed::<ResponseWire>() as u8;

    /// For data that went by RDMA WRITE (MS-SMB2 3.3.5.12): nothing follows.
    pub const fn rdma(written: u32) -> Self {
        Self {
            data_length: 0,
            data_remaining: written,
            flags: 0,
            padding: 0,
        }
    }

    /// For data that went by RDMA WRITE signed or encrypted: what says how follows, so long.
    pub const fn transformed(written: u32, transform_length: u32) -> Self {
        Self {
            data_length: transform_length,
            data_remaining: written,
            flags: RESPONSE_RDMA_TRANSFORM,
            padding: 0,
        }
    }

    /// For data that follows inline.
    pub const fn inline(data_length: u32) -> Self {
        Self {
            data_length,
            data_remaining: 0,
            flags: 0,
            padding: 0,
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = ResponseWire {
            structure_size: 17.into(),
            data_offset: Self::DATA_OFFSET.saturating_add(self.padding),
            reserved: 0,
            data_length: self.data_length.into(),
            data_remaining: self.data_remaining.into(),
            flags: self.flags.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.resize(out.len() + usize::from(self.padding), 0);
    }
}

impl<'a> ReadResponse<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<ResponseWire>(element, 17)?;
        Ok(Self {
            data_remaining: wire.data_remaining.get(),
            flags: wire.flags.get(),
            data: buffers.slice(wire.data_offset, wire.data_length, "Data")?,
        })
    }

    /// Copies the data; a server with bulk data encodes a [`ReadResponseFixed`] instead.
    pub fn encode(&self, out: &mut Vec<u8>) {
        ReadResponseFixed {
            data_length: crate::wire::length_u32(self.data.len()),
            data_remaining: self.data_remaining,
            flags: self.flags,
            padding: 0,
        }
        .encode(out);
        out.extend_from_slice(self.data);
    }
}
