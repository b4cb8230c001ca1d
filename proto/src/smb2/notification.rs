//! SERVER_TO_CLIENT_NOTIFICATION (MS-SMB2 2.2.44): what a server says unasked, to clients that know of it; nothing answers it.

use zerocopy::little_endian::{U16, U32};

use super::body::fixed_part;
use crate::wire::WireError;

/// SMB2_NOTIFY_SESSION_CLOSED (MS-SMB2 2.2.44.2): the session of the header is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionClosed;

/// NotificationType SmbNotifySessionClosed.
const SESSION_CLOSED: u32 = 0;
/// Of the whole structure, as 2.2.44.1 wants it.
const STRUCTURE_SIZE: u16 = 12;

wire_structs! {
    struct SessionClosedWire {
        structure_size: U16,
        reserved: U16,
        notification_type: U32,
        notification: U32,
    }
}

impl SessionClosed {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        let (wire, _) = fixed_part::<SessionClosedWire>(element, STRUCTURE_SIZE)?;
        match wire.notification_type.get() {
            SESSION_CLOSED => Ok(Self),
            _ => Err(WireError::new(
                "NotificationType",
                super::HEADER_SIZE + size_of::<u32>(),
            )),
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = SessionClosedWire {
            structure_size: STRUCTURE_SIZE.into(),
            reserved: 0.into(),
            notification_type: SESSION_CLOSED.into(),
            notification: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}
