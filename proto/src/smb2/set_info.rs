//! SET_INFO (MS-SMB2 2.2.39, 2.2.40). The classes are in `info`.

use zerocopy::little_endian::{U16, U32};

use super::body::{after_fixed, append_buffer, fixed_part};
use super::ids::{FileId, FileIdWire};
use crate::wire::{WireError, length_u32};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetInfoRequest<'a> {
    /// Raw, see [`super::info::InfoType`].
    pub info_type: u8,
    /// Raw, see [`super::info::FileInfoClass`] and [`super::info::FsInfoClass`].
    pub file_info_class: u8,
    /// Raw, see [`super::query_info::SecurityInformation`].
    pub additional_information: u32,
    pub file_id: FileId,
    pub buffer: &'a [u8],
}

/// MS-SMB2 2.2.40: a StructureSize of 2 and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetInfoResponse;

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        info_type: u8,
        file_info_class: u8,
        buffer_length: U32,
        buffer_offset: U16,
        reserved: U16,
        additional_information: U32,
        file_id: FileIdWire,
    }
}

impl<'a> SetInfoRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 33)?;
        Ok(Self {
            info_type: wire.info_type,
            file_info_class: wire.file_info_class,
            additional_information: wire.additional_information.get(),
            file_id: wire.file_id.into(),
            buffer: buffers.slice(wire.buffer_offset, wire.buffer_length, "Buffer")?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 33.into(),
            info_type: self.info_type,
            file_info_class: self.file_info_class,
            buffer_length: length_u32(self.buffer.len()).into(),
            buffer_offset: after_fixed::<RequestWire>().into(),
            reserved: 0.into(),
            additional_information: self.additional_information.into(),
            file_id: self.file_id.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.buffer);
    }
}

impl SetInfoResponse {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        fixed_part::<[u8; 2]>(element, 2)?;
        Ok(Self)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[2, 0]);
    }
}
