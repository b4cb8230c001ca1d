//! The keys of an SMB session (MS-SMB2 3.1.4.2, 3.3.5.5.3) and the preauthentication integrity hash
//! they depend on.
//!
//! Called when a session or a channel is established. Keys are zeroed when dropped and never
//! printed.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ntlm::SessionKey;

/// A signing or application key.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key128([u8; 16]);

impl Key128 {
    pub fn from_bytes(bytes: [u8; 16]) -> Key128 {
        Key128(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Key128 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key128(redacted)")
    }
}

/// The two keys of an encrypted session. As long as its cipher wants: 16 bytes, or 32 for AES-256.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CipherKeys {
    /// The server's DecryptionKey.
    pub client_to_server: Vec<u8>,
    /// The server's EncryptionKey.
    pub server_to_client: Vec<u8>,
}

impl fmt::Debug for CipherKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CipherKeys(redacted)")
    }
}

/// Which keys a dialect makes of a session key.
#[derive(Clone, Copy, Debug)]
pub enum KeySchedule<'a> {
    /// 2.0.2 and 2.1: the session key itself signs; nothing is encrypted.
    Smb2,
    /// 3.0 and 3.0.2.
    Smb30,
    /// 3.1.1: bound to what was said before. The hash is the session's, or for a bound channel the
    /// channel's.
    Smb311(&'a PreauthHash),
}

/// Length of the cipher's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherKeyLength {
    Bits128 = 16,
    Bits256 = 32,
}

impl KeySchedule<'_> {
    /// Session.SigningKey or Channel.SigningKey.
    pub fn signing_key(&self, session_key: &SessionKey) -> Key128 {
        match self {
            KeySchedule::Smb2 => Key128(*session_key.as_bytes()),
            KeySchedule::Smb30 => derive_128(session_key, b"SMB2AESCMAC\0", b"SmbSign\0"),
            KeySchedule::Smb311(hash) => derive_128(session_key, b"SMBSigningKey\0", &hash.0),
        }
    }

    /// Session.ApplicationKey, for protocols on top of SMB.
    pub fn application_key(&self, session_key: &SessionKey) -> Key128 {
        match self {
            KeySchedule::Smb2 => Key128(*session_key.as_bytes()),
            KeySchedule::Smb30 => derive_128(session_key, b"SMB2APP\0", b"SmbRpc\0"),
            KeySchedule::Smb311(hash) => derive_128(session_key, b"SMBAppKey\0", &hash.0),
        }
    }

    /// `None` before 3.0.
    pub fn cipher_keys(
        &self,
        session_key: &SessionKey,
        length: CipherKeyLength,
    ) -> Option<CipherKeys> {
        // MS-SMB2 3.3.5.5.3: keys of 256 bits are made of the whole session key.
        let base = match length {
            CipherKeyLength::Bits128 => session_key.as_bytes().as_slice(),
            CipherKeyLength::Bits256 => session_key.full(),
        };
        let derive = |label: &[u8], context: &[u8]| {
            let mut key = vec![0; length as usize];
            derive(base, label, context, &mut key);
            key
        };
        let (client_to_server, server_to_client) = match self {
            KeySchedule::Smb2 => return None,
            // The blank in "ServerIn " is the specification's.
            KeySchedule::Smb30 => (
                derive(b"SMB2AESCCM\0", b"ServerIn \0"),
                derive(b"SMB2AESCCM\0", b"ServerOut\0"),
            ),
            KeySchedule::Smb311(hash) => (
                derive(b"SMBC2SCipherKey\0", &hash.0),
                derive(b"SMBS2CCipherKey\0", &hash.0),
            ),
        };
        Some(CipherKeys {
            client_to_server,
            server_to_client,
        })
    }
}

/// PreauthIntegrityHashValue (MS-SMB2 3.3.5.4): SHA-512 of itself and the next message, starting
/// from zeros.
#[derive(Clone, PartialEq, Eq)]
pub struct PreauthHash([u8; 64]);

impl Default for PreauthHash {
    fn default() -> PreauthHash {
        PreauthHash([0; 64])
    }
}

impl PreauthHash {
    /// Takes in one whole message, given in pieces, from its SMB2 header on.
    pub fn update(&mut self, message: &[&[u8]]) {
        let mut context = digest::Context::new(&digest::SHA512);
        context.update(&self.0);
        for piece in message {
            context.update(piece);
        }
        self.0.copy_from_slice(context.finish().as_ref());
    }

    /// One that another process had got to.
    pub fn from_bytes(bytes: [u8; 64]) -> PreauthHash {
        PreauthHash(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for PreauthHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth, ..] = self.0;
        write!(
            formatter,
            "PreauthHash({first:02x}{second:02x}{third:02x}{fourth:02x}…)"
        )
    }
}

