//! FLUSH (MS-SMB2 2.2.17, 2.2.18).

use zerocopy::little_endian::{U16, U32};

use super::body::fixed_part;
use super::ids::{FileId, FileIdWire};
use crate::wire::WireError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushRequest {
    pub file_id: FileId,
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        reserved1: U16,
        reserved2: U32,
        file_id: FileIdWire,
    }
}

impl FlushRequest {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        let (wire, _) = fixed_part::<RequestWire>(element, 24)?;
        Ok(Self {
            file_id: wire.file_id.into(),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 24.into(),
            reserved1: 0.into(),
            reserved2: 0.into(),
            file_id: self.file_id.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}

empty_messages! {
    /// MS-SMB2 2.2.18.
    pub struct FlushResponse;
}
