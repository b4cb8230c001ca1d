//! TREE_CONNECT (MS-SMB2 2.2.9, 2.2.10). Tree connect contexts (remoted identity) are skipped:
//! the path is reached through its own offset with or without the extension.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};

use super::access::AccessMask;
use super::body::{after_fixed, append_buffer, fixed_part};
use crate::wire::{WireError, length_u16};

bitflags! {
    /// MS-SMB2 2.2.9, Flags (3.1.1; reserved before).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct TreeConnectFlags: u16 {
        const CLUSTER_RECONNECT = 0x1;
        const REDIRECT_TO_OWNER = 0x2;
        const EXTENSION_PRESENT = 0x4;
    }

    /// MS-SMB2 2.2.10, ShareFlags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ShareFlags: u32 {
        const DFS = 0x0000_0001;
        const DFS_ROOT = 0x0000_0002;
        const AUTO_CACHING = 0x0000_0010;
        const VDO_CACHING = 0x0000_0020;
        const NO_CACHING = 0x0000_0030;
        const RESTRICT_EXCLUSIVE_OPENS = 0x0000_0100;
        const FORCE_SHARED_DELETE = 0x0000_0200;
        const ALLOW_NAMESPACE_CACHING = 0x0000_0400;
        const ACCESS_BASED_DIRECTORY_ENUM = 0x0000_0800;
        const FORCE_LEVELII_OPLOCK = 0x0000_1000;
        const ENABLE_HASH_V1 = 0x0000_2000;
        const ENABLE_HASH_V2 = 0x0000_4000;
        const ENCRYPT_DATA = 0x0000_8000;
        const IDENTITY_REMOTING = 0x0004_0000;
        const COMPRESS_DATA = 0x0010_0000;
        const ISOLATED_TRANSPORT = 0x0020_0000;
    }

    /// MS-SMB2 2.2.10, Capabilities.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ShareCapabilities: u32 {
        const DFS = 0x008;
        const CONTINUOUS_AVAILABILITY = 0x010;
        const SCALEOUT = 0x020;
        const CLUSTER = 0x040;
        const ASYMMETRIC = 0x080;
        const REDIRECT_TO_OWNER = 0x100;
    }
}

wire_enum! {
    /// MS-SMB2 2.2.10, ShareType.
    pub enum ShareType: u8 {
        Disk = 1,
        Pipe = 2,
        Print = 3,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeConnectRequest<'a> {
    pub flags: TreeConnectFlags,
    /// `\\server\share` in UTF-16LE.
    pub path: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeConnectResponse {
    pub share_type: ShareType,
    pub share_flags: ShareFlags,
    pub capabilities: ShareCapabilities,
    pub maximal_access: AccessMask,
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        flags: U16,
        path_offset: U16,
        path_length: U16,
    }

    struct ResponseWire {
        structure_size: U16,
        share_type: u8,
        reserved: u8,
        share_flags: U32,
        capabilities: U32,
        maximal_access: U32,
    }
}

impl<'a> TreeConnectRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 9)?;
        Ok(Self {
            flags: TreeConnectFlags::from_bits_retain(wire.flags.get()),
            path: buffers.slice(wire.path_offset, wire.path_length, "PathName")?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 9.into(),
            flags: self.flags.bits().into(),
            path_offset: after_fixed::<RequestWire>().into(),
            path_length: length_u16(self.path.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.path);
    }
}

impl TreeConnectResponse {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        let (wire, _) = fixed_part::<ResponseWire>(element, 16)?;
        Ok(Self {
            share_type: ShareType::try_from(wire.share_type)
                .map_err(|_| WireError::new("ShareType", 66))?,
            share_flags: ShareFlags::from_bits_retain(wire.share_flags.get()),
            capabilities: ShareCapabilities::from_bits_retain(wire.capabilities.get()),
            maximal_access: AccessMask::from_bits_retain(wire.maximal_access.get()),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = ResponseWire {
            structure_size: 16.into(),
            share_type: self.share_type.into(),
            reserved: 0,
            share_flags: self.share_flags.bits().into(),
            capabilities: self.capabilities.bits().into(),
            maximal_access: self.maximal_access.bits().into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}
