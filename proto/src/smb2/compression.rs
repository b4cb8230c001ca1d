//! Compressed messages (MS-SMB2 2.2.42): layout only, both the unchained and the chained form. The
//! algorithms, and what sizes are allowed, are the caller's.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::negotiate_context::compression::{LZ4, LZ77, LZ77_HUFFMAN, LZNT1, NONE, PATTERN_V1};
use crate::wire::{Reader, WireError, length_u32};

/// First four bytes of a compressed message.
pub const COMPRESSION_PROTOCOL_ID: [u8; 4] = [0xFC, b'S', b'M', b'B'];
/// MS-SMB2 2.2.42.2.1, Flags: the first payload of a chain.
const FLAG_CHAINED: u16 = 0x0001;

wire_structs! {
    struct UnchainedWire {
        protocol_id: [u8; 4],
        original_size: U32,
        algorithm: U16,
        flags: U16,
        offset: U32,
    }

    struct ChainedWire {
        protocol_id: [u8; 4],
        original_size: U32,
    }

    struct PayloadWire {
        algorithm: U16,
        flags: U16,
        length: U32,
    }

    struct PatternWire {
        byte: u8,
        reserved1: u8,
        reserved2: U16,
        repetitions: U32,
    }
}

/// A compressed message as it came.
#[derive(Debug, Clone)]
pub enum CompressedMessage<'a> {
    Unchained(Unchained<'a>),
    Chained {
        /// Of the whole message.
        original_size: u32,
        payloads: ChainedPayloads<'a>,
    },
}

/// SMB2_COMPRESSION_TRANSFORM_HEADER_UNCHAINED and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unchained<'a> {
    /// Of the compressed part alone.
    pub original_size: u32,
    pub algorithm: u16,
    /// What stands before the compressed part, as it is.
    pub leading: &'a [u8],
    pub compressed: &'a [u8],
}

/// One payload of a chain (MS-SMB2 2.2.42.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainedPayload<'a> {
    /// NONE: these bytes as they are.
    Plain(&'a [u8]),
    /// Pattern_V1: one byte many times (2.2.42.2.2).
    Pattern { byte: u8, repetitions: u32 },
    /// Any other algorithm.
    Compressed {
        algorithm: u16,
        original_size: u32,
        data: &'a [u8],
    },
}

impl<'a> CompressedMessage<'a> {
    /// Size of the unchained header.
    pub const HEADER_SIZE: usize = size_of::<UnchainedWire>();

    pub fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        let wire = reader.fixed::<UnchainedWire>("CompressionTransformHeader")?;
        if wire.protocol_id != COMPRESSION_PROTOCOL_ID {
            return Err(WireError::new("ProtocolId", 0));
        }
        match wire.flags.get() {
            0 => {
                let leading = reader.bytes(wire.offset.get() as usize, "Offset")?;
                Ok(Self::Unchained(Unchained {
                    original_size: wire.original_size.get(),
                    algorithm: wire.algorithm.get(),
                    leading,
                    compressed: reader.remaining(),
                }))
            }
            FLAG_CHAINED => Ok(Self::Chained {
                original_size: wire.original_size.get(),
                payloads: ChainedPayloads {
                    // The payload headers begin where the unchained form has its algorithm.
                    reader: Reader::starting_at(message, size_of::<ChainedWire>(), "Payload")?,
                },
            }),
            _ => Err(WireError::new("Flags", 10)),
        }
    }
}

/// The payloads of a chain; ends behind the last or the first malformed one.
#[derive(Debug, Clone)]
pub struct ChainedPayloads<'a> {
    reader: Reader<'a>,
}

impl<'a> ChainedPayloads<'a> {
    fn read(&mut self) -> Result<ChainedPayload<'a>, WireError> {
        let start = self.reader.offset();
        // Flags say only which payload is the first, and Windows leaves them undefined in others.
        let wire = self.reader.fixed::<PayloadWire>("ChainedPayloadHeader")?;
        let length = wire.length.get() as usize;
        let mut payload = Reader::new(self.reader.bytes(length, "Length")?);
        let wrong_length = |_| WireError::new("Length", start + 4);
        match wire.algorithm.get() {
            NONE => Ok(ChainedPayload::Plain(payload.remaining())),
            PATTERN_V1 => {
                let pattern = payload
                    .fixed::<PatternWire>("Pattern")
                    .map_err(wrong_length)?;
                payload.finish("Length").map_err(wrong_length)?;
                Ok(ChainedPayload::Pattern {
                    byte: pattern.byte,
                    repetitions: pattern.repetitions.get(),
                })
            }
            algorithm @ (LZNT1 | LZ77 | LZ77_HUFFMAN | LZ4) => {
                // Length counts OriginalPayloadSize too.
                let original_size = payload.u32("OriginalPayloadSize").map_err(wrong_length)?;
                Ok(ChainedPayload::Compressed {
                    algorithm,
                    original_size,
                    data: payload.remaining(),
                })
            }
            _ => Err(WireError::new("CompressionAlgorithm", start)),
        }
    }
}

impl<'a> Iterator for ChainedPayloads<'a> {
    type Item = Result<ChainedPayload<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let payload = self.read();
        if payload.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(payload)
    }
}

