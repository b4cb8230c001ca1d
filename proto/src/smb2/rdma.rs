//! What READ and WRITE say about RDMA: the channel and its buffer descriptors (MS-SMBD 2.2.3.1,
//! MS-SMB2 2.2.19, 2.2.21). Handlers pass descriptors on to the daemon that owns the device;
//! nothing here knows a queue pair.

use zerocopy::little_endian::{U32, U64};

use crate::wire::WireError;

wire_enum! {
    /// MS-SMB2 2.2.19, Channel.
    pub enum Channel: u32 {
        None = 0,
        RdmaV1 = 1,
        RdmaV1Invalidate = 2,
        RdmaTransform = 3,
    }
}

impl Channel {
    /// Whether the channel information is a plain array of V1 descriptors.
    pub const fn is_rdma_v1(self) -> bool {
        matches!(self, Self::RdmaV1 | Self::RdmaV1Invalidate)
    }
}

/// A piece of the peer's memory: MS-SMBD 2.2.3.1, Buffer Descriptor V1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct BufferDescriptorV1 {
    /// Address (or zero-based offset) in the peer's registration.
    pub offset: u64,
    /// The peer's remote key (steering tag).
    pub token: u32,
    pub length: u32,
}

wire_structs! {
    struct DescriptorWire {
        offset: U64,
        token: U32,
        length: U32,
    }
}

impl BufferDescriptorV1 {
    pub const SIZE: usize = 16;

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = DescriptorWire {
            offset: self.offset.into(),
            token: self.token.into(),
            length: self.length.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}

/// Iterates over an array of V1 descriptors without copying it.
#[derive(Debug, Clone)]
pub struct Descriptors<'a> {
    wires: std::slice::Iter<'a, DescriptorWire>,
}

impl<'a> Descriptors<'a> {
    /// Fails when the channel information isn't a whole number of descriptors.
    pub fn new(channel_info: &'a [u8]) -> Result<Self, WireError> {
        let wires = <[DescriptorWire] as zerocopy::FromBytes>::ref_from_bytes(channel_info)
            .map_err(|_| {
                let whole = channel_info.len() / BufferDescriptorV1::SIZE;
                WireError::new("BufferDescriptorV1", whole * BufferDescriptorV1::SIZE)
            })?;
        Ok(Self {
            wires: wires.iter(),
        })
    }

    /// What the remaining descriptors hold together; it can't overflow, since an array of 2^32
    /// descriptors fits no message.
    pub fn total_length(&self) -> u64 {
        self.clone()
            .map(|descriptor| u64::from(descriptor.length))
            .sum()
    }
}

impl Iterator for Descriptors<'_> {
    type Item = BufferDescriptorV1;

    fn next(&mut self) -> Option<BufferDescriptorV1> {
        self.wires.next().map(|wire| BufferDescriptorV1 {
            offset: wire.offset.get(),
            token: wire.token.get(),
            length: wire.length.get(),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.wires.size_hint()
    }
}

impl ExactSizeIterator for Descriptors<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const TWO: [u8; 32] = [
        0x00, 0x10, 0, 0, 0, 0x7F, 0, 0, 0x44, 0x33, 0x22, 0x11, 0x00, 0x00, 0x10, 0x00,
        0x00, 0x20, 0, 0, 0, 0x7F, 0, 0, 0x88, 0x77, 0x66, 0x55, 0xFF, 0xFF, 0xFF, 0xFF,
    ];

    #[test]
    fn descriptors_decode_in_order_and_sum_without_overflow() {
        let descriptors = Descriptors::new(&TWO).unwrap();
        assert_eq!(descriptors.len(), 2);
        assert_eq!(descriptors.total_length(), 0x10_0000 + 0xFFFF_FFFF);
        let decoded: Vec<_> = descriptors.collect();
        assert_eq!(
            decoded[0],
            BufferDescriptorV1 {
                offset: 0x7F00_0000_1000,
                token: 0x1122_3344,
                length: 0x10_0000,
            }
        );
        let mut encoded = Vec::new();
        decoded.iter().for_each(|one| one.encode(&mut encoded));
        assert_eq!(encoded, TWO);
    }

    #[test]
    fn a_partial_descriptor_is_refused() {
        for length in 0..=TWO.len() {
            let result = Descriptors::new(&TWO[..length]);
            assert_eq!(result.is_ok(), length % 16 == 0, "length {length}");
        }
        assert_eq!(
            Descriptors::new(&TWO[..20]).unwrap_err(),
            WireError::new("BufferDescriptorV1", 16)
        );
    }
}
