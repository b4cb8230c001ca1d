//! QUERY_DIRECTORY (MS-SMB2 2.2.33, 2.2.34). The entries are in `info::directory`.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};

use super::body::{after_fixed, append_buffer, fixed_part};
pub use super::buffer_response::BufferResponse as QueryDirectoryResponse;
use super::ids::{FileId, FileIdWire};
use crate::wire::{WireError, length_u16};

bitflags! {
    /// MS-SMB2 2.2.33, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct QueryDirectoryFlags: u8 {
        const RESTART_SCANS = 0x01;
        const RETURN_SINGLE_ENTRY = 0x02;
        const INDEX_SPECIFIED = 0x04;
        const REOPEN = 0x10;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryDirectoryRequest<'a> {
    /// Raw, see [`super::info::FileInfoClass`].
    pub file_information_class: u8,
    pub flags: QueryDirectoryFlags,
    pub file_index: u32,
    pub file_id: FileId,
    /// UTF-16LE with wildcards.
    pub pattern: &'a [u8],
    pub output_buffer_length: u32,
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        file_information_class: u8,
        flags: u8,
        file_index: U32,
        file_id: FileIdWire,
        file_name_offset: U16,
        file_name_length: U16,
        output_buffer_length: U32,
    }
}

impl<'a> QueryDirectoryRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 33)?;
        Ok(Self {
            file_information_class: wire.file_information_class,
            flags: QueryDirectoryFlags::from_bits_retain(wire.flags),
            file_index: wire.file_index.get(),
            file_id: wire.file_id.into(),
            pattern: buffers.slice(wire.file_name_offset, wire.file_name_length, "FileName")?,
            output_buffer_length: wire.output_buffer_length.get(),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 33.into(),
            file_information_class: self.file_information_class,
            flags: self.flags.bits(),
            file_index: self.file_index.into(),
            file_id: self.file_id.into(),
            file_name_offset: after_fixed::<RequestWire>().into(),
            file_name_length: length_u16(self.pattern.len()).into(),
            output_buffer_length: self.output_buffer_length.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.pattern);
    }
}
