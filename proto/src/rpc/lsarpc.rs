//! The local security authority's interface (MS-LSAT), by which clients ask for the names of SIDs.
//! Of its calls none is answered: the server's side binds it and says so.

use super::SyntaxId;
use crate::smb2::Guid;

/// 12345778-1234-abcd-ef00-0123456789ab, version 0.0 (MS-LSAT 1.9).
pub const INTERFACE: SyntaxId = SyntaxId {
    uuid: Guid([
        0x78, 0x57, 0x34, 0x12, 0x34, 0x12, 0xCD, 0xAB, 0xEF, 0x00, 0x01, 0x23, 0x45, 0x67, 0x89,
        0xAB,
    ]),
    major: 0,
    minor: 0,
};
