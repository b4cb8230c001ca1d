//! LOCK (MS-SMB2 2.2.26, 2.2.27). Which combinations of flags are allowed is the handler's.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};

use super::body::fixed_part;
use super::ids::{FileId, FileIdWire};
use crate::wire::{WireError, length_u16};

bitflags! {
    /// MS-SMB2 2.2.26.1, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct LockFlags: u32 {
        const SHARED = 0x01;
        const EXCLUSIVE = 0x02;
        const UNLOCK = 0x04;
        const FAIL_IMMEDIATELY = 0x10;
    }
}

/// SMB2_LOCK_ELEMENT (MS-SMB2 2.2.26.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockElement {
    pub offset: u64,
    pub length: u64,
    pub flags: LockFlags,
}

#[derive(Debug, Clone, Copy)]
pub struct LockRequest<'a> {
    /// LockSequenceNumber in the low four bits, LockSequenceIndex above (2.2.26).
    pub lock_sequence: u32,
    pub file_id: FileId,
    elements: &'a [ElementWire],
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        lock_count: U16,
        lock_sequence: U32,
        file_id: FileIdWire,
    }

    struct ElementWire {
        offset: U64,
        length: U64,
        flags: U32,
        reserved: U32,
    }
}

impl<'a> LockRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 48)?;
        let mut reader = buffers.reader();
        let count = usize::from(wire.lock_count.get());
        let bytes = reader.bytes(count * size_of::<ElementWire>(), "Locks")?;
        Ok(Self {
            lock_sequence: wire.lock_sequence.get(),
            file_id: wire.file_id.into(),
            elements: zerocopy::FromBytes::ref_from_bytes(bytes)
                .map_err(|_| reader.error("Locks"))?,
        })
    }

    pub fn locks(&self) -> impl ExactSizeIterator<Item = LockElement> + Clone + 'a {
        self.elements.iter().map(|wire| LockElement {
            offset: wire.offset.get(),
            length: wire.length.get(),
            flags: LockFlags::from_bits_retain(wire.flags.get()),
        })
    }

    /// Appends the body of a request for `locks`.
    pub fn encode(lock_sequence: u32, file_id: FileId, locks: &[LockElement], out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 48.into(),
            lock_count: length_u16(locks.len()).into(),
            lock_sequence: lock_sequence.into(),
            file_id: file_id.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        for lock in locks {
            let wire = ElementWire {
                offset: lock.offset.into(),
                length: lock.length.into(),
                flags: lock.flags.bits().into(),
                reserved: 0.into(),
            };
            out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        }
    }
}

empty_messages! {
    /// MS-SMB2 2.2.27.
    pub struct LockResponse;
}
