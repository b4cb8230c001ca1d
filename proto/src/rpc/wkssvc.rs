//! The workstation service's interface (MS-WKST): NetrWkstaGetInfo, which clients ask for the
//! server's name and workgroup.

use super::ndr::{NdrReader, NdrWriter};
use super::{SyntaxId, Win32Error};
use crate::smb2::Guid;
use crate::wire::WireError;

/// 6bffd098-a112-3610-9833-46c3f87e345a, version 1.0 (MS-WKST 1.9).
pub const INTERFACE: SyntaxId = SyntaxId {
    uuid: Guid([
        0x98, 0xD0, 0xFF, 0x6B, 0x12, 0xA1, 0x10, 0x36, 0x98, 0x33, 0x46, 0xC3, 0xF8, 0x7E, 0x34,
        0x5A,
    ]),
    major: 1,
    minor: 0,
};

pub const NETR_WKSTA_GET_INFO: u16 = 0;

/// NetrWkstaGetInfo (MS-WKST 3.2.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WkstaGetInfoRequest {
    pub server_name: Option<String>,
    pub level: u32,
}

impl WkstaGetInfoRequest {
    pub fn decode(stub: &[u8]) -> Result<Self, WireError> {
        let mut reader = NdrReader::new(stub);
        Ok(Self {
            server_name: reader.unique_string("ServerName")?,
            level: reader.u32("Level")?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        NdrWriter::default()
            .unique_string(self.server_name.as_deref())
            .u32(self.level)
            .finish()
    }
}

/// WKSTA_INFO_100 (MS-WKST 2.2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WkstaInfo100<'a> {
    pub platform_id: u32,
    pub computer_name: &'a str,
    pub lan_group: &'a str,
    pub version_major: u32,
    pub version_minor: u32,
}

impl WkstaInfo100<'_> {
    pub fn encode(&self) -> Vec<u8> {
        NdrWriter::default()
            .u32(100)
            .pointer()
            .u32(self.platform_id)
            .string_pointer(self.computer_name)
            .string_pointer(self.lan_group)
            .u32(self.version_major)
            .u32(self.version_minor)
            .referents()
            .u32(Win32Error::SUCCESS.0)
            .finish()
    }
}

/// A call of `level` that failed. Levels of the specification have an arm, here a null pointer.
pub fn encode_failure(level: u32, error: Win32Error) -> Vec<u8> {
    let mut writer = NdrWriter::default();
    writer.u32(level);
    if matches!(level, 100..=102 | 502) {
        writer.null();
    }
    writer.u32(error.0).finish()
}
