//! SMB 3.x encryption (MS-SMB2 3.1.4.3, 3.2.5.1.1, 3.3.5.2.1.1): whole messages behind a transform
//! header, sealed and opened with a session's two keys.
//!
//! Dispatch calls it; it knows no session but its number. Payloads that move by RDMA are sealed with
//! the same keys, nothing but them authenticated (2.2.43.1). Each nonce is used once: they are counted
//! up, and a session ends before its count could wrap.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aes::{Aes128, Aes256};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ccm::aead::{AeadInOut, KeyInit};
use ccm::consts::{U11, U16};
use proto::smb2::SessionId;
use proto::smb2::negotiate_context::cipher;
use proto::smb2::transform::TransformHeader;
use proto::wire::WireError;

use super::keys::{CipherKeyLength, CipherKeys};

const TAG: usize = 16;
const CCM_NONCE: usize = 11;
const GCM_NONCE: usize = 12;

type Ccm128 = ccm::Ccm<Aes128, U16, U11>;
type Ccm256 = ccm::Ccm<Aes256, U16, U11>;

/// Connection.CipherId.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Aes128Ccm,
    Aes128Gcm,
    Aes256Ccm,
    Aes256Gcm,
}

impl Cipher {
    /// All of them, in the order in which Windows prefers them.
    pub const PREFERENCE: [Cipher; 4] = [
        Cipher::Aes128Gcm,
        Cipher::Aes128Ccm,
        Cipher::Aes256Gcm,
        Cipher::Aes256Ccm,
    ];

    /// Its number in a negotiate context (MS-SMB2 2.2.3.1.2).
    pub fn id(self) -> u16 {
        match self {
            Cipher::Aes128Ccm => cipher::AES_128_CCM,
            Cipher::Aes128Gcm => cipher::AES_128_GCM,
            Cipher::Aes256Ccm => cipher::AES_256_CCM,
            Cipher::Aes256Gcm => cipher::AES_256_GCM,
        }
    }

    /// The cipher of that number.
    pub fn from_id(id: u16) -> Option<Cipher> {
        Self::PREFERENCE
            .into_iter()
            .find(|cipher| cipher.id() == id)
    }

    /// How long its keys are.
    pub fn key_length(self) -> CipherKeyLength {
        match self {
            Cipher::Aes128Ccm | Cipher::Aes128Gcm => CipherKeyLength::Bits128,
            Cipher::Aes256Ccm | Cipher::Aes256Gcm => CipherKeyLength::Bits256,
        }
    }

    fn nonce_length(self) -> usize {
        match self {
            Cipher::Aes128Ccm | Cipher::Aes256Ccm => CCM_NONCE,
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => GCM_NONCE,
        }
    }
}

/// Which end of a session holds the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Server,
    Client,
}

/// Why a message can't be opened. All of them end the connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0} (MS-SMB2 2.2.41)")]
    Malformed(#[from] WireError),
    #[error("the transform header says {announced} bytes, {present} follow (MS-SMB2 3.3.5.2.1.1)")]
    Size { announced: u32, present: usize },
    #[error("the transform header's flags are {0:#x}, not \"encrypted\" (MS-SMB2 3.3.5.2.1.1)")]
    Flags(u16),
    #[error("a message was encrypted with another key, or changed on its way")]
    Forged,
}

/// The session has used up its nonces; it must end.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the session has sealed as many messages as its key is good for; log on anew")]
pub struct NoncesUsedUp;

/// A session's cipher: both keys and the count of nonces.
pub struct SessionCipher {
    cipher: Cipher,
    sealing: Arc<Key>,
    opening: Arc<Key>,
    next_nonce: AtomicU64,
}

impl fmt::Debug for SessionCipher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SessionCipher({:?})", self.cipher)
    }
}

impl SessionCipher {
    /// The cipher of one end of a session.
    ///
    /// # Panics
    /// If the keys were not made for this cipher's length.
    pub fn new(cipher: Cipher, keys: &CipherKeys, end: End) -> SessionCipher {
        let (sealing, opening) = match end {
            End::Server => (&keys.server_to_client, &keys.client_to_server),
            End::Client => (&keys.client_to_server, &keys.server_to_client),
        };
        SessionCipher {
            cipher,
            sealing: Key::new(cipher, sealing).into(),
            opening: Key::new(cipher, opening).into(),
            next_nonce: AtomicU64::new(1),
        }
    }

