//! The transform header in front of an encrypted message (MS-SMB2 2.2.41): layout only. Keys, nonces
//! and ciphers are the security layer's.

use zerocopy::little_endian::{U16, U32, U64};

use super::ids::SessionId;
use crate::wire::{Reader, WireError};

/// First four bytes of an encrypted message.
pub const TRANSFORM_PROTOCOL_ID: [u8; 4] = [0xFD, b'S', b'M', b'B'];

/// SMB2 TRANSFORM_HEADER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformHeader {
    pub signature: [u8; 16],
    /// 11 bytes are used by CCM, 12 by GCM; the rest is zero.
    pub nonce: [u8; 16],
    pub original_message_size: u32,
    /// 1 says encrypted: Flags in 3.1.1, EncryptionAlgorithm before.
    pub flags: u16,
    pub session_id: SessionId,
}

wire_structs! {
    struct TransformWire {
        protocol_id: [u8; 4],
        signature: [u8; 16],
        nonce: [u8; 16],
        original_message_size: U32,
        reserved: U16,
        flags: U16,
        session_id: U64,
    }
}

impl TransformHeader {
    pub const SIZE: usize = size_of::<TransformWire>();
    /// The authenticated part reaches from the nonce to the end of the header.
    pub const AUTHENTICATED_OFFSET: usize = 20;
    pub const FLAG_ENCRYPTED: u16 = 1;

    /// Decodes the header; the ciphertext is what follows its [`SIZE`](Self::SIZE) bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let wire = Reader::new(bytes).fixed::<TransformWire>("TransformHeader")?;
        if wire.protocol_id != TRANSFORM_PROTOCOL_ID {
            return Err(WireError::new("ProtocolId", 0));
        }
        Ok(Self {
            signature: wire.signature,
            nonce: wire.nonce,
            original_message_size: wire.original_message_size.get(),
            flags: wire.flags.get(),
            session_id: SessionId(wire.session_id.get()),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = TransformWire {
            protocol_id: TRANSFORM_PROTOCOL_ID,
            signature: self.signature,
            nonce: self.nonce,
            original_message_size: self.original_message_size.into(),
            reserved: 0.into(),
            flags: self.flags.into(),
            session_id: self.session_id.0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_header_has_the_specified_layout() {
        let mut golden = vec![0xFD, b'S', b'M', b'B'];
        golden.extend([0xAA; 16]);
        golden.extend([0xBB; 16]);
        golden.extend([0x34, 0x12, 0, 0, 0, 0, 1, 0]);
        golden.extend([9, 0, 0, 0, 0, 0, 0, 8]);
        let header = TransformHeader {
            signature: [0xAA; 16],
            nonce: [0xBB; 16],
            original_message_size: 0x1234,
            flags: TransformHeader::FLAG_ENCRYPTED,
            session_id: SessionId(0x0800_0000_0000_0009),
        };
        let mut encoded = Vec::new();
        header.encode(&mut encoded);
        assert_eq!(encoded, golden);
        assert_eq!(encoded.len(), TransformHeader::SIZE);
        assert_eq!(TransformHeader::decode(&golden), Ok(header));
        for length in 0..golden.len() {
            assert!(TransformHeader::decode(&golden[..length]).is_err());
        }
    }
}
