//! Encrypted messages of SMB 3.1.1 (MS-SMB2 3.1.4.3, 3.1.5.1): AES-128-GCM and AES-256-GCM.
//!
//! Called by dispatch: a message is opened before anything of it is parsed, and its replies are
//! sealed as one. A session has one cipher for all its channels, so no nonce is used twice.

use std::cell::Cell;
use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use proto::smb2::SessionId;
use proto::smb2::negotiate_context::cipher;
use proto::smb2::transform::TransformHeader;

use super::keys::{CipherKeyLength, CipherKeys};

const TAG_LENGTH: usize = 16;

/// Connection.CipherId (MS-SMB2 2.2.3.1.2), as far as it is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
}

impl Cipher {
    /// The identifier on the wire.
    pub fn id(self) -> u16 {
        match self {
            Cipher::Aes128Gcm => cipher::AES_128_GCM,
            Cipher::Aes256Gcm => cipher::AES_256_GCM,
        }
    }

    /// Length of its keys.
    pub fn key_length(self) -> CipherKeyLength {
        match self {
            Cipher::Aes128Gcm => CipherKeyLength::Bits128,
            Cipher::Aes256Gcm => CipherKeyLength::Bits256,
        }
    }
}

/// A message that is not what its transform header says, or was changed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an encrypted message is cut, changed or made with another key (MS-SMB2 3.3.5.2.1.1)")]
pub struct NotAuthentic;

/// The keys of a session, ready for use.
pub struct MessageCipher {
    cipher: Cipher,
    from_client: LessSafeKey,
    to_client: LessSafeKey,
    sealed: Cell<u64>,
}

impl MessageCipher {
    /// `keys` are as long as the cipher wants.
    pub fn new(cipher: Cipher, keys: &CipherKeys) -> Option<MessageCipher> {
        let algorithm = match cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
        };
        let key = |bytes: &[u8]| UnboundKey::new(algorithm, bytes).ok().map(LessSafeKey::new);
        Some(MessageCipher {
            cipher,
            from_client: key(&keys.client_to_server)?,
            to_client: key(&keys.server_to_client)?,
            sealed: Cell::new(0),
        })
    }

    /// Which it is.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// The plain message of an encrypted one, whose transform header is `header`.
    pub fn open(
        &self,
        header: &TransformHeader,
        mut message: Vec<u8>,
    ) -> Result<Vec<u8>, NotAuthentic> {
        let length = message.len().saturating_sub(TransformHeader::SIZE);
        if header.original_message_size as usize != length
            || header.flags != TransformHeader::FLAG_ENCRYPTED
        {
            return Err(NotAuthentic);
        }
        let authenticated = message
            .get(TransformHeader::AUTHENTICATED_OFFSET..TransformHeader::SIZE)
            .ok_or(NotAuthentic)?
            .to_vec();
        message.extend_from_slice(&header.signature);
        let length = self
            .from_client
            .open_within(
                nonce(header)?,
                Aad::from(authenticated),
                &mut message,
                TransformHeader::SIZE..,
            )
            .map_err(|_| NotAuthentic)?
            .len();
        message.truncate(length);
        Ok(message)
    }

    /// The encrypted message of a plain one, given in pieces.
    pub fn seal(&self, session: SessionId, pieces: &[Vec<u8>]) -> Result<Vec<u8>, NotAuthentic> {
        let count = self.sealed.get();
        self.sealed.set(count.checked_add(1).ok_or(NotAuthentic)?);
        let mut header = TransformHeader {
            signature: [0; TAG_LENGTH],
            nonce: [0; 16],
            original_message_size: 0,
            flags: TransformHeader::FLAG_ENCRYPTED,
            session_id: session,
        };
        header.nonce[..8].copy_from_slice(&count.to_le_bytes());
        let length: usize = pieces.iter().map(Vec::len).sum();
        header.original_message_size = u32::try_from(length).map_err(|_| NotAuthentic)?;
        let mut message = Vec::with_capacity(TransformHeader::SIZE + length);
        header.encode(&mut message);
        let authenticated = message
            .get(TransformHeader::AUTHENTICATED_OFFSET..)
            .unwrap_or_default()
            .to_vec();
        pieces
            .iter()
            .for_each(|piece| message.extend_from_slice(piece));
        let (_, plain) = message
            .split_at_mut_checked(TransformHeader::SIZE)
            .ok_or(NotAuthentic)?;
        let tag = self
            .to_client
            .seal_in_place_separate_tag(nonce(&header)?, Aad::from(authenticated), plain)
            .map_err(|_| NotAuthentic)?;
        // The signature follows the protocol identifier.
        message
            .iter_mut()
            .skip(4)
            .zip(tag.as_ref())
            .for_each(|(place, byte)| *place = *byte);
        Ok(message)
    }
}

impl fmt::Debug for MessageCipher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MessageCipher({:?}, redacted)", self.cipher)
    }
}

/// GCM uses the first 12 of the header's 16 bytes (MS-SMB2 2.2.41).
fn nonce(header: &TransformHeader) -> Result<Nonce, NotAuthentic> {
    let bytes = header.nonce.first_chunk::<12>().ok_or(NotAuthentic)?;
    Ok(Nonce::assume_unique_for_key(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cipher and its mirror image, the client's.
    fn pair(cipher: Cipher) -> (MessageCipher, MessageCipher) {
        let length = cipher.key_length() as usize;
        let keys = |first: u8, second: u8| CipherKeys {
            client_to_server: vec![first; length],
            server_to_client: vec![second; length],
        };
        (
            MessageCipher::new(cipher, &keys(1, 2)).unwrap(),
            MessageCipher::new(cipher, &keys(2, 1)).unwrap(),
        )
    }

    #[test]
    fn what_one_side_seals_the_other_opens_and_no_two_messages_look_alike() {
        for cipher in [Cipher::Aes128Gcm, Cipher::Aes256Gcm] {
            let (server, client) = pair(cipher);
            let pieces = [b"head".to_vec(), b"data".to_vec()];
            let first = server.seal(SessionId(7), &pieces).unwrap();
            let second = server.seal(SessionId(7), &pieces).unwrap();
            assert_ne!(first, second);
            let header = TransformHeader::decode(&first).unwrap();
            assert_eq!(header.session_id, SessionId(7));
            assert_eq!(client.open(&header, first).unwrap(), b"headdata");
        }
    }

    #[test]
    fn a_changed_or_cut_message_is_not_opened() {
        let (server, client) = pair(Cipher::Aes128Gcm);
        let sealed = server.seal(SessionId(7), &[vec![9; 40]]).unwrap();
        for place in 4..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            let header = TransformHeader::decode(&changed).unwrap();
            // The nonce's last four bytes are not used, but they are authenticated.
            assert!(client.open(&header, changed).is_err(), "byte {place}");
        }
        let header = TransformHeader::decode(&sealed).unwrap();
        for length in 0..sealed.len() {
            assert!(client.open(&header, sealed[..length].to_vec()).is_err());
        }
    }
}
