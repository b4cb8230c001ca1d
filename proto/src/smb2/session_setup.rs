//! SESSION_SETUP (MS-SMB2 2.2.5, 2.2.6). The token inside is GSS's; nothing here reads it.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};

use super::body::{after_fixed, append_buffer, fixed_part};
use super::ids::SessionId;
use super::negotiate::{Capabilities, SecurityMode};
use crate::wire::{WireError, length_u16};

bitflags! {
    /// MS-SMB2 2.2.5, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct SessionSetupFlags: u8 {
        const BINDING = 0x01;
    }

    /// MS-SMB2 2.2.6, SessionFlags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct SessionFlags: u16 {
        const IS_GUEST = 0x1;
        const IS_NULL = 0x2;
        const ENCRYPT_DATA = 0x4;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSetupRequest<'a> {
    pub flags: SessionSetupFlags,
    /// One byte here, unlike NEGOTIATE.
    pub security_mode: SecurityMode,
    pub capabilities: Capabilities,
    pub channel: u32,
    pub previous_session_id: SessionId,
    pub security_buffer: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSetupResponse<'a> {
    pub session_flags: SessionFlags,
    pub security_buffer: &'a [u8],
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        flags: u8,
        security_mode: u8,
        capabilities: U32,
        channel: U32,
        security_buffer_offset: U16,
        security_buffer_length: U16,
        previous_session_id: U64,
    }

    struct ResponseWire {
        structure_size: U16,
        session_flags: U16,
        security_buffer_offset: U16,
        security_buffer_length: U16,
    }
}

impl<'a> SessionSetupRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 25)?;
        Ok(Self {
            flags: SessionSetupFlags::from_bits_retain(wire.flags),
            security_mode: SecurityMode::from_bits_retain(wire.security_mode.into()),
            capabilities: Capabilities::from_bits_retain(wire.capabilities.get()),
            channel: wire.channel.get(),
            previous_session_id: SessionId(wire.previous_session_id.get()),
            security_buffer: buffers.slice(
                wire.security_buffer_offset,
                wire.security_buffer_length,
                "SecurityBuffer",
            )?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 25.into(),
            flags: self.flags.bits(),
            security_mode: self.security_mode.bits() as u8,
            capabilities: self.capabilities.bits().into(),
            channel: self.channel.into(),
            security_buffer_offset: after_fixed::<RequestWire>().into(),
            security_buffer_length: length_u16(self.security_buffer.len()).into(),
            previous_session_id: self.previous_session_id.0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.security_buffer);
    }
}

impl<'a> SessionSetupResponse<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<ResponseWire>(element, 9)?;
        Ok(Self {
            session_flags: SessionFlags::from_bits_retain(wire.session_flags.get()),
            security_buffer: buffers.slice(
                wire.security_buffer_offset,
                wire.security_buffer_length,
                "SecurityBuffer",
            )?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = ResponseWire {
            structure_size: 9.into(),
            session_flags: self.session_flags.bits().into(),
            security_buffer_offset: after_fixed::<ResponseWire>().into(),
            security_buffer_length: length_u16(self.security_buffer.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.security_buffer);
    }
}
