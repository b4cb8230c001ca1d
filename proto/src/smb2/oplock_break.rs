//! OPLOCK_BREAK (MS-SMB2 2.2.23 to 2.2.25): notification, acknowledgment and response, for
//! oplocks and for leases. Their StructureSize tells them apart.

use super::body::HEADER_SIZE;
use super::ids::FileId;
pub use super::lease::LeaseState;
use super::record::Field;
use crate::wire::{Reader, WireError};

records! {
    /// All three oplock messages: 2.2.23.1, 2.2.24.1, 2.2.25.1.
    pub struct OplockBreak {
        /// Raw, see [`super::access::OplockLevel`].
        oplock_level: u8 => 5,
        file_id: FileId,
    }

    /// Lease break notification, server to client (2.2.23.2).
    pub struct LeaseBreakNotification {
        new_epoch: u16,
        /// [`LeaseBreakNotification::ACK_REQUIRED`] or 0.
        flags: u32,
        lease_key: [u8; 16],
        current_lease_state: LeaseState,
        new_lease_state: LeaseState => 12,
    }

    /// Lease break acknowledgment (2.2.24.2) and response (2.2.25.2).
    pub struct LeaseBreakAcknowledgment {
        reserved: u16,
        flags: u32,
        lease_key: [u8; 16],
        lease_state: LeaseState => 8,
    }
}

const OPLOCK_SIZE: u16 = 24;
const NOTIFICATION_SIZE: u16 = 44;
const ACKNOWLEDGMENT_SIZE: u16 = 36;

impl LeaseBreakNotification {
    pub const ACK_REQUIRED: u32 = 1;
}

/// What an OPLOCK_BREAK message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakMessage {
    Oplock(OplockBreak),
    LeaseNotification(LeaseBreakNotification),
    LeaseAcknowledgment(LeaseBreakAcknowledgment),
}

impl BreakMessage {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::starting_at(element, HEADER_SIZE, "Header")?;
        let size_error = reader.error("StructureSize");
        match reader.u16("StructureSize")? {
            OPLOCK_SIZE => Field::read(&mut reader, "OplockBreak").map(Self::Oplock),
            NOTIFICATION_SIZE => {
                Field::read(&mut reader, "LeaseBreakNotification").map(Self::LeaseNotification)
            }
            ACKNOWLEDGMENT_SIZE => {
                Field::read(&mut reader, "LeaseBreakAcknowledgment").map(Self::LeaseAcknowledgment)
            }
            _ => Err(size_error),
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Oplock(body) => {
                OPLOCK_SIZE.write(out);
                body.encode(out);
            }
            Self::LeaseNotification(body) => {
                NOTIFICATION_SIZE.write(out);
                body.encode(out);
            }
            Self::LeaseAcknowledgment(body) => {
                ACKNOWLEDGMENT_SIZE.write(out);
                body.encode(out);
            }
        }
    }
}
