//! Compressed messages (MS-SMB2 3.2.4.1.9, 3.2.5.1.1.2): behind signing and before encryption, and
//! the other way round for what comes.

use proto::smb2::HEADER_SIZE;
use proto::smb2::compression::COMPRESSION_PROTOCOL_ID;

use super::ClientError;

/// Far above what a server may send.
const LARGEST: usize = 16 << 20;

/// What is compressed, and what was seen to be.
#[derive(Debug, Default)]
pub struct Compression {
    pub(super) negotiated: Option<smbd::compression::Compression>,
    /// Compresses what it sends where that is shorter, and asks for compressed answers.
    pub is_on: bool,
    /// Messages sent compressed.
    pub sent: u32,
    /// Messages that came compressed.
    pub received: u32,
}

impl Compression {
    pub(super) fn pack(&mut self, message: Vec<u8>) -> Vec<u8> {
        if self.is_on
            && let Some(negotiated) = &self.negotiated
            && let Some((leading, data)) = message.split_at_checked(HEADER_SIZE)
            && let Some(packed) = negotiated.compress(leading, data, Vec::new())
        {
            self.sent += 1;
            return packed;
        }
        message
    }

    pub(super) fn unpack(&mut self, message: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        if !message.starts_with(&COMPRESSION_PROTOCOL_ID) {
            return Ok(message);
        }
        self.received += 1;
        self.negotiated
            .as_ref()
            .ok_or_else(|| ClientError::protocol("compressed, not negotiated"))?
            .decompress(&message, LARGEST, Vec::new())
            .map_err(ClientError::protocol)
    }
}
