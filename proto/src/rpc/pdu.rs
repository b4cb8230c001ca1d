//! The header every PDU has, and the PDUs of a call: request, response, fault (C706 12.6.4).
//! Fragments come in and go out one at a time; whoever holds the association puts them together.

use bitflags::bitflags;

use super::FaultStatus;
use crate::wire::{Reader, WireError, Writer, length_u16, length_u32};

/// Bytes of the header all PDUs begin with.
pub const HEADER_SIZE: usize = 16;
/// Header and fixed part of a request without an object, and of a response.
pub const CALL_HEADER_SIZE: usize = HEADER_SIZE + 8;
/// Any implementation receives fragments of this size (C706 12.6.3.1, MustRecvFragSize).
pub const MUST_RECEIVE_FRAGMENT: u16 = 1432;

const VERSION: u8 = 5;
/// Little-endian integers, ASCII characters, IEEE floats (C706 14.1).
const LITTLE_ENDIAN: [u8; 4] = [0x10, 0, 0, 0];
/// The security trailer before the authentication token (MS-RPCE 2.2.2.11).
const SECURITY_TRAILER_SIZE: usize = 8;

/// PTYPE. Any value may arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PduType(pub u8);

impl PduType {
    pub const REQUEST: Self = Self(0);
    pub const RESPONSE: Self = Self(2);
    pub const FAULT: Self = Self(3);
    pub const BIND: Self = Self(11);
    pub const BIND_ACK: Self = Self(12);
    pub const BIND_NAK: Self = Self(13);
    pub const ALTER_CONTEXT: Self = Self(14);
    pub const ALTER_CONTEXT_RESPONSE: Self = Self(15);
    pub const CANCEL: Self = Self(18);
    pub const ORPHANED: Self = Self(19);
}

bitflags! {
    /// pfc_flags (C706 12.6.3.1).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PfcFlags: u8 {
        const FIRST_FRAG = 0x01;
        const LAST_FRAG = 0x02;
        /// In a bind, the same bit asks for header signing (MS-RPCE 2.2.2.3).
        const PENDING_CANCEL = 0x04;
        const CONC_MPX = 0x10;
        const DID_NOT_EXECUTE = 0x20;
        /// The client wants no answer.
        const MAYBE = 0x40;
        /// An object UUID precedes the stub.
        const OBJECT_UUID = 0x80;
    }
}

impl PfcFlags {
    /// A PDU in one fragment.
    pub const WHOLE: Self = Self::FIRST_FRAG.union(Self::LAST_FRAG);
}

/// One fragment: the header's fields, and what stands between header and security trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pdu<'a> {
    pub kind: PduType,
    pub flags: PfcFlags,
    pub call_id: u32,
    /// It carries an authentication token.
    pub authenticated: bool,
    pub body: &'a [u8],
}

impl<'a> Pdu<'a> {
    /// The first fragment in `bytes` and its length; `None` while it is not all there.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, WireError> {
        let mut reader = Reader::new(bytes);
        let Ok(header) = reader.bytes(HEADER_SIZE, "header") else {
            return Ok(None);
        };
        let mut reader = Reader::new(header);
        let version = reader.u8("rpc_vers")?;
        let minor = reader.u8("rpc_vers_minor")?;
        if version != VERSION || minor > 1 {
            return Err(WireError::new("rpc_vers", 0));
        }
        let kind = PduType(reader.u8("PTYPE")?);
        let flags = PfcFlags::from_bits_retain(reader.u8("pfc_flags")?);
        if reader.array("packed_drep")? != LITTLE_ENDIAN {
            return Err(WireError::new("packed_drep", 4));
        }
        let length = usize::from(reader.u16("frag_length")?);
        let auth_length = usize::from(reader.u16("auth_length")?);
        let call_id = reader.u32("call_id")?;
        let trailer = match auth_length {
            0 => 0,
            token => token + SECURITY_TRAILER_SIZE,
        };
        let body_end = length
            .checked_sub(trailer)
            .filter(|end| *end >= HEADER_SIZE)
            .ok_or(WireError::new("frag_length", 8))?;
        if bytes.len() < length {
            return Ok(None);
        }
        let pdu = Self {
            kind,
            flags,
            call_id,
            authenticated: auth_length > 0,
            body: bytes.get(HEADER_SIZE..body_end).unwrap_or_default(),
        };
        Ok(Some((pdu, length)))
    }

    /// The bytes on the wire. A security trailer is never sent.
    ///
    /// # Panics
    /// When the body outgrows a fragment: senders cut it before.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_SIZE + self.body.len());
        Writer::new(&mut out)
            .u8(VERSION)
            .u8(0)
            .u8(self.kind.0)
            .u8(self.flags.bits())
            .bytes(&LITTLE_ENDIAN)
            .u16(length_u16(HEADER_SIZE + self.body.len()))
            .u16(0)
            .u32(self.call_id)
            .bytes(self.body);
        out
    }
}

