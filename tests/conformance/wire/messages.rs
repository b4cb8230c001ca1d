//! Messages as a case wants them, right or wrong.

use proto::smbdirect::messages::{DataTransferHeader, NegotiateRequest, PAYLOAD_OFFSET};

/// A negotiate request the suite calls basic.
pub const BASIC: NegotiateRequest = NegotiateRequest {
    min_version: 0x0100,
    max_version: 0x0100,
    credits_requested: 10,
    preferred_send_size: 1024,
    max_receive_size: 1024,
    max_fragmented_size: 131_072,
};

/// One SMB Direct Data Transfer message (MS-SMBD 2.2.3), before its credits are filled in.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// CreditsRequested, if not the wire's own target.
    pub credits_requested: Option<u16>,
    /// CreditsGranted, if not what the wire has to grant.
    pub credits_granted: Option<u16>,
    pub flags: u16,
    pub reserved: u16,
    pub remaining: u32,
    pub data_offset: u32,
    pub data_length: u32,
    /// Everything behind the 20 bytes of the fixed part.
    pub tail: Vec<u8>,
}

impl Piece {
    /// One without payload.
    pub fn empty() -> Piece {
        Piece::default()
    }

    /// One that carries `payload`, `remaining` bytes of its message to follow.
    pub fn data(payload: &[u8], remaining: usize) -> Piece {
        let mut tail = vec![0; PAYLOAD_OFFSET as usize - DataTransferHeader::SIZE];
        tail.extend_from_slice(payload);
        Piece {
            remaining: remaining as u32,
            data_offset: PAYLOAD_OFFSET,
            data_length: payload.len() as u32,
            tail,
            ..Piece::default()
        }
    }

    /// Puts the payload somewhere else, and says so.
    pub fn place(&mut self, offset: u32) {
        let padding = self.data_offset as usize - DataTransferHeader::SIZE;
        let wanted = offset as usize - DataTransferHeader::SIZE;
        let padded = std::iter::repeat_n(0x5a, wanted);
        self.tail.splice(..padding, padded);
        self.data_offset = offset;
    }

    /// A message in pieces of these sizes, the last one as often as needed.
    pub fn cut(message: &[u8], sizes: impl IntoIterator<Item = usize>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut sizes = sizes.into_iter();
        let (mut done, mut size) = (0, message.len());
        while done < message.len() {
            size = sizes.next().unwrap_or(size);
            let end = message.len().min(done + size);
            pieces.push(match size {
                // RemainingDataLength of an empty one is what the next ones carry.
                0 => Piece {
                    remaining: (message.len() - done) as u32,
                    ..Piece::empty()
                },
                _ => Piece::data(&message[done..end], message.len() - end),
            });
            done = end;
        }
        pieces
    }

    /// As it is sent, with these credits.
    pub fn bytes(&self, requested: u16, granted: u16) -> Vec<u8> {
        let header = DataTransferHeader {
            credits_requested: requested,
            credits_granted: granted,
            flags: self.flags,
            remaining_data_length: self.remaining,
            data_offset: self.data_offset,
            data_length: self.data_length,
        };
        let mut bytes = header.encode().to_vec();
        bytes[6..8].copy_from_slice(&self.reserved.to_le_bytes());
        bytes.extend_from_slice(&self.tail);
        bytes
    }
}
