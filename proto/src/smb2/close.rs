//! CLOSE (MS-SMB2 2.2.15, 2.2.16).

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};

use super::access::FileAttributes;
use super::body::fixed_part;
use super::ids::{FileId, FileIdWire};
use super::time::FileTime;
use crate::wire::WireError;

bitflags! {
    /// MS-SMB2 2.2.15, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct CloseFlags: u16 {
        const POSTQUERY_ATTRIB = 0x1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseRequest {
    pub flags: CloseFlags,
    pub file_id: FileId,
}

/// All zero unless the request asked for attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloseResponse {
    pub flags: CloseFlags,
    pub creation_time: FileTime,
    pub last_access_time: FileTime,
    pub last_write_time: FileTime,
    pub change_time: FileTime,
    pub allocation_size: u64,
    pub end_of_file: u64,
    pub file_attributes: FileAttributes,
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        flags: U16,
        reserved: U32,
        file_id: FileIdWire,
    }

    struct ResponseWire {
        structure_size: U16,
        flags: U16,
        reserved: U32,
        creation_time: U64,
        last_access_time: U64,
        last_write_time: U64,
        change_time: U64,
        allocation_size: U64,
        end_of_file: U64,
        file_attributes: U32,
    }
}

impl CloseRequest {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        let (wire, _) = fixed_part::<RequestWire>(element, 24)?;
        Ok(Self {
            flags: CloseFlags::from_bits_retain(wire.flags.get()),
            file_id: wire.file_id.into(),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 24.into(),
            flags: self.flags.bits().into(),
            reserved: 0.into(),
            file_id: self.file_id.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}

impl CloseResponse {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        let (wire, _) = fixed_part::<ResponseWire>(element, 60)?;
        Ok(Self {
            flags: CloseFlags::from_bits_retain(wire.flags.get()),
            creation_time: FileTime(wire.creation_time.get()),
            last_access_time: FileTime(wire.last_access_time.get()),
            last_write_time: FileTime(wire.last_write_time.get()),
            change_time: FileTime(wire.change_time.get()),
            allocation_size: wire.allocation_size.get(),
            end_of_file: wire.end_of_file.get(),
            file_attributes: FileAttributes::from_bits_retain(wire.file_attributes.get()),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = ResponseWire {
            structure_size: 60.into(),
            flags: self.flags.bits().into(),
            reserved: 0.into(),
            creation_time: self.creation_time.0.into(),
            last_access_time: self.last_access_time.0.into(),
            last_write_time: self.last_write_time.0.into(),
            change_time: self.change_time.0.into(),
            allocation_size: self.allocation_size.into(),
            end_of_file: self.end_of_file.into(),
            file_attributes: self.file_attributes.bits().into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}
