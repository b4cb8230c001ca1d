//! The 64-byte SMB2 header (MS-SMB2 2.2.1), synchronous and asynchronous form in one type.
//! Dispatch decodes one per element and encodes one per response; signing patches the signature
//! into encoded bytes and never looks in here.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};

use super::body::HEADER_SIZE;
use super::ids::{AsyncId, MessageId, SessionId, TreeId};
use super::status::NtStatus;
use crate::wire::{Reader, WireError};

/// First four bytes of every plain SMB2 message.
pub const PROTOCOL_ID: [u8; 4] = [0xFE, b'S', b'M', b'B'];

wire_enum! {
    /// MS-SMB2 2.2.1.2, Command.
    pub enum Command: u16 {
        Negotiate = 0x00,
        SessionSetup = 0x01,
        Logoff = 0x02,
        TreeConnect = 0x03,
        TreeDisconnect = 0x04,
        Create = 0x05,
        Close = 0x06,
        Flush = 0x07,
        Read = 0x08,
        Write = 0x09,
        Lock = 0x0A,
        Ioctl = 0x0B,
        Cancel = 0x0C,
        Echo = 0x0D,
        QueryDirectory = 0x0E,
        ChangeNotify = 0x0F,
        QueryInfo = 0x10,
        SetInfo = 0x11,
        OplockBreak = 0x12,
        /// Never a request.
        ServerToClientNotification = 0x13,
    }
}

bitflags! {
    /// MS-SMB2 2.2.1.2, Flags. Unknown bits are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct HeaderFlags: u32 {
        const SERVER_TO_REDIR = 0x0000_0001;
        const ASYNC_COMMAND = 0x0000_0002;
        const RELATED_OPERATIONS = 0x0000_0004;
        const SIGNED = 0x0000_0008;
        const PRIORITY_MASK = 0x0000_0070;
        const DFS_OPERATIONS = 0x1000_0000;
        const REPLAY_OPERATION = 0x2000_0000;
    }
}

/// The eight bytes that hold a tree in a synchronous header and an AsyncId in an asynchronous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    Sync(TreeId),
    Async(AsyncId),
}

/// A decoded header. `flags` agrees with `addressing` after decoding and encoding alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub credit_charge: u16,
    /// Status of a response; ChannelSequence and Reserved of a request.
    pub status: NtStatus,
    /// The raw Command field, see [`Header::command`].
    pub command_code: u16,
    /// CreditRequest of a request, CreditResponse of a response.
    pub credits: u16,
    pub flags: HeaderFlags,
    pub next_command: u32,
    pub message_id: MessageId,
    pub addressing: Addressing,
    pub session_id: SessionId,
    pub signature: [u8; 16],
}

wire_structs! {
    struct HeaderWire {
        protocol_id: [u8; 4],
        structure_size: U16,
        credit_charge: U16,
        status: U32,
        command: U16,
        credits: U16,
        flags: U32,
        next_command: U32,
        message_id: U64,
        addressing: [u8; 8],
        session_id: U64,
        signature: [u8; 16],
    }
}

impl Header {
    /// Where the signature lies in an encoded header.
    pub const SIGNATURE_OFFSET: usize = 48;

    /// A synchronous request header without flags, asking for one credit.
    pub fn request(command: Command, message_id: MessageId) -> Self {
        Self {
            credit_charge: 1,
            status: NtStatus::SUCCESS,
            command_code: command.into(),
            credits: 1,
            flags: HeaderFlags::empty(),
            next_command: 0,
            message_id,
            addressing: Addressing::Sync(TreeId(0)),
            session_id: SessionId(0),
            signature: [0; 16],
        }
    }

