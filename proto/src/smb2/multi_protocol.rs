//! The SMB1 NEGOTIATE with which an old client asks for SMB2 (MS-SMB2 3.3.5.3, MS-CIFS 2.2.4.52).
//! Only its dialect strings are read; nothing else of SMB1 is spoken.

use crate::wire::{Reader, WireError, length_u16};

/// First four bytes of an SMB1 message.
pub const SMB1_PROTOCOL_ID: [u8; 4] = [0xFF, b'S', b'M', b'B'];

const SMB1_HEADER_SIZE: usize = 32;
const COMMAND_NEGOTIATE: u8 = 0x72;
/// Every dialect string follows this byte.
const BUFFER_FORMAT_DIALECT: u8 = 0x02;

/// What the dialect strings offer of SMB2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MultiProtocolNegotiate {
    /// `SMB 2.???`: answered with dialect 0x02FF, then a second NEGOTIATE follows.
    pub offers_wildcard: bool,
    /// `SMB 2.002`: answered with dialect 2.0.2.
    pub offers_202: bool,
}

impl MultiProtocolNegotiate {
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        if reader.array("Protocol")? != SMB1_PROTOCOL_ID {
            return Err(WireError::new("Protocol", 0));
        }
        if reader.u8("Command")? != COMMAND_NEGOTIATE {
            return Err(WireError::new("Command", 4));
        }
        reader.skip(SMB1_HEADER_SIZE - reader.offset(), "Header")?;
        if reader.u8("WordCount")? != 0 {
            return Err(WireError::new("WordCount", SMB1_HEADER_SIZE));
        }
        let byte_count = reader.u16("ByteCount")?;
        let mut dialects = reader.bytes(byte_count.into(), "Dialects")?;
        let malformed = WireError::new("Dialects", SMB1_HEADER_SIZE + 3);
        let mut offered = Self::default();
        while let Some((format, rest)) = dialects.split_first() {
            let length = rest.iter().position(|byte| *byte == 0).ok_or(malformed)?;
            let (name, rest) = rest.split_at_checked(length).ok_or(malformed)?;
            if *format != BUFFER_FORMAT_DIALECT {
                return Err(malformed);
            }
            offered.offers_wildcard |= name == b"SMB 2.???";
            offered.offers_202 |= name == b"SMB 2.002";
            dialects = rest.get(1..).unwrap_or_default();
        }
        Ok(offered)
    }

    /// The request with which a client offers these dialects.
    pub fn request(dialects: &[&str]) -> Vec<u8> {
        let mut names = Vec::new();
        for name in dialects {
            names.push(BUFFER_FORMAT_DIALECT);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        let mut message = SMB1_PROTOCOL_ID.to_vec();
        message.push(COMMAND_NEGOTIATE);
        message.resize(SMB1_HEADER_SIZE, 0);
        message.push(0);
        message.extend(length_u16(names.len()).to_le_bytes());
        message.extend(names);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(dialects: &[u8]) -> Vec<u8> {
        let mut message = SMB1_PROTOCOL_ID.to_vec();
        message.push(COMMAND_NEGOTIATE);
        message.resize(SMB1_HEADER_SIZE, 0);
        message.extend([0, dialects.len() as u8, 0]);
        message.extend_from_slice(dialects);
        message
    }

    #[test]
    fn smb2_dialects_are_found_among_others() {
        let both = MultiProtocolNegotiate::request(&["NT LM 0.12", "SMB 2.002", "SMB 2.???"]);
        assert_eq!(
            both,
            message(b"\x02NT LM 0.12\0\x02SMB 2.002\0\x02SMB 2.???\0")
        );
        let offered = MultiProtocolNegotiate::decode(&both).unwrap();
        assert!(offered.offers_wildcard && offered.offers_202);
        let old = message(b"\x02NT LM 0.12\0\x02SMB 2.0021\0");
        assert_eq!(
            MultiProtocolNegotiate::decode(&old),
            Ok(MultiProtocolNegotiate::default())
        );
        for length in 0..both.len() {
            assert!(MultiProtocolNegotiate::decode(&both[..length]).is_err());
        }
    }

    #[test]
    fn other_messages_and_unterminated_names_are_refused() {
        let mut other = message(b"");
        other[4] = 0x73;
        let field = |message: &[u8]| MultiProtocolNegotiate::decode(message).unwrap_err().field;
        assert_eq!(field(&other), "Command");
        other[0] = 0xFE;
        assert_eq!(field(&other), "Protocol");
        assert_eq!(field(&message(b"\x02SMB 2.???")), "Dialects");
        assert_eq!(field(&message(b"\x04SMB 2.???\0")), "Dialects");
    }
}