/// The body of a request fragment (C706 12.6.4.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    pub context_id: u16,
    pub opnum: u16,
    pub stub: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn decode(pdu: &Pdu<'a>) -> Result<Self, WireError> {
        let mut reader = Reader::new(pdu.body);
        reader.u32("alloc_hint")?;
        let context_id = reader.u16("p_cont_id")?;
        let opnum = reader.u16("opnum")?;
        if pdu.flags.contains(PfcFlags::OBJECT_UUID) {
            reader.skip(16, "object")?;
        }
        Ok(Self {
            context_id,
            opnum,
            stub: reader.remaining(),
        })
    }

    /// One request fragment without an object.
    pub fn encode(&self, call_id: u32, flags: PfcFlags) -> Vec<u8> {
        let mut body = Vec::with_capacity(8 + self.stub.len());
        Writer::new(&mut body)
            .u32(length_u32(self.stub.len()))
            .u16(self.context_id)
            .u16(self.opnum)
            .bytes(self.stub);
        Pdu {
            kind: PduType::REQUEST,
            flags,
            call_id,
            authenticated: false,
            body: &body,
        }
        .encode()
    }
}

/// A response, whole (C706 12.6.4.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    pub context_id: u16,
    pub stub: &'a [u8],
}

impl<'a> Response<'a> {
    /// One fragment of a response.
    pub fn decode(pdu: &Pdu<'a>) -> Result<Self, WireError> {
        let mut reader = Reader::new(pdu.body);
        reader.u32("alloc_hint")?;
        let context_id = reader.u16("p_cont_id")?;
        reader.u16("cancel_count")?;
        Ok(Self {
            context_id,
            stub: reader.remaining(),
        })
    }

    /// Its fragments, none longer than `max_fragment`; all but the last carry a multiple of 8
    /// bytes of stub (C706 12.6.3.1).
    pub fn encode(&self, call_id: u32, max_fragment: u16) -> Vec<Vec<u8>> {
        let room = usize::from(max_fragment.max(MUST_RECEIVE_FRAGMENT)) - CALL_HEADER_SIZE;
        let room = room - room % 8;
        let count = self.stub.len().div_ceil(room).max(1);
        let mut pieces = self.stub.chunks(room);
        let mut left = self.stub.len();
        (0..count)
            .map(|number| {
                let piece = pieces.next().unwrap_or_default();
                let mut flags = PfcFlags::empty();
                flags.set(PfcFlags::FIRST_FRAG, number == 0);
                flags.set(PfcFlags::LAST_FRAG, number + 1 == count);
                let mut body = Vec::with_capacity(8 + piece.len());
                Writer::new(&mut body)
                    .u32(length_u32(left))
                    .u16(self.context_id)
                    .u16(0)
                    .bytes(piece);
                left -= piece.len();
                Pdu {
                    kind: PduType::RESPONSE,
                    flags,
                    call_id,
                    authenticated: false,
                    body: &body,
                }
                .encode()
            })
            .collect()
    }
}

/// A fault (C706 12.6.4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub context_id: u16,
    pub status: FaultStatus,
}

impl Fault {
    pub fn decode(pdu: &Pdu<'_>) -> Result<Self, WireError> {
        let mut reader = Reader::new(pdu.body);
        reader.u32("alloc_hint")?;
        let context_id = reader.u16("p_cont_id")?;
        reader.u16("cancel_count")?;
        let status = FaultStatus(reader.u32("status")?);
        Ok(Self { context_id, status })
    }

    /// None of the faults sent here comes from a call that was carried out.
    pub fn encode(&self, call_id: u32) -> Vec<u8> {
        let mut body = Vec::with_capacity(16);
        Writer::new(&mut body)
            .u32(16)
            .u16(self.context_id)
            .u16(0)
            .u32(self.status.0)
            .u32(0);
        Pdu {
            kind: PduType::FAULT,
            flags: PfcFlags::WHOLE | PfcFlags::DID_NOT_EXECUTE,
            call_id,
            authenticated: false,
            body: &body,
        }
        .encode()
    }
}
