//! WRITE (MS-SMB2 2.2.21, 2.2.22). With an RDMA channel the data is empty and RemainingBytes
//! says how much the descriptors hold.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};

use super::body::{HEADER_SIZE, after_fixed, append_buffer, fixed_part};
use super::ids::{FileId, FileIdWire};
use super::rdma::{Channel, Descriptors};
use crate::wire::{WireError, length_u16, length_u32};

/// A larger DataOffset is refused (MS-SMB2 3.3.5.13).
const MAX_DATA_OFFSET: u16 = 0x100;

bitflags! {
    /// MS-SMB2 2.2.21, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct WriteFlags: u32 {
        const WRITE_THROUGH = 0x1;
        const WRITE_UNBUFFERED = 0x2;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteRequest<'a> {
    pub offset: u64,
    pub file_id: FileId,
    /// The raw Channel field, see [`Channel`].
    pub channel: u32,
    pub remaining_bytes: u32,
    pub flags: WriteFlags,
    /// WriteChannelInfo, raw; empty when the channel is NONE.
    pub channel_info: &'a [u8],
    pub data: &'a [u8],
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        data_offset: U16,
        length: U32,
        offset: U64,
        file_id: FileIdWire,
        channel: U32,
        remaining_bytes: U32,
        channel_info_offset: U16,
        channel_info_length: U16,
        flags: U32,
    }

    struct ResponseWire {
        structure_size: U16,
        reserved: U16,
        count: U32,
        remaining: U32,
        channel_info_offset: U16,
        channel_info_length: U16,
    }
}

impl<'a> WriteRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 49)?;
        let has_inline_data = wire.length.get() != 0;
        if has_inline_data && wire.data_offset.get() > MAX_DATA_OFFSET {
            return Err(WireError::new("DataOffset", HEADER_SIZE + 2));
        }
        Ok(Self {
            offset: wire.offset.get(),
            file_id: wire.file_id.into(),
            channel: wire.channel.get(),
            remaining_bytes: wire.remaining_bytes.get(),
            flags: WriteFlags::from_bits_retain(wire.flags.get()),
            channel_info: buffers.slice(
                wire.channel_info_offset,
                wire.channel_info_length,
                "WriteChannelInfo",
            )?,
            data: buffers.slice(wire.data_offset, wire.length, "Data")?,
        })
    }

    /// Channel information comes first, the data behind it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let info_offset = after_fixed::<RequestWire>();
        let wire = RequestWire {
            structure_size: 49.into(),
            // 3.2.4.7: without inline data both Length and DataOffset are zero.
            data_offset: if self.data.is_empty() && !self.channel_info.is_empty() {
                0.into()
            } else {
                length_u16(usize::from(info_offset) + self.channel_info.len()).into()
            },
            length: length_u32(self.data.len()).into(),
            offset: self.offset.into(),
            file_id: self.file_id.into(),
            channel: self.channel.into(),
            remaining_bytes: self.remaining_bytes.into(),
            channel_info_offset: if self.channel_info.is_empty() {
                0.into()
            } else {
                info_offset.into()
            },
            channel_info_length: length_u16(self.channel_info.len()).into(),
            flags: self.flags.bits().into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend_from_slice(self.channel_info);
        if self.channel_info.is_empty() {
            append_buffer(out, self.data);
        } else {
            out.extend_from_slice(self.data);
        }
    }

    /// The Channel field, if it is one the specification knows.
    pub fn channel(&self) -> Result<Channel, u32> {
        Channel::try_from(self.channel)
    }

    /// WriteChannelInfo as V1 descriptors (MS-SMB2 3.3.5.13).
    pub fn descriptors(&self) -> Result<Descriptors<'a>, WireError> {
        Descriptors::new(self.channel_info)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteResponse {
    pub count: u32,
}

impl WriteResponse {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        let (wire, _) = fixed_part::<ResponseWire>(element, 17)?;
        Ok(Self {
            count: wire.count.get(),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = ResponseWire {
            structure_size: 17.into(),
            reserved: 0.into(),
            count: self.count.into(),
            remaining: 0.into(),
            channel_info_offset: 0.into(),
            channel_info_length: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}
