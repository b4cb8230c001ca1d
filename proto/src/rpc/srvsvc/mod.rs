//! The server service's interface (MS-SRVS): the calls that list shares and describe the server.

pub mod server;
pub mod session;
pub mod share;

use super::SyntaxId;
use crate::smb2::Guid;

/// 4b324fc8-1670-01d3-1278-5a47bf6ee188, version 3.0 (MS-SRVS 1.9).
pub const INTERFACE: SyntaxId = SyntaxId {
    uuid: Guid([
        0xC8, 0x4F, 0x32, 0x4B, 0x70, 0x16, 0xD3, 0x01, 0x12, 0x78, 0x5A, 0x47, 0xBF, 0x6E, 0xE1,
        0x88,
    ]),
    major: 3,
    minor: 0,
};

pub const NETR_SESSION_ENUM: u16 = 12;
pub const NETR_SHARE_ENUM: u16 = 15;
pub const NETR_SHARE_GET_INFO: u16 = 16;
pub const NETR_SERVER_GET_INFO: u16 = 21;
pub const NETR_REMOTE_TOD: u16 = 28;

/// PLATFORM_ID_NT, for servers and workstations alike (MS-SRVS 2.2.2.6).
pub const PLATFORM_ID_NT: u32 = 500;
