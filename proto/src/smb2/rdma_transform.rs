//! RDMA transform: how a payload that moves by RDMA is signed or encrypted (MS-SMB2 2.2.43,
//! 2.2.43.1). A WRITE request says it in its channel information, with the descriptors behind it; a
//! READ response says it in its buffer. Keys and ciphers are the session's, nothing here knows them.

use zerocopy::little_endian::{U16, U32};

use super::rdma::{Channel, Descriptors};
use crate::wire::{Reader, WireError, length_u16};

/// Transforms, and descriptors behind them, start at a multiple of this (MS-SMB2 2.2.43.1, Padding).
const ALIGNMENT: usize = 8;

wire_enum! {
    /// MS-SMB2 2.2.43.1, TransformType.
    pub enum TransformType: u16 {
        Encryption = 1,
        Signing = 2,
    }
}

wire_structs! {
    struct TransformWire {
        descriptor_offset: U16,
        descriptor_length: U16,
        channel: U32,
        transform_count: U16,
        reserved1: U16,
        reserved2: U32,
    }

    struct CryptoWire {
        transform_type: U16,
        signature_length: U16,
        nonce_length: U16,
        reserved: U16,
    }
}

/// SMB2_RDMA_CRYPTO_TRANSFORM (MS-SMB2 2.2.43.1). How long signature and nonce must be depends on
/// the algorithm, so that is checked by whoever verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CryptoTransform<'a> {
    pub transform_type: TransformType,
    /// The signature, or the tag of the encryption.
    pub signature: &'a [u8],
    /// Empty where the algorithm takes none.
    pub nonce: &'a [u8],
}

/// SMB2_RDMA_TRANSFORM (MS-SMB2 2.2.43) and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdmaTransform<'a> {
    /// What the descriptors are: V1 with or without invalidation, NONE in a READ response.
    pub channel: Channel,
    /// The one transform: two of a type, and both types together, are refused (3.3.5.13), so there
    /// is never a second.
    pub crypto: CryptoTransform<'a>,
    /// The descriptors, raw; empty without a channel.
    pub descriptors: &'a [u8],
}

impl<'a> CryptoTransform<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let type_error = reader.error("TransformType");
        let wire = reader.fixed::<CryptoWire>("SMB2_RDMA_CRYPTO_TRANSFORM")?;
        Ok(Self {
            transform_type: TransformType::try_from(wire.transform_type.get())
                .map_err(|_| type_error)?,
            signature: reader.bytes(wire.signature_length.get().into(), "Signature")?,
            nonce: reader.bytes(wire.nonce_length.get().into(), "Nonce")?,
        })
    }
}

impl<'a> RdmaTransform<'a> {
    /// Reads channel information or a READ response's buffer; bytes behind the descriptors are
    /// ignored.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let wire = reader.fixed::<TransformWire>("SMB2_RDMA_TRANSFORM")?;
        let channel = match Channel::try_from(wire.channel.get()) {
            Ok(Channel::RdmaTransform) | Err(_) => return Err(WireError::new("Channel", 4)),
            Ok(channel) => channel,
        };
        if wire.transform_count.get() != 1 {
            return Err(WireError::new("TransformCount", 8));
        }
        let crypto = CryptoTransform::read(&mut reader)?;
        let descriptors = match channel {
            Channel::None => &[],
            _ => {
                let behind = reader.offset().next_multiple_of(ALIGNMENT);
                if usize::from(wire.descriptor_offset.get()) != behind {
                    return Err(WireError::new("RdmaDescriptorOffset", 0));
                }
                reader.skip(behind - reader.offset(), "Padding")?;
                reader.bytes(wire.descriptor_length.get().into(), "RdmaDescriptor")?
            }
        };
        Ok(Self {
            channel,
            crypto,
            descriptors,
        })
    }

    /// Appends it; `out` must stand at an 8-aligned offset of the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let crypto = size_of::<TransformWire>() + size_of::<CryptoWire>();
        let length = crypto + self.crypto.signature.len() + self.crypto.nonce.len();
        let behind = length.next_multiple_of(ALIGNMENT);
        let descriptor_offset = match self.channel {
            Channel::None => 0,
            _ => length_u16(behind),
        };
        let start = out.len();
        let wire = TransformWire {
            descriptor_offset: descriptor_offset.into(),
            descriptor_length: length_u16(self.descriptors.len()).into(),
            channel: u32::from(self.channel).into(),
            transform_count: 1.into(),
            reserved1: 0.into(),
            reserved2: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        let wire = CryptoWire {
            transform_type: u16::from(self.crypto.transform_type).into(),
            signature_length: length_u16(self.crypto.signature.len()).into(),
            nonce_length: length_u16(self.crypto.nonce.len()).into(),
            reserved: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend_from_slice(self.crypto.signature);
        out.extend_from_slice(self.crypto.nonce);
        out.resize(start + behind, 0);
        out.extend_from_slice(self.descriptors);
    }
}

