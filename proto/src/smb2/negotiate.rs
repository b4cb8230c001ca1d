//! NEGOTIATE (MS-SMB2 2.2.3, 2.2.4). Which dialect wins is the caller's; the contexts of 3.1.1
//! are in `negotiate_context`.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};

use super::body::{HEADER_SIZE, after_fixed, fixed_part};
use super::ids::Guid;
use super::negotiate_context::{NegotiateContexts, RawContext, append_contexts};
use super::time::FileTime;
use crate::wire::{WireError, length_u16, length_u32};

wire_enum! {
    /// MS-SMB2 2.2.3, Dialects, and the wildcard of a multi-protocol negotiation (2.2.4).
    pub enum Dialect: u16 {
        Smb202 = 0x0202,
        Smb210 = 0x0210,
        Wildcard = 0x02FF,
        Smb300 = 0x0300,
        Smb302 = 0x0302,
        Smb311 = 0x0311,
    }
}

impl Dialect {
    /// The SMB 3.x family (MS-SMB2 glossary): 3.0, 3.0.2, 3.1.1.
    pub const fn is_smb3(self) -> bool {
        matches!(self, Self::Smb300 | Self::Smb302 | Self::Smb311)
    }
}

bitflags! {
    /// MS-SMB2 2.2.3, SecurityMode.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct SecurityMode: u16 {
        const SIGNING_ENABLED = 0x1;
        const SIGNING_REQUIRED = 0x2;
    }

    /// MS-SMB2 2.2.3, Capabilities.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Capabilities: u32 {
        const DFS = 0x01;
        const LEASING = 0x02;
        const LARGE_MTU = 0x04;
        const MULTI_CHANNEL = 0x08;
        const PERSISTENT_HANDLES = 0x10;
        const DIRECTORY_LEASING = 0x20;
        const ENCRYPTION = 0x40;
        const NOTIFICATIONS = 0x80;
    }
}

#[derive(Debug, Clone, Copy)]
pub struct NegotiateRequest<'a> {
    pub security_mode: SecurityMode,
    pub capabilities: Capabilities,
    pub client_guid: Guid,
    dialects: &'a [U16],
    /// Empty unless 3.1.1 is offered.
    pub contexts: NegotiateContexts<'a>,
}

#[derive(Debug, Clone, Copy)]
pub struct NegotiateResponse<'a> {
    pub security_mode: SecurityMode,
    /// The raw DialectRevision, see [`Dialect`].
    pub dialect_revision: u16,
    pub server_guid: Guid,
    pub capabilities: Capabilities,
    pub max_transact_size: u32,
    pub max_read_size: u32,
    pub max_write_size: u32,
    pub system_time: FileTime,
    pub server_start_time: FileTime,
    pub security_buffer: &'a [u8],
    /// Empty unless the dialect is 3.1.1.
    pub contexts: NegotiateContexts<'a>,
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        dialect_count: U16,
        security_mode: U16,
        reserved: U16,
        capabilities: U32,
        client_guid: [u8; 16],
        // NegotiateContextOffset, NegotiateContextCount, Reserved2; ClientStartTime before 3.1.1.
        context_offset: U32,
        context_count: U16,
        reserved2: U16,
    }

    struct ResponseWire {
        structure_size: U16,
        security_mode: U16,
        dialect_revision: U16,
        context_count: U16,
        server_guid: [u8; 16],
        capabilities: U32,
        max_transact_size: U32,
        max_read_size: U32,
        max_write_size: U32,
        system_time: U64,
        server_start_time: U64,
        security_buffer_offset: U16,
        security_buffer_length: U16,
        context_offset: U32,
    }
}

impl<'a> NegotiateRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 36)?;
        let mut reader = buffers.reader();
        let count = usize::from(wire.dialect_count.get());
        let raw = reader.bytes(count * size_of::<U16>(), "Dialects")?;
        let dialects = <[U16] as zerocopy::FromBytes>::ref_from_bytes(raw)
            .map_err(|_| reader.error("Dialects"))?;
        let offers_311 = dialects
            .iter()
            .any(|dialect| dialect.get() == u16::from(Dialect::Smb311));
        let contexts = if offers_311 {
            NegotiateContexts::locate(
                element,
                reader.offset(),
                wire.context_offset.get(),
                wire.context_count.get(),
            )?
        } else {
            NegotiateContexts::default()
        };
        Ok(Self {
            security_mode: SecurityMode::from_bits_retain(wire.security_mode.get()),
            capabilities: Capabilities::from_bits_retain(wire.capabilities.get()),
            client_guid: Guid(wire.client_guid),
            dialects,
            contexts,
        })
    }

    /// The offered dialects, raw: a client may offer some this side does not know.
    pub fn dialects(&self) -> impl ExactSizeIterator<Item = u16> + Clone + 'a {
        self.dialects.iter().map(|dialect| dialect.get())
    }

    pub fn offers(&self, dialect: Dialect) -> bool {
        self.dialects().any(|offered| offered == u16::from(dialect))
    }
}

