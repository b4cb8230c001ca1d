//! QUERY_INFO (MS-SMB2 2.2.37, 2.2.38). The classes are in `info`.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};

use super::body::{after_fixed, append_buffer, fixed_part};
pub use super::buffer_response::BufferResponse as QueryInfoResponse;
use super::ids::{FileId, FileIdWire};
use crate::wire::{WireError, length_u32};

bitflags! {
    /// MS-SMB2 2.2.37, AdditionalInformation of a security query (also of SET_INFO).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct SecurityInformation: u32 {
        const OWNER = 0x0000_0001;
        const GROUP = 0x0000_0002;
        const DACL = 0x0000_0004;
        const SACL = 0x0000_0008;
        const LABEL = 0x0000_0010;
        const ATTRIBUTE = 0x0000_0020;
        const SCOPE = 0x0000_0040;
        const BACKUP = 0x0001_0000;
    }

    /// MS-SMB2 2.2.37, Flags of an extended attribute query.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct QueryInfoFlags: u32 {
        const RESTART_SCAN = 0x1;
        const RETURN_SINGLE_ENTRY = 0x2;
        const INDEX_SPECIFIED = 0x4;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryInfoRequest<'a> {
    /// Raw, see [`super::info::InfoType`].
    pub info_type: u8,
    /// Raw, see [`super::info::FileInfoClass`] and [`super::info::FsInfoClass`].
    pub file_info_class: u8,
    pub output_buffer_length: u32,
    /// Raw: a [`SecurityInformation`] or the index of an extended attribute.
    pub additional_information: u32,
    pub flags: QueryInfoFlags,
    pub file_id: FileId,
    pub input: &'a [u8],
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        info_type: u8,
        file_info_class: u8,
        output_buffer_length: U32,
        input_buffer_offset: U16,
        reserved: U16,
        input_buffer_length: U32,
        additional_information: U32,
        flags: U32,
        file_id: FileIdWire,
    }
}

impl<'a> QueryInfoRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 41)?;
        Ok(Self {
            info_type: wire.info_type,
            file_info_class: wire.file_info_class,
            output_buffer_length: wire.output_buffer_length.get(),
            additional_information: wire.additional_information.get(),
            flags: QueryInfoFlags::from_bits_retain(wire.flags.get()),
            file_id: wire.file_id.into(),
            input: buffers.slice(
                wire.input_buffer_offset,
                wire.input_buffer_length,
                "InputBuffer",
            )?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 41.into(),
            info_type: self.info_type,
            file_info_class: self.file_info_class,
            output_buffer_length: self.output_buffer_length.into(),
            input_buffer_offset: if self.input.is_empty() {
                0.into()
            } else {
                after_fixed::<RequestWire>().into()
            },
            reserved: 0.into(),
            input_buffer_length: length_u32(self.input.len()).into(),
            additional_information: self.additional_information.into(),
            flags: self.flags.bits().into(),
            file_id: self.file_id.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.input);
    }
}