fn derive_128(session_key: &SessionKey, label: &[u8], context: &[u8]) -> Key128 {
    let mut key = Key128([0; 16]);
    derive(session_key.as_bytes(), label, context, &mut key.0);
    key
}

/// SP 800-108 in counter mode with HMAC-SHA256: label, a zero, context, length in bits.
fn derive(key: &[u8], label: &[u8], context: &[u8], output: &mut [u8]) {
    let bits = u32::try_from(output.len() * 8).expect("a key is a few bytes long");
    let info = [label, &[0], context, &bits.to_be_bytes()].concat();
    get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256)
        .and_then(|algorithm| kbkdf_ctr_hmac(algorithm, key, &info, output).ok())
        .expect("HMAC-SHA256 derives keys of any few bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let mut bytes = [0; N];
        assert_eq!(text.len(), 2 * N);
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap();
        }
        bytes
    }

    /// Microsoft's published examples of two 3.0 sessions: one signed, one encrypted.
    #[test]
    fn smb_3_0_keys_match_the_published_example() {
        let key = SessionKey::from_bytes(hex("7cd451825d0450d235424e44ba6e78cc"));
        let signing: [u8; 16] = hex("0b7e9c5cac36c0f6ea9ab275298cedce");
        assert_eq!(KeySchedule::Smb30.signing_key(&key).as_bytes(), &signing);

        let key = SessionKey::from_bytes(hex("b4546771b515f766a86735532dd6c4f0"));
        let cipher = KeySchedule::Smb30
            .cipher_keys(&key, CipherKeyLength::Bits128)
            .unwrap();
        let to_server: [u8; 16] = hex("261b72350558f2e9dcf613070383edbf");
        let to_client: [u8; 16] = hex("8fe2b57ec34d2db5b1a9727f526bbdb5");
        assert_eq!(cipher.client_to_server, to_server);
        assert_eq!(cipher.server_to_client, to_client);
    }

    /// Microsoft's published example of a 3.1.1 session.
    #[test]
    fn smb_3_1_1_keys_match_the_published_example() {
        let key = SessionKey::from_bytes(hex("270e1ba896585eeb7af3472d3b4c75a7"));
        let hash = PreauthHash(hex(concat!(
            "0dd13628cc3ed218ef9df9772d436d0887ab9814bfae63a80aa845f36909db79",
            "28622dddad522d9751640a459762c5a9d6bb084cbb3ce6bdadef5d5bce3c6c01",
        )));
        let signing: [u8; 16] = hex("73fe7a9a77bef0bde49c650d8ccb5f76");
        assert_eq!(
            KeySchedule::Smb311(&hash).signing_key(&key).as_bytes(),
            &signing
        );
    }

    #[test]
    fn an_smb_2_1_session_signs_with_its_session_key_and_encrypts_nothing() {
        let key = SessionKey::from_bytes([3; 16]);
        assert_eq!(
            KeySchedule::Smb2.signing_key(&key).as_bytes(),
            key.as_bytes()
        );
        assert!(
            KeySchedule::Smb2
                .cipher_keys(&key, CipherKeyLength::Bits128)
                .is_none()
        );
    }

    #[test]
    fn long_cipher_keys_are_not_an_extension_of_short_ones() {
        let key = SessionKey::from_bytes([3; 16]);
        let hash = PreauthHash::default();
        let schedule = KeySchedule::Smb311(&hash);
        let short = schedule
            .cipher_keys(&key, CipherKeyLength::Bits128)
            .unwrap();
        let long = schedule
            .cipher_keys(&key, CipherKeyLength::Bits256)
            .unwrap();
        assert_eq!(long.client_to_server.len(), 32);
        assert_ne!(long.client_to_server[..16], short.client_to_server[..]);
        assert_ne!(long.client_to_server, long.server_to_client);
    }

    #[test]
    fn the_preauth_hash_depends_on_messages_and_their_order_but_not_on_pieces() {
        let hash_of = |messages: &[&[&[u8]]]| {
            let mut hash = PreauthHash::default();
            messages.iter().for_each(|message| hash.update(message));
            hash
        };
        assert_eq!(
            hash_of(&[&[b"one"], &[b"two"]]),
            hash_of(&[&[b"o", b"ne"], &[b"two"]])
        );
        assert_ne!(
            hash_of(&[&[b"one"], &[b"two"]]),
            hash_of(&[&[b"two"], &[b"one"]])
        );
        assert_ne!(hash_of(&[&[b"one"], &[b"two"]]), hash_of(&[&[b"onetwo"]]));
    }

    #[test]
    fn no_key_is_printed() {
        assert_eq!(format!("{:?}", Key128([0xAB; 16])), "Key128(redacted)");
        let keys = CipherKeys {
            client_to_server: vec![0xAB; 16],
            server_to_client: vec![0xCD; 16],
        };
        assert_eq!(format!("{keys:?}"), "CipherKeys(redacted)");
    }
}