    /// The header that answers `self`: ids and charge copied, marked as a response, unsigned.
    pub fn response(&self, status: NtStatus, credits: u16) -> Self {
        Self {
            status,
            credits,
            flags: HeaderFlags::SERVER_TO_REDIR
                | (self.flags & (HeaderFlags::RELATED_OPERATIONS | HeaderFlags::PRIORITY_MASK)),
            next_command: 0,
            signature: [0; 16],
            ..*self
        }
        .normalized()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let wire = reader.fixed::<HeaderWire>("Header")?;
        if wire.protocol_id != PROTOCOL_ID {
            return Err(WireError::new("ProtocolId", 0));
        }
        if usize::from(wire.structure_size.get()) != HEADER_SIZE {
            return Err(WireError::new("StructureSize", 4));
        }
        let flags = HeaderFlags::from_bits_retain(wire.flags.get());
        let addressing = u64::from_le_bytes(wire.addressing);
        Ok(Self {
            credit_charge: wire.credit_charge.get(),
            status: NtStatus(wire.status.get()),
            command_code: wire.command.get(),
            credits: wire.credits.get(),
            flags,
            next_command: wire.next_command.get(),
            message_id: MessageId(wire.message_id.get()),
            addressing: if flags.contains(HeaderFlags::ASYNC_COMMAND) {
                Addressing::Async(AsyncId(addressing))
            } else {
                // The low half is Reserved (once the client's process id).
                Addressing::Sync(TreeId((addressing >> 32) as u32))
            },
            session_id: SessionId(wire.session_id.get()),
            signature: wire.signature,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let addressing = match self.addressing {
            Addressing::Sync(TreeId(tree)) => u64::from(tree) << 32,
            Addressing::Async(AsyncId(id)) => id,
        };
        let wire = HeaderWire {
            protocol_id: PROTOCOL_ID,
            structure_size: (HEADER_SIZE as u16).into(),
            credit_charge: self.credit_charge.into(),
            status: self.status.0.into(),
            command: self.command_code.into(),
            credits: self.credits.into(),
            flags: self.normalized().flags.bits().into(),
            next_command: self.next_command.into(),
            message_id: self.message_id.0.into(),
            addressing: addressing.to_le_bytes(),
            session_id: self.session_id.0.into(),
            signature: self.signature,
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }

    pub fn command(&self) -> Result<Command, WireError> {
        Command::try_from(self.command_code).map_err(|_| WireError::new("Command", 12))
    }

    /// ChannelSequence of a request (SMB 3.x): the low half of what is Status in a response.
    pub const fn channel_sequence(&self) -> u16 {
        self.status.0 as u16
    }

    /// The tree of a synchronous header.
    pub const fn tree_id(&self) -> Option<TreeId> {
        match self.addressing {
            Addressing::Sync(tree) => Some(tree),
            Addressing::Async(_) => None,
        }
    }

    /// The AsyncId of an asynchronous header.
    pub const fn async_id(&self) -> Option<AsyncId> {
        match self.addressing {
            Addressing::Sync(_) => None,
            Addressing::Async(id) => Some(id),
        }
    }

    pub const fn is_response(&self) -> bool {
        self.flags.contains(HeaderFlags::SERVER_TO_REDIR)
    }

    pub const fn is_related(&self) -> bool {
        self.flags.contains(HeaderFlags::RELATED_OPERATIONS)
    }

    pub const fn is_signed(&self) -> bool {
        self.flags.contains(HeaderFlags::SIGNED)
    }

    fn normalized(mut self) -> Self {
        let is_async = matches!(self.addressing, Addressing::Async(_));
        self.flags.set(HeaderFlags::ASYNC_COMMAND, is_async);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const GOLDEN: [u8; 64] = [
        0xFE, b'S', b'M', b'B', 64, 0, 2, 0, // ProtocolId, StructureSize, CreditCharge
        7, 0, 0, 0, 8, 0, 31, 0, // ChannelSequence, Reserved, Command READ, CreditRequest
        0x08, 0, 0, 0, 0, 0, 0, 0, // Flags SIGNED, NextCommand
        9, 0, 0, 0, 0, 0, 0, 0, // MessageId
        0xFF, 0xFE, 0, 0, 5, 0, 0, 0, // Reserved, TreeId
        0x21, 0x43, 0x65, 0x87, 0, 0, 0, 1, // SessionId
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, // Signature
    ];

    #[test]
    fn decodes_a_synchronous_request() {
        let header = Header::decode(&GOLDEN).unwrap();
        assert_eq!(header.credit_charge, 2);
        assert_eq!(header.channel_sequence(), 7);
        assert_eq!(header.command(), Ok(Command::Read));
        assert_eq!(header.credits, 31);
        assert!(header.is_signed() && !header.is_response() && !header.is_related());
        assert_eq!(header.message_id, MessageId(9));
        assert_eq!(header.tree_id(), Some(TreeId(5)));
        assert_eq!(header.async_id(), None);
        assert_eq!(header.session_id, SessionId(0x0100_0000_8765_4321));
        assert_eq!(header.signature[15], 16);
    }

    #[test]
    fn encodes_what_it_decoded_with_reserved_zero() {
        let mut out = Vec::new();
        Header::decode(&GOLDEN).unwrap().encode(&mut out);
        let mut expected = GOLDEN;
        expected[32..36].fill(0);
        assert_eq!(out, expected);
    }

    #[test]
    fn an_asynchronous_header_carries_its_id_and_flag() {
        let mut header = Header::request(Command::Cancel, MessageId(0));
        header.addressing = Addressing::Async(AsyncId(0x1122_3344_5566_7788));
        let mut out = Vec::new();
        header.encode(&mut out);
        assert_eq!(out[16], 0x02);
        assert_eq!(out[32..40], 0x1122_3344_5566_7788_u64.to_le_bytes());
        let decoded = Header::decode(&out).unwrap();
        assert_eq!(decoded.async_id(), Some(AsyncId(0x1122_3344_5566_7788)));
        assert_eq!(decoded.tree_id(), None);
    }

    #[test]
    fn a_response_keeps_ids_and_drops_signature_and_chain() {
        let request = Header::decode(&GOLDEN).unwrap();
        let response = request.response(NtStatus::ACCESS_DENIED, 3);
        assert_eq!(response.status, NtStatus::ACCESS_DENIED);
        assert_eq!(response.flags, HeaderFlags::SERVER_TO_REDIR);
        assert_eq!(response.credits, 3);
        assert_eq!(response.message_id, request.message_id);
        assert_eq!(response.addressing, request.addressing);
        assert_eq!(response.signature, [0; 16]);
    }

    #[test]
    fn wrong_protocol_size_command_or_length_is_named() {
        for length in 0..64 {
            let error = Header::decode(&GOLDEN[..length]).unwrap_err();
            assert_eq!(error, WireError::new("Header", 0));
        }
        let mut bytes = GOLDEN;
        bytes[0] = 0xFF;
        assert_eq!(Header::decode(&bytes).unwrap_err().field, "ProtocolId");
        let mut bytes = GOLDEN;
        bytes[4] = 65;
        assert_eq!(Header::decode(&bytes).unwrap_err().field, "StructureSize");
        let mut bytes = GOLDEN;
        bytes[12] = 0x14;
        let header = Header::decode(&bytes).unwrap();
        assert_eq!(header.command(), Err(WireError::new("Command", 12)));
    }
}