impl Unchained<'_> {
    /// Appends the whole message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = UnchainedWire {
            protocol_id: COMPRESSION_PROTOCOL_ID,
            original_size: self.original_size.into(),
            algorithm: self.algorithm.into(),
            flags: 0.into(),
            offset: length_u32(self.leading.len()).into(),
        };
        out.extend_from_slice(wire.as_bytes());
        out.extend_from_slice(self.leading);
        out.extend_from_slice(self.compressed);
    }
}

/// Appends a chained message of these payloads.
pub fn encode_chain(original_size: u32, payloads: &[ChainedPayload<'_>], out: &mut Vec<u8>) {
    let wire = ChainedWire {
        protocol_id: COMPRESSION_PROTOCOL_ID,
        original_size: original_size.into(),
    };
    out.extend_from_slice(wire.as_bytes());
    for (index, payload) in payloads.iter().enumerate() {
        payload.encode(index == 0, out);
    }
}

impl ChainedPayload<'_> {
    fn encode(&self, is_first: bool, out: &mut Vec<u8>) {
        let (algorithm, length) = match self {
            Self::Plain(bytes) => (NONE, bytes.len()),
            Self::Pattern { .. } => (PATTERN_V1, size_of::<PatternWire>()),
            Self::Compressed {
                algorithm, data, ..
            } => (*algorithm, size_of::<u32>() + data.len()),
        };
        let wire = PayloadWire {
            algorithm: algorithm.into(),
            flags: if is_first { FLAG_CHAINED } else { 0 }.into(),
            length: length_u32(length).into(),
        };
        out.extend_from_slice(wire.as_bytes());
        match self {
            Self::Plain(bytes) => out.extend_from_slice(bytes),
            Self::Pattern { byte, repetitions } => {
                let wire = PatternWire {
                    byte: *byte,
                    reserved1: 0,
                    reserved2: 0.into(),
                    repetitions: (*repetitions).into(),
                };
                out.extend_from_slice(wire.as_bytes());
            }
            Self::Compressed {
                original_size,
                data,
                ..
            } => {
                out.extend_from_slice(&original_size.to_le_bytes());
                out.extend_from_slice(data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNCHAINED: [u8; 22] = [
        0xFC, b'S', b'M', b'B', 0, 2, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 0xA1, 0xA2, 1, 2, 3, 4,
    ];
    const CHAINED: [u8; 43] = [
        0xFC, b'S', b'M', b'B', 0x0A, 1, 0, 0, // header
        0, 0, 1, 0, 2, 0, 0, 0, 0xA1, 0xA2, // two plain bytes, the first payload
        4, 0, 0, 0, 8, 0, 0, 0, b'x', 0, 0, 0, 0, 1, 0, 0, // 256 times x
        5, 0, 0, 0, 5, 0, 0, 0, 9, // cut: OriginalPayloadSize needs four bytes
    ];

    #[test]
    fn an_unchained_message_has_the_specified_layout() {
        let message = match CompressedMessage::decode(&UNCHAINED) {
            Ok(CompressedMessage::Unchained(message)) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            message,
            Unchained {
                original_size: 512,
                algorithm: LZ4,
                leading: &[0xA1, 0xA2],
                compressed: &[1, 2, 3, 4],
            }
        );
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        assert_eq!(encoded, UNCHAINED);
        for length in 0..18 {
            assert!(CompressedMessage::decode(&UNCHAINED[..length]).is_err());
        }
        for (at, field) in [(0, "ProtocolId"), (10, "Flags"), (15, "Offset")] {
            let mut changed = UNCHAINED;
            changed[at] ^= 0x82;
            assert_eq!(
                CompressedMessage::decode(&changed).unwrap_err().field,
                field
            );
        }
    }

    #[test]
    fn a_chain_ends_with_its_first_malformed_payload() {
        let Ok(CompressedMessage::Chained {
            original_size,
            payloads,
        }) = CompressedMessage::decode(&CHAINED)
        else {
            panic!("not chained");
        };
        assert_eq!(original_size, 266);
        let first = [
            ChainedPayload::Plain(&[0xA1, 0xA2]),
            ChainedPayload::Pattern {
                byte: b'x',
                repetitions: 256,
            },
        ];
        let all: Vec<_> = payloads.collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0], all[1]), (Ok(first[0]), Ok(first[1])));
        assert!(all[2].is_err());
        let mut encoded = Vec::new();
        encode_chain(266, &first, &mut encoded);
        assert_eq!(encoded, CHAINED[..34]);
    }

    #[test]
    fn no_prefix_and_no_changed_byte_makes_the_decoder_panic() {
        for golden in [&UNCHAINED[..], &CHAINED[..]] {
            for at in 0..golden.len() {
                let walk = |bytes: &[u8]| {
                    if let Ok(CompressedMessage::Chained { payloads, .. }) =
                        CompressedMessage::decode(bytes)
                    {
                        assert!(payloads.count() <= bytes.len());
                    }
                };
                walk(&golden[..at]);
                let mut changed = golden.to_vec();
                changed[at] = !changed[at];
                walk(&changed);
            }
        }
    }
}