/// The channel information of a READ or WRITE, whichever of its forms it has.
#[derive(Debug, Clone)]
pub struct ChannelInformation<'a> {
    pub descriptors: Descriptors<'a>,
    /// The first descriptor's token is to be invalidated with the response (3.3.5.12, 3.3.5.13).
    pub invalidate: bool,
    /// How the payload is protected, if the channel is RDMA_TRANSFORM.
    pub crypto: Option<CryptoTransform<'a>>,
}

impl<'a> ChannelInformation<'a> {
    /// `None` without a channel.
    pub fn decode(channel: Channel, bytes: &'a [u8]) -> Result<Option<Self>, WireError> {
        let (channel, crypto, descriptors) = match channel {
            Channel::None => return Ok(None),
            Channel::RdmaV1 | Channel::RdmaV1Invalidate => (channel, None, bytes),
            Channel::RdmaTransform => {
                let transform = RdmaTransform::decode(bytes)?;
                if transform.channel == Channel::None {
                    return Err(WireError::new("Channel", 4));
                }
                (
                    transform.channel,
                    Some(transform.crypto),
                    transform.descriptors,
                )
            }
        };
        Ok(Some(Self {
            descriptors: Descriptors::new(descriptors)?,
            invalidate: channel == Channel::RdmaV1Invalidate,
            crypto,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smb2::BufferDescriptorV1;
    use proptest::prelude::*;

    const SIGNATURE: [u8; 16] = [0xA5; 16];
    const NONCE: [u8; 12] = [0x5A; 12];

    #[rustfmt::skip]
    const SIGNED_WRITE: [u8; 72] = [
        // SMB2_RDMA_TRANSFORM: descriptors at 56, 16 bytes, V1 with invalidation, one transform.
        56, 0, 16, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        // SMB2_RDMA_CRYPTO_TRANSFORM: signing, 16 bytes of signature, 12 of nonce, 4 of padding.
        2, 0, 16, 0, 12, 0, 0, 0,
        0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5,
        0x5A, 0x5A, 0x5A, 0x5A, 0x5A, 0x5A, 0x5A, 0x5A, 0x5A, 0x5A, 0x5A, 0x5A, 0, 0, 0, 0,
        0x00, 0x10, 0, 0, 0, 0x7F, 0, 0, 0x44, 0x33, 0x22, 0x11, 0x00, 0x00, 0x10, 0x00,
    ];

    fn signed_write(descriptors: &[u8]) -> RdmaTransform<'_> {
        RdmaTransform {
            channel: Channel::RdmaV1Invalidate,
            crypto: CryptoTransform {
                transform_type: TransformType::Signing,
                signature: &SIGNATURE,
                nonce: &NONCE,
            },
            descriptors,
        }
    }

    fn descriptor() -> Vec<u8> {
        let mut bytes = Vec::new();
        BufferDescriptorV1 {
            offset: 0x7F00_0000_1000,
            token: 0x1122_3344,
            length: 0x10_0000,
        }
        .encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_signed_write_says_where_its_descriptors_are() {
        let descriptors = descriptor();
        let mut encoded = Vec::new();
        signed_write(&descriptors).encode(&mut encoded);
        assert_eq!(encoded, SIGNED_WRITE);
        assert_eq!(
            RdmaTransform::decode(&SIGNED_WRITE),
            Ok(signed_write(&descriptors))
        );
        let info = ChannelInformation::decode(Channel::RdmaTransform, &SIGNED_WRITE)
            .unwrap()
            .unwrap();
        assert!(info.invalidate);
        assert_eq!(info.descriptors.total_length(), 0x10_0000);
        assert_eq!(info.crypto.unwrap().nonce, NONCE);
    }

    /// What Windows answers is 40 bytes without a nonce, 56 with one.
    #[test]
    fn a_read_response_has_no_descriptors_and_is_padded() {
        for (nonce, length) in [(&NONCE[..0], 40), (&NONCE[..11], 56), (&NONCE[..], 56)] {
            let transform = RdmaTransform {
                channel: Channel::None,
                crypto: CryptoTransform {
                    transform_type: TransformType::Encryption,
                    signature: &SIGNATURE,
                    nonce,
                },
                descriptors: &[],
            };
            let mut encoded = Vec::new();
            transform.encode(&mut encoded);
            assert_eq!(encoded.len(), length);
            assert_eq!(encoded[..4], [0; 4], "no descriptors");
            assert_eq!(RdmaTransform::decode(&encoded), Ok(transform));
        }
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        let refused: [(&str, usize, u8); 8] = [
            ("TransformCount", 8, 0),
            ("TransformCount", 8, 2),
            ("Channel", 4, 3),
            ("Channel", 4, 9),
            ("TransformType", 16, 0),
            ("TransformType", 16, 3),
            ("RdmaDescriptorOffset", 0, 52),
            ("RdmaDescriptor", 2, 17),
        ];
        for (field, at, value) in refused {
            let mut bytes = SIGNED_WRITE;
            bytes[at] = value;
            let error = RdmaTransform::decode(&bytes).unwrap_err();
            assert_eq!(error.field, field, "byte {at} = {value}");
        }
        let mut bytes = SIGNED_WRITE;
        bytes[4] = 0;
        assert!(RdmaTransform::decode(&bytes).is_ok(), "a response's");
        let request = ChannelInformation::decode(Channel::RdmaTransform, &bytes);
        assert_eq!(request.unwrap_err().field, "Channel", "not a request's");
    }

    #[test]
    fn lengths_are_told_as_they_are_and_stay_inside() {
        // One byte of signature more than an algorithm makes: still well formed.
        let longer = RdmaTransform {
            crypto: CryptoTransform {
                signature: &[1; 17],
                ..signed_write(&[]).crypto
            },
            ..signed_write(&[])
        };
        let mut encoded = Vec::new();
        longer.encode(&mut encoded);
        assert_eq!(RdmaTransform::decode(&encoded), Ok(longer));
        for (at, field) in [(18, "Signature"), (20, "Nonce")] {
            let mut bytes = SIGNED_WRITE;
            bytes[at..at + 2].fill(0xFF);
            assert_eq!(RdmaTransform::decode(&bytes).unwrap_err().field, field);
        }
        for length in 0..SIGNED_WRITE.len() {
            assert!(RdmaTransform::decode(&SIGNED_WRITE[..length]).is_err());
        }
        let followed = [&SIGNED_WRITE[..], &[0xEE; 24]].concat();
        assert!(RdmaTransform::decode(&followed).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..120), count in 0u8..3) {
            let mut bytes = bytes;
            let _ = RdmaTransform::decode(&bytes);
            // Past the header's checks.
            if let Some(head) = bytes.get_mut(..18) {
                head[4..16].copy_from_slice(&[1, 0, 0, 0, count, 0, 0, 0, 0, 0, 0, 0]);
                head[16..].copy_from_slice(&[1, 0]);
            }
            for channel in [Channel::None, Channel::RdmaV1, Channel::RdmaTransform] {
                if let Ok(Some(info)) = ChannelInformation::decode(channel, &bytes) {
                    prop_assert!(info.descriptors.len() * 16 <= bytes.len());
                }
            }
        }

        #[test]
        fn what_was_encoded_comes_back(
            signature in proptest::collection::vec(any::<u8>(), 0..40),
            nonce in proptest::collection::vec(any::<u8>(), 0..20),
            descriptors in 0usize..5,
        ) {
            let transform = RdmaTransform {
                channel: Channel::RdmaV1,
                crypto: CryptoTransform {
                    transform_type: TransformType::Encryption,
                    signature: &signature,
                    nonce: &nonce,
                },
                descriptors: &vec![7; descriptors * 16],
            };
            let mut encoded = Vec::new();
            transform.encode(&mut encoded);
            prop_assert_eq!(RdmaTransform::decode(&encoded), Ok(transform));
        }
    }
}
