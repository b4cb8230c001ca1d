//! NTLMv2's one-way functions (MS-NLMP 3.3.2): NT hash, response key, proof, session base key, MIC.
//!
//! Called by the acceptor, the initiator and `users` (which makes hashes). Secrets are zeroed when
//! dropped and never printed.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md4::{Digest, Md4};
use md5::Md5;
use rc4::{Rc4, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::message::{Malformed, malformed, utf16_bytes};

/// MD4 of the UTF-16LE password: NTOWFv1, all this server ever stores.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct NtHash([u8; 16]);

impl NtHash {
    pub fn of_password(password: &str) -> NtHash {
        let mut units = utf16_bytes(password);
        let hash = NtHash(Md4::digest(&units).into());
        units.zeroize();
        hash
    }

    pub fn from_bytes(bytes: [u8; 16]) -> NtHash {
        NtHash(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for NtHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NtHash(redacted)")
    }
}

/// A session key: ExportedSessionKey for NTLM, the ticket's for Kerberos. SMB calls its first 16 bytes
/// Session.SessionKey, and the whole Session.FullSessionKey (MS-SMB2 3.3.1.8).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey {
    first: [u8; 16],
    full: Vec<u8>,
}

impl SessionKey {
    pub fn from_bytes(bytes: [u8; 16]) -> SessionKey {
        SessionKey {
            first: bytes,
            full: bytes.to_vec(),
        }
    }

    /// A key of any length; a short one is followed by zeros (MS-SMB2 3.3.5.5.3).
    pub fn from_slice(key: &[u8]) -> SessionKey {
        let mut first = [0; 16];
        first
            .iter_mut()
            .zip(key)
            .for_each(|(byte, of_key)| *byte = *of_key);
        SessionKey {
            first,
            full: key.to_vec(),
        }
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.first
    }

    /// Session.FullSessionKey.
    pub fn full(&self) -> &[u8] {
        &self.full
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionKey(redacted)")
    }
}

/// NTOWFv2: the key NTLMv2 proofs are made with.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct ResponseKey([u8; 16]);

impl ResponseKey {
    /// `user` and `domain` are the client's own strings: it hashed these (MS-NLMP 3.3.2).
    pub(super) fn new(hash: &NtHash, user: &str, domain: &str) -> ResponseKey {
        let user = user.chars().map(simple_uppercase).collect::<String>();
        ResponseKey(hmac_md5(
            &hash.0,
            &[&utf16_bytes(&user), &utf16_bytes(domain)],
        ))
    }

    pub(super) fn proof(&self, server_challenge: &[u8; 8], client_blob: &[u8]) -> [u8; 16] {
        hmac_md5(&self.0, &[server_challenge, client_blob])
    }

    pub(super) fn session_base_key(&self, proof: &[u8; 16]) -> SessionKey {
        SessionKey::from_bytes(hmac_md5(&self.0, &[proof]))
    }

    /// LMv2 (MS-NLMP 3.3.2); only ever sent by a client that got no target information.
    pub(super) fn lm_response(
        &self,
        server_challenge: &[u8; 8],
        client_challenge: &[u8; 8],
    ) -> Vec<u8> {
        let mut response = hmac_md5(&self.0, &[server_challenge, client_challenge]).to_vec();
        response.extend_from_slice(client_challenge);
        response
    }
}

/// NTLMv2_RESPONSE (MS-NLMP 2.2.2.8), split into its proof and the blob (2.2.2.7) the proof covers.
pub(super) struct NtlmV2Response<'a> {
    pub(super) proof: [u8; 16],
    pub(super) blob: &'a [u8],
    pub(super) timestamp: u64,
    pub(super) av_pairs: &'a [u8],
}

impl<'a> NtlmV2Response<'a> {
    pub(super) fn parse(response: &'a [u8]) -> Result<NtlmV2Response<'a>, Malformed> {
        let Some((proof, blob)) = response.split_first_chunk::<16>() else {
            return malformed("NTProofStr");
        };
        let Some((fixed, av_pairs)) = blob.split_first_chunk::<28>() else {
            return malformed("NTLMv2_CLIENT_CHALLENGE");
        };
        let [1, 1, _, _, _, _, _, _, timestamp @ ..] = fixed else {
            return malformed("RespType");
        };
        let timestamp = timestamp
            .first_chunk::<8>()
            .map_or(0, |time| u64::from_le_bytes(*time));
        Ok(NtlmV2Response {
            proof: *proof,
            blob,
            timestamp,
            av_pairs,
        })
    }

    /// The blob a client makes (3.3.2, `temp`).
    pub(super) fn build_blob(
        timestamp: u64,
        client_challenge: &[u8; 8],
        av_pairs: &[u8],
    ) -> Vec<u8> {
        let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
        blob.extend_from_slice(&timestamp.to_le_bytes());
        blob.extend_from_slice(client_challenge);
        blob.extend_from_slice(&[0; 4]);
        blob.extend_from_slice(av_pairs);
        blob.extend_from_slice(&[0; 4]);
        blob
    }
}

/// HMAC-MD5 over the three messages, the last one's MIC taken as zeros (MS-NLMP 3.1.5.1.2).
pub(super) fn message_integrity_code(
    key: &SessionKey,
    negotiate: &[u8],
    challenge: &[u8],
    before_mic: &[u8],
    after_mic: &[u8],
) -> [u8; 16] {
    hmac_md5(
        key.as_bytes(),
        &[negotiate, challenge, before_mic, &[0; 16], after_mic],
    )
}

pub(super) fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// RC4 with a 16-byte key: its own inverse.
pub(super) fn rc4<const N: usize>(key: &[u8; 16], mut data: [u8; N]) -> [u8; N] {
    let mut cipher = Rc4::new_from_slice(key).expect("RC4 takes a key of 16 bytes");
    cipher.apply_keystream(&mut data);
    data
}

/// Equality whose time does not depend on where two values differ.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// Upper case one code point to one code point, as Windows' table does: 'ß' stays what it is.
fn simple_uppercase(letter: char) -> char {
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => single,
        _ => letter,
    }
}
