//! Negotiate contexts of 3.1.1 (MS-SMB2 2.2.3.1, 2.2.4.1). A list is walked as raw contexts;
//! the known ones have typed views, and an unknown one is the caller's to ignore.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};

use crate::wire::{Reader, WireError, length_u16};

/// MS-SMB2 2.2.3.1, ContextType.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContextType(pub u16);

impl ContextType {
    pub const PREAUTH_INTEGRITY_CAPABILITIES: Self = Self(0x0001);
    pub const ENCRYPTION_CAPABILITIES: Self = Self(0x0002);
    pub const COMPRESSION_CAPABILITIES: Self = Self(0x0003);
    pub const NETNAME_NEGOTIATE_CONTEXT_ID: Self = Self(0x0005);
    pub const TRANSPORT_CAPABILITIES: Self = Self(0x0006);
    pub const RDMA_TRANSFORM_CAPABILITIES: Self = Self(0x0007);
    pub const SIGNING_CAPABILITIES: Self = Self(0x0008);
    pub const CONTEXTTYPE_RESERVED: Self = Self(0x0100);
}

/// MS-SMB2 2.2.3.1.1: the one hash algorithm there is.
pub const SHA_512: u16 = 0x0001;

/// MS-SMB2 2.2.3.1.2, Ciphers.
pub mod cipher {
    pub const AES_128_CCM: u16 = 0x0001;
    pub const AES_128_GCM: u16 = 0x0002;
    pub const AES_256_CCM: u16 = 0x0003;
    pub const AES_256_GCM: u16 = 0x0004;
}

/// MS-SMB2 2.2.3.1.3, CompressionAlgorithms.
pub mod compression {
    pub const NONE: u16 = 0x0000;
    pub const LZNT1: u16 = 0x0001;
    pub const LZ77: u16 = 0x0002;
    pub const LZ77_HUFFMAN: u16 = 0x0003;
    pub const PATTERN_V1: u16 = 0x0004;
    pub const LZ4: u16 = 0x0005;
}

/// MS-SMB2 2.2.3.1.6, RDMATransformIds.
pub mod rdma_transform {
    pub const NONE: u16 = 0x0000;
    pub const ENCRYPTION: u16 = 0x0001;
    pub const SIGNING: u16 = 0x0002;
}

/// MS-SMB2 2.2.3.1.7, SigningAlgorithms.
pub mod signing {
    pub const HMAC_SHA256: u16 = 0x0000;
    pub const AES_CMAC: u16 = 0x0001;
    pub const AES_GMAC: u16 = 0x0002;
}

bitflags! {
    /// MS-SMB2 2.2.3.1.3, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct CompressionFlags: u32 {
        const CHAINED = 0x1;
    }

    /// MS-SMB2 2.2.3.1.5, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct TransportFlags: u32 {
        const ACCEPT_TRANSPORT_LEVEL_SECURITY = 0x1;
    }
}

/// One context as it lies in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawContext<'a> {
    pub context_type: ContextType,
    pub data: &'a [u8],
}

wire_structs! {
    struct ContextWire {
        context_type: U16,
        data_length: U16,
        reserved: U32,
    }
}

/// The context list of a request or response, not yet walked.
#[derive(Debug, Clone, Copy, Default)]
pub struct NegotiateContexts<'a> {
    element: &'a [u8],
    offset: usize,
    count: u16,
}

impl<'a> NegotiateContexts<'a> {
    /// `floor` is the end of what precedes the list; the list must be 8-aligned behind it.
    pub(crate) fn locate(
        element: &'a [u8],
        floor: usize,
        offset: u32,
        count: u16,
    ) -> Result<Self, WireError> {
        let offset = offset as usize;
        if count == 0 {
            return Ok(Self::default());
        }
        if offset < floor || !offset.is_multiple_of(8) || offset > element.len() {
            return Err(WireError::new("NegotiateContextOffset", offset));
        }
        Ok(Self {
            element,
            offset,
            count,
        })
    }

    /// The announced number of contexts.
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Ends behind the announced number of contexts or the first malformed one.
    pub fn iter(&self) -> NegotiateContextIter<'a> {
        NegotiateContextIter {
            reader: Reader::starting_at(self.element, self.offset, "NegotiateContextList")
                .unwrap_or(Reader::new(&[])),
            left: self.count,
        }
    }
}

/// See [`NegotiateContexts::iter`].
#[derive(Debug, Clone)]
pub struct NegotiateContextIter<'a> {
    reader: Reader<'a>,
    left: u16,
}

impl<'a> NegotiateContextIter<'a> {
    fn read(&mut self) -> Result<RawContext<'a>, WireError> {
        let wire = self.reader.fixed::<ContextWire>("NegotiateContext")?;
        let data = self
            .reader
            .bytes(wire.data_length.get().into(), "NegotiateContext.Data")?;
        // Every context starts 8-aligned; the last one need not be padded.
        let padding = self.reader.offset().next_multiple_of(8) - self.reader.offset();
        if self.left > 0 {
            self.reader.skip(padding, "NegotiateContext.Padding")?;
        }
        Ok(RawContext {
            context_type: ContextType(wire.context_type.get()),
            data,
        })
    }
}

