//! Leases in CREATE (MS-SMB2 2.2.13.2.8, 2.2.13.2.10, 2.2.14.2.10, 2.2.14.2.11): one type for
//! both versions, which differ in length alone, and for request and response.

use bitflags::bitflags;

use super::record::Field;
use crate::wire::{Reader, WireError};

bitflags! {
    /// MS-SMB2 2.2.13.2.8, LeaseState.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct LeaseState: u32 {
        const READ_CACHING = 0x1;
        const HANDLE_CACHING = 0x2;
        const WRITE_CACHING = 0x4;
    }

    /// MS-SMB2 2.2.13.2.10 and 2.2.14.2.10, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct LeaseFlags: u32 {
        const BREAK_IN_PROGRESS = 0x2;
        const PARENT_LEASE_KEY_SET = 0x4;
    }
}

impl Field for LeaseState {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        reader.u32(field).map(Self::from_bits_retain)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.bits().write(out);
    }
}

impl Field for LeaseFlags {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        reader.u32(field).map(Self::from_bits_retain)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.bits().write(out);
    }
}

records! {
    /// The part both versions have.
    pub struct Lease {
        key: [u8; 16],
        state: LeaseState,
        flags: LeaseFlags => 8,
    }

    /// What version 2 adds.
    pub struct LeaseV2 {
        parent_key: [u8; 16],
        epoch: u16 => 2,
    }
}

/// The data of an `RqLs` context, of a request or of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseContext {
    pub lease: Lease,
    /// Present in version 2.
    pub v2: Option<LeaseV2>,
}

impl LeaseContext {
    const V1_SIZE: usize = 32;
    const V2_SIZE: usize = 52;

    /// The length of the data tells the version (MS-SMB2 3.3.5.9.8, 3.3.5.9.11).
    pub fn decode(data: &[u8]) -> Result<Self, WireError> {
        if data.len() != Self::V1_SIZE && data.len() != Self::V2_SIZE {
            return Err(WireError::new("RqLs", data.len()));
        }
        let mut reader = Reader::new(data);
        let lease = Field::read(&mut reader, "Lease")?;
        let v2 = if reader.is_empty() {
            None
        } else {
            Some(Field::read(&mut reader, "LeaseV2")?)
        };
        Ok(Self { lease, v2 })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.lease.encode(out);
        if let Some(v2) = &self.v2 {
            v2.encode(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_tells_the_version() {
        let mut golden = vec![0x11; 16];
        golden.extend([7, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let v1 = LeaseContext::decode(&golden).unwrap();
        assert_eq!(v1.lease.state, LeaseState::all());
        assert_eq!(v1.lease.flags, LeaseFlags::PARENT_LEASE_KEY_SET);
        assert_eq!(v1.v2, None);
        golden.extend([0x22; 16]);
        golden.extend([9, 0, 0, 0]);
        let v2 = LeaseContext::decode(&golden).unwrap();
        assert_eq!(v2.lease, v1.lease);
        assert_eq!(
            v2.v2,
            Some(LeaseV2 {
                parent_key: [0x22; 16],
                epoch: 9
            })
        );
        let mut encoded = Vec::new();
        v2.encode(&mut encoded);
        assert_eq!(encoded, golden);
        for length in (0..golden.len()).filter(|length| *length != 32) {
            assert!(LeaseContext::decode(&golden[..length]).is_err());
        }
    }
}
