//! DCE/RPC as named pipes carry it: connection-oriented PDUs (C706 chapter 12, MS-RPCE), NDR 2.0
//! (C706 chapter 14) and the calls of srvsvc and wkssvc a file server is asked for.
//!
//! Wire formats alone: which context is bound and what a call answers is the server's. Both sides
//! are little-endian, the only data representation Windows and Samba send.

pub mod bind;
pub mod lsarpc;
pub mod ndr;
pub mod pdu;
pub mod srvsvc;
pub mod wkssvc;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::smb2::Guid;
use crate::wire::{Reader, WireError, Writer};

/// p_syntax_id_t (C706 12.6.3.1): an interface or a transfer syntax, with its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntaxId {
    pub uuid: Guid,
    pub major: u16,
    pub minor: u16,
}

impl SyntaxId {
    /// What a result names that accepts nothing.
    pub const NONE: Self = Self {
        uuid: Guid::ZERO,
        major: 0,
        minor: 0,
    };
    /// NDR 2.0, 8a885d04-1ceb-11c9-9fe8-08002b104860 (C706 appendix I).
    pub const NDR20: Self = Self {
        uuid: Guid([
            0x04, 0x5D, 0x88, 0x8A, 0xEB, 0x1C, 0xC9, 0x11, 0x9F, 0xE8, 0x08, 0x00, 0x2B, 0x10,
            0x48, 0x60,
        ]),
        major: 2,
        minor: 0,
    };
    /// NDR64, 71710533-beba-4937-8319-b5dbef9ccc36 (MS-RPCE 2.2.4.12).
    pub const NDR64: Self = Self {
        uuid: Guid([
            0x33, 0x05, 0x71, 0x71, 0xBA, 0xBE, 0x37, 0x49, 0x83, 0x19, 0xB5, 0xDB, 0xEF, 0x9C,
            0xCC, 0x36,
        ]),
        major: 1,
        minor: 0,
    };

    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            uuid: Guid(reader.array("if_uuid")?),
            major: reader.u16("if_version")?,
            minor: reader.u16("if_version")?,
        })
    }

    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.bytes(&self.uuid.0).u16(self.major).u16(self.minor);
    }

    /// Whether a server of this interface may serve a client that asks for `wanted`: same major
    /// version, no newer minor one (C706 2.2.5).
    pub fn serves(&self, wanted: &Self) -> bool {
        self.uuid == wanted.uuid && self.major == wanted.major && self.minor >= wanted.minor
    }
}

/// What a call of these interfaces returns: a Win32 error (MS-ERREF 2.2), or one of the network
/// management errors from 2100 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Win32Error(pub u32);

impl Win32Error {
    pub const SUCCESS: Self = Self(0);
    pub const ACCESS_DENIED: Self = Self(5);
    pub const INVALID_LEVEL: Self = Self(124);
    pub const MORE_DATA: Self = Self(234);
    pub const NET_NAME_NOT_FOUND: Self = Self(2310);
}

/// The status of a fault PDU (C706 appendix E, MS-RPCE 2.2.2.11).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultStatus(pub u32);

impl FaultStatus {
    /// nca_s_fault_access_denied.
    pub const ACCESS_DENIED: Self = Self(0x0000_0005);
    /// RPC_X_BAD_STUB_DATA: the parameters can't be unmarshalled.
    pub const BAD_STUB_DATA: Self = Self(0x0000_06F7);
    /// nca_s_fault_context_mismatch.
    pub const CONTEXT_MISMATCH: Self = Self(0x1C00_001A);
    /// nca_s_fault_remote_no_memory.
    pub const REMOTE_NO_MEMORY: Self = Self(0x1C00_001B);
    /// nca_s_op_rng_error: no operation of that number.
    pub const OP_RANGE_ERROR: Self = Self(0x1C01_0002);
    /// nca_s_unk_if: no interface bound to that context.
    pub const UNKNOWN_INTERFACE: Self = Self(0x1C01_0003);
    /// nca_s_proto_error.
    pub const PROTOCOL_ERROR: Self = Self(0x1C01_000B);
}

impl fmt::Debug for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}