impl<'a> Iterator for NegotiateContextIter<'a> {
    type Item = Result<RawContext<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let context = self.read();
        if context.is_err() {
            self.left = 0;
        }
        Some(context)
    }
}

/// Appends contexts, each padded to 8 but the last; `out` must stand at an 8-aligned offset.
pub(crate) fn append_contexts(out: &mut Vec<u8>, contexts: &[RawContext<'_>]) {
    let start = out.len();
    for context in contexts {
        out.resize(start + (out.len() - start).next_multiple_of(8), 0);
        let wire = ContextWire {
            context_type: context.context_type.0.into(),
            data_length: length_u16(context.data.len()).into(),
            reserved: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend_from_slice(context.data);
    }
}

/// A list of 16-bit algorithm identifiers, most preferred first.
#[derive(Debug, Clone, Copy)]
pub struct Algorithms<'a>(&'a [U16]);

impl<'a> Algorithms<'a> {
    fn read(reader: &mut Reader<'a>, count: u16, field: &'static str) -> Result<Self, WireError> {
        let bytes = reader.bytes(usize::from(count) * 2, field)?;
        <[U16] as zerocopy::FromBytes>::ref_from_bytes(bytes)
            .map(Self)
            .map_err(|_| reader.error(field))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = u16> + Clone + 'a {
        self.0.iter().map(|id| id.get())
    }

    pub fn contains(&self, id: u16) -> bool {
        self.iter().any(|offered| offered == id)
    }
}

/// MS-SMB2 2.2.3.1.1.
#[derive(Debug, Clone, Copy)]
pub struct PreauthIntegrity<'a> {
    pub hash_algorithms: Algorithms<'a>,
    pub salt: &'a [u8],
}

impl<'a> PreauthIntegrity<'a> {
    pub fn decode(data: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(data);
        let count = reader.u16("HashAlgorithmCount")?;
        let salt_length = reader.u16("SaltLength")?;
        Ok(Self {
            hash_algorithms: Algorithms::read(&mut reader, count, "HashAlgorithms")?,
            salt: reader.bytes(salt_length.into(), "Salt")?,
        })
    }

    pub fn data(hash_algorithms: &[u16], salt: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        data.extend(length_u16(hash_algorithms.len()).to_le_bytes());
        data.extend(length_u16(salt.len()).to_le_bytes());
        data.extend(hash_algorithms.iter().flat_map(|id| id.to_le_bytes()));
        data.extend_from_slice(salt);
        data
    }
}

/// Ciphers (MS-SMB2 2.2.3.1.2) and signing algorithms (2.2.3.1.7): a count and a list.
pub fn decode_algorithms(data: &[u8]) -> Result<Algorithms<'_>, WireError> {
    let mut reader = Reader::new(data);
    let count = reader.u16("AlgorithmCount")?;
    Algorithms::read(&mut reader, count, "Algorithms")
}

/// The data [`decode_algorithms`] reads.
pub fn algorithms_data(algorithms: &[u16]) -> Vec<u8> {
    let mut data = length_u16(algorithms.len()).to_le_bytes().to_vec();
    data.extend(algorithms.iter().flat_map(|id| id.to_le_bytes()));
    data
}

/// MS-SMB2 2.2.3.1.3.
#[derive(Debug, Clone, Copy)]
pub struct Compression<'a> {
    pub flags: CompressionFlags,
    pub algorithms: Algorithms<'a>,
}

impl<'a> Compression<'a> {
    pub fn decode(data: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(data);
        let count = reader.u16("CompressionAlgorithmCount")?;
        reader.skip(2, "Padding")?;
        let flags = CompressionFlags::from_bits_retain(reader.u32("Flags")?);
        Ok(Self {
            flags,
            algorithms: Algorithms::read(&mut reader, count, "CompressionAlgorithms")?,
        })
    }

    pub fn data(flags: CompressionFlags, algorithms: &[u16]) -> Vec<u8> {
        let mut data = length_u16(algorithms.len()).to_le_bytes().to_vec();
        data.extend([0; 2]);
        data.extend(flags.bits().to_le_bytes());
        data.extend(algorithms.iter().flat_map(|id| id.to_le_bytes()));
        data
    }
}

/// MS-SMB2 2.2.3.1.5.
pub fn decode_transport(data: &[u8]) -> Result<TransportFlags, WireError> {
    Reader::new(data)
        .u32("Flags")
        .map(TransportFlags::from_bits_retain)
}

/// MS-SMB2 2.2.3.1.6: the transforms a side supports.
pub fn decode_rdma_transforms(data: &[u8]) -> Result<Algorithms<'_>, WireError> {
    let mut reader = Reader::new(data);
    let count = reader.u16("TransformCount")?;
    reader.skip(6, "Reserved")?;
    Algorithms::read(&mut reader, count, "RDMATransformIds")
}

/// The data [`decode_rdma_transforms`] reads.
pub fn rdma_transforms_data(transforms: &[u16]) -> Vec<u8> {
    let mut data = length_u16(transforms.len()).to_le_bytes().to_vec();
    data.extend([0; 6]);
    data.extend(transforms.iter().flat_map(|id| id.to_le_bytes()));
    data
}
