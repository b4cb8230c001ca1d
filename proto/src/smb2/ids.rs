//! Identifiers of the protocol, each its own type so that one can't stand in for another.
//! Everything that names a session, tree, message or open uses these; they hold no state.

use std::fmt;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub u64);

impl SessionId {
    /// In a related operation: the session of the element before (MS-SMB2 3.3.5.2.7.2).
    pub const RELATED: Self = Self(u64::MAX);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreeId(pub u32);

impl TreeId {
    /// In a related operation: the tree of the element before (MS-SMB2 3.3.5.2.7.2).
    pub const RELATED: Self = Self(u32::MAX);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MessageId(pub u64);

impl MessageId {
    /// What an oplock or lease break notification carries (MS-SMB2 2.2.23).
    pub const UNSOLICITED: Self = Self(u64::MAX);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AsyncId(pub u64);

/// SMB2_FILEID (MS-SMB2 2.2.14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId {
    pub persistent: u64,
    pub volatile: u64,
}

impl FileId {
    /// In a related operation: the open of the element before (MS-SMB2 3.3.5.2.7.2).
    pub const RELATED: Self = Self {
        persistent: u64::MAX,
        volatile: u64::MAX,
    };
}

/// A GUID in the byte order it has on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    pub const ZERO: Self = Self([0; 16]);
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [d0, d1, d2, d3, e0, e1, f0, f1, g0, g1, node @ ..] = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{g0:02x}{g1:02x}-",
            u32::from_le_bytes([d0, d1, d2, d3]),
            u16::from_le_bytes([e0, e1]),
            u16::from_le_bytes([f0, f1]),
        )?;
        node.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A FileId where a fixed part holds one.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct FileIdWire {
    persistent: U64,
    volatile: U64,
}

impl From<FileId> for FileIdWire {
    fn from(id: FileId) -> Self {
        Self {
            persistent: id.persistent.into(),
            volatile: id.volatile.into(),
        }
    }
}

impl From<FileIdWire> for FileId {
    fn from(id: FileIdWire) -> Self {
        Self {
            persistent: id.persistent.get(),
            volatile: id.volatile.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_prints_in_registry_form() {
        let guid = Guid([
            0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD,
            0xEE, 0xFF,
        ]);
        assert_eq!(guid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