    /// Which it is.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Seals a message in place. It lies behind room for a transform header, the first
    /// `TransformHeader::SIZE` bytes, which is filled in.
    ///
    /// # Panics
    /// If there is no room.
    pub fn seal(&self, session: SessionId, message: &mut [u8]) -> Result<(), NoncesUsedUp> {
        let (room, body) = message.split_at_mut(TransformHeader::SIZE);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.take_nonce()?.to_le_bytes());
        let mut header = TransformHeader {
            signature: [0; 16],
            nonce,
            original_message_size: u32::try_from(body.len()).unwrap_or(u32::MAX),
            flags: TransformHeader::FLAG_ENCRYPTED,
            session_id: session,
        };
        let mut head = Vec::with_capacity(TransformHeader::SIZE);
        header.encode(&mut head);
        let authenticated = &head[TransformHeader::AUTHENTICATED_OFFSET..];
        let nonce = &nonce[..self.cipher.nonce_length()];
        header.signature = self.sealing.seal(nonce, authenticated, body);
        head[4..20].copy_from_slice(&header.signature);
        room.copy_from_slice(&head);
        Ok(())
    }

    /// What seals one payload that moves by RDMA; it may be used on another thread.
    pub fn payload_sealer(&self) -> Result<PayloadSealer, NoncesUsedUp> {
        let mut nonce = self.take_nonce()?.to_le_bytes().to_vec();
        nonce.resize(self.cipher.nonce_length(), 0);
        Ok(PayloadSealer {
            key: Arc::clone(&self.sealing),
            nonce,
        })
    }

    /// What opens payloads that moved by RDMA; likewise.
    pub fn payload_opener(&self) -> PayloadOpener {
        PayloadOpener {
            key: Arc::clone(&self.opening),
            nonce_length: self.cipher.nonce_length(),
        }
    }

    /// Messages and payloads have one count: they have one key.
    fn take_nonce(&self) -> Result<u64, NoncesUsedUp> {
        self.next_nonce
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                next.checked_add(1)
            })
            .map_err(|_| NoncesUsedUp)
    }

    /// Opens an encrypted message in place: behind its transform header it is the plain one then.
    pub fn open(&self, message: &mut [u8]) -> Result<(), OpenError> {
        let header = TransformHeader::decode(message)?;
        let present = message.len() - TransformHeader::SIZE;
        if header.original_message_size as usize != present {
            return Err(OpenError::Size {
                announced: header.original_message_size,
                present,
            });
        }
        if header.flags != TransformHeader::FLAG_ENCRYPTED {
            return Err(OpenError::Flags(header.flags));
        }
        let (head, body) = message.split_at_mut(TransformHeader::SIZE);
        let authenticated = &head[TransformHeader::AUTHENTICATED_OFFSET..];
        let nonce = &header.nonce[..self.cipher.nonce_length()];
        if !self
            .opening
            .open(nonce, authenticated, body, &header.signature)
        {
            return Err(OpenError::Forged);
        }
        Ok(())
    }
}

/// Seals one payload, with a nonce nothing else has.
pub struct PayloadSealer {
    key: Arc<Key>,
    nonce: Vec<u8>,
}

impl PayloadSealer {
    /// Encrypts in place; the tag, and the nonce the other end needs.
    pub fn seal(self, payload: &mut [u8]) -> ([u8; TAG], Vec<u8>) {
        let tag = self.key.seal(&self.nonce, &[], payload);
        (tag, self.nonce)
    }
}

/// Opens payloads of a session.
pub struct PayloadOpener {
    key: Arc<Key>,
    nonce_length: usize,
}

impl PayloadOpener {
    /// Decrypts in place; false if the tag is wrong, or it or the nonce has not the cipher's length.
    /// What is left of the payload then is nothing to use.
    pub fn open(&self, nonce: &[u8], payload: &mut [u8], tag: &[u8]) -> bool {
        match tag.try_into() {
            Ok(tag) if nonce.len() == self.nonce_length => self.key.open(nonce, &[], payload, tag),
            _ => false,
        }
    }
}

enum Key {
    Gcm(LessSafeKey),
    Ccm128(Box<Ccm128>),
    Ccm256(Box<Ccm256>),
}

const LENGTH: &str = "the key is as long as its cipher wants";
const SIZE: &str = "no SMB2 message is as long as an AEAD's limit";

impl Key {
    fn new(cipher: Cipher, key: &[u8]) -> Key {
        let gcm = |algorithm| {
            let key = UnboundKey::new(algorithm, key).expect(LENGTH);
            Key::Gcm(LessSafeKey::new(key))
        };
        match cipher {
            Cipher::Aes128Gcm => gcm(&AES_128_GCM),
            Cipher::Aes256Gcm => gcm(&AES_256_GCM),
            Cipher::Aes128Ccm => Key::Ccm128(Ccm128::new_from_slice(key).expect(LENGTH).into()),
            Cipher::Aes256Ccm => Key::Ccm256(Ccm256::new_from_slice(key).expect(LENGTH).into()),
        }
    }