/// What a client puts into a NEGOTIATE request.
#[derive(Debug, Clone, Copy)]
pub struct NegotiateOffer<'a> {
    pub security_mode: SecurityMode,
    pub capabilities: Capabilities,
    pub client_guid: Guid,
    pub dialects: &'a [u16],
    /// Sent only if `dialects` has 3.1.1.
    pub contexts: &'a [RawContext<'a>],
}

impl NegotiateOffer<'_> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let dialects_end = usize::from(after_fixed::<RequestWire>()) + 2 * self.dialects.len();
        let sends_contexts = self.dialects.contains(&Dialect::Smb311.into());
        let (context_offset, context_count) = if sends_contexts {
            (dialects_end.next_multiple_of(8), self.contexts.len())
        } else {
            (0, 0)
        };
        let wire = RequestWire {
            structure_size: 36.into(),
            dialect_count: length_u16(self.dialects.len()).into(),
            security_mode: self.security_mode.bits().into(),
            reserved: 0.into(),
            capabilities: self.capabilities.bits().into(),
            client_guid: self.client_guid.0,
            context_offset: length_u32(context_offset).into(),
            context_count: length_u16(context_count).into(),
            reserved2: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend(
            self.dialects
                .iter()
                .flat_map(|dialect| dialect.to_le_bytes()),
        );
        if sends_contexts {
            out.resize(start + context_offset - HEADER_SIZE, 0);
            append_contexts(out, self.contexts);
        }
    }
}

impl<'a> NegotiateResponse<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<ResponseWire>(element, 65)?;
        let dialect_revision = wire.dialect_revision.get();
        let contexts = if dialect_revision == u16::from(Dialect::Smb311) {
            NegotiateContexts::locate(
                element,
                buffers.reader().offset(),
                wire.context_offset.get(),
                wire.context_count.get(),
            )?
        } else {
            NegotiateContexts::default()
        };
        Ok(Self {
            security_mode: SecurityMode::from_bits_retain(wire.security_mode.get()),
            dialect_revision,
            server_guid: Guid(wire.server_guid),
            capabilities: Capabilities::from_bits_retain(wire.capabilities.get()),
            max_transact_size: wire.max_transact_size.get(),
            max_read_size: wire.max_read_size.get(),
            max_write_size: wire.max_write_size.get(),
            system_time: FileTime(wire.system_time.get()),
            server_start_time: FileTime(wire.server_start_time.get()),
            security_buffer: buffers.slice(
                wire.security_buffer_offset,
                wire.security_buffer_length,
                "SecurityBuffer",
            )?,
            contexts,
        })
    }
}

/// What a server puts into a NEGOTIATE response.
#[derive(Debug, Clone, Copy)]
pub struct NegotiateAnswer<'a> {
    pub security_mode: SecurityMode,
    pub dialect: Dialect,
    pub server_guid: Guid,
    pub capabilities: Capabilities,
    pub max_transact_size: u32,
    pub max_read_size: u32,
    pub max_write_size: u32,
    pub system_time: FileTime,
    pub server_start_time: FileTime,
    pub security_buffer: &'a [u8],
    /// Sent only if the dialect is 3.1.1.
    pub contexts: &'a [RawContext<'a>],
}

impl NegotiateAnswer<'_> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let buffer_offset = after_fixed::<ResponseWire>();
        let buffer_end = usize::from(buffer_offset) + self.security_buffer.len();
        let sends_contexts = self.dialect == Dialect::Smb311;
        let (context_offset, context_count) = if sends_contexts {
            (buffer_end.next_multiple_of(8), self.contexts.len())
        } else {
            (0, 0)
        };
        let wire = ResponseWire {
            structure_size: 65.into(),
            security_mode: self.security_mode.bits().into(),
            dialect_revision: u16::from(self.dialect).into(),
            context_count: length_u16(context_count).into(),
            server_guid: self.server_guid.0,
            capabilities: self.capabilities.bits().into(),
            max_transact_size: self.max_transact_size.into(),
            max_read_size: self.max_read_size.into(),
            max_write_size: self.max_write_size.into(),
            system_time: self.system_time.0.into(),
            server_start_time: self.server_start_time.0.into(),
            security_buffer_offset: buffer_offset.into(),
            security_buffer_length: length_u16(self.security_buffer.len()).into(),
            context_offset: length_u32(context_offset).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend_from_slice(self.security_buffer);
        if sends_contexts {
            out.resize(start + context_offset - HEADER_SIZE, 0);
            append_contexts(out, self.contexts);
        }
    }
}