    fn seal(&self, nonce: &[u8], authenticated: &[u8], body: &mut [u8]) -> [u8; TAG] {
        match self {
            Key::Gcm(key) => {
                let nonce = Nonce::try_assume_unique_for_key(nonce).expect(LENGTH);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(authenticated), body)
                    .expect(SIZE);
                tag.as_ref().try_into().expect(LENGTH)
            }
            Key::Ccm128(key) => seal_ccm(&**key, nonce, authenticated, body),
            Key::Ccm256(key) => seal_ccm(&**key, nonce, authenticated, body),
        }
    }

    /// Decrypts in place; false if the tag is wrong.
    fn open(&self, nonce: &[u8], authenticated: &[u8], body: &mut [u8], tag: &[u8; TAG]) -> bool {
        match self {
            Key::Gcm(key) => {
                let nonce = Nonce::try_assume_unique_for_key(nonce).expect(LENGTH);
                key.open_in_place_separate_tag(nonce, Aad::from(authenticated), tag, body)
                    .is_ok()
            }
            Key::Ccm128(key) => open_ccm(&**key, nonce, authenticated, body, tag),
            Key::Ccm256(key) => open_ccm(&**key, nonce, authenticated, body, tag),
        }
    }
}

fn seal_ccm<K>(key: &K, nonce: &[u8], authenticated: &[u8], body: &mut [u8]) -> [u8; TAG]
where
    K: AeadInOut<NonceSize = U11, TagSize = U16>,
{
    let nonce = nonce.try_into().expect(LENGTH);
    let tag = key
        .encrypt_inout_detached(&nonce, authenticated, body.into())
        .expect(SIZE);
    tag.into()
}

fn open_ccm<K>(
    key: &K,
    nonce: &[u8],
    authenticated: &[u8],
    body: &mut [u8],
    tag: &[u8; TAG],
) -> bool
where
    K: AeadInOut<NonceSize = U11, TagSize = U16>,
{
    let nonce = nonce.try_into().expect(LENGTH);
    key.decrypt_inout_detached(&nonce, authenticated, body.into(), tag.into())
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(cipher: Cipher) -> (SessionCipher, SessionCipher) {
        let length = cipher.key_length() as usize;
        let keys = CipherKeys {
            client_to_server: (0..length as u8).collect(),
            server_to_client: vec![0x5a; length],
        };
        (
            SessionCipher::new(cipher, &keys, End::Client),
            SessionCipher::new(cipher, &keys, End::Server),
        )
    }

    fn seal(end: &SessionCipher, session: u64, plain: &[u8]) -> Result<Vec<u8>, NoncesUsedUp> {
        let mut message = vec![0; TransformHeader::SIZE];
        message.extend_from_slice(plain);
        end.seal(SessionId(session), &mut message).map(|()| message)
    }

    #[test]
    fn what_one_end_seals_the_other_opens_with_each_cipher() {
        for cipher in Cipher::PREFERENCE {
            assert_eq!(Cipher::from_id(cipher.id()), Some(cipher));
            let (client, server) = ends(cipher);
            for message in [&b""[..], b"x", &[7; 100_000]] {
                let mut sealed = seal(&client, 9, message).unwrap();
                let header = TransformHeader::decode(&sealed).unwrap();
                assert_eq!(header.session_id, SessionId(9));
                if message.len() > 16 {
                    assert_ne!(&sealed[TransformHeader::SIZE..], message);
                }
                server.open(&mut sealed).unwrap();
                assert_eq!(&sealed[TransformHeader::SIZE..], message);
                let mut answer = seal(&server, 9, message).unwrap();
                client.open(&mut answer).unwrap();
                assert_eq!(&answer[TransformHeader::SIZE..], message);
            }
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        for cipher in Cipher::PREFERENCE {
            let (client, server) = ends(cipher);
            let sealed = seal(&client, 1, b"a plain message").unwrap();
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 0x40;
                // The unused tail of the nonce field is authenticated too.
                assert!(server.open(&mut changed).is_err(), "{cipher:?}, byte {at}");
            }
            for length in 0..sealed.len() {
                assert!(server.open(&mut sealed[..length].to_vec()).is_err());
            }
        }
    }

    #[test]
    fn the_keys_of_the_two_directions_differ() {
        let (client, _) = ends(Cipher::Aes128Gcm);
        let mut sealed = seal(&client, 1, b"reflected").unwrap();
        assert!(matches!(client.open(&mut sealed), Err(OpenError::Forged)));
    }

    #[test]
    fn no_nonce_is_used_twice_and_the_last_one_never() {
        let (client, _) = ends(Cipher::Aes256Gcm);
        let nonce = |sealed: &[u8]| TransformHeader::decode(sealed).unwrap().nonce;
        let first = seal(&client, 1, b"x").unwrap();
        let second = seal(&client, 1, b"x").unwrap();
        assert_ne!(nonce(&first), nonce(&second));
        client.next_nonce.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(seal(&client, 1, b"x"), Err(NoncesUsedUp));
    }

    #[test]
    fn gcm_gives_a_published_value() {
        // Test case 4 of the GCM specification: AES-128, 12-byte nonce, 20 bytes of extra data.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
                .collect()
        };
        let key = Key::new(Cipher::Aes128Gcm, &hex("feffe9928665731c6d6a8f9467308308"));
        let mut body = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let tag = key.seal(
            &hex("cafebabefacedbaddecaf888"),
            &hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
            &mut body,
        );
        assert_eq!(tag.to_vec(), hex("5bc94fbc3221a5db94fae95ae7121a47"));
    }
}
