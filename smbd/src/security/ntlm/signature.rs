//! NTLM message signatures (MS-NLMP 3.4.4.2) for the one use SMB has: SPNEGO's mechListMIC.
//!
//! Called by `spnego`, once a direction: the sequence number is always 0 and the RC4 stream always
//! at its start.

use super::SessionKey;
use super::message::NegotiateFlags;
use super::response::{hmac_md5, md5, rc4, same};

const CLIENT_SIGNING: &[u8] = b"session key to client-to-server signing key magic constant\0";
const SERVER_SIGNING: &[u8] = b"session key to server-to-client signing key magic constant\0";
const CLIENT_SEALING: &[u8] = b"session key to client-to-server sealing key magic constant\0";
const SERVER_SEALING: &[u8] = b"session key to server-to-client sealing key magic constant\0";

/// Signs and checks the first message of each direction.
#[derive(Debug)]
pub struct MessageSignatures {
    session_key: SessionKey,
    flags: NegotiateFlags,
}

impl MessageSignatures {
    /// `None` without extended session security: the older CRC-32 signature protects nothing.
    pub fn new(session_key: &SessionKey, flags: NegotiateFlags) -> Option<MessageSignatures> {
        flags
            .contains(NegotiateFlags::EXTENDED_SESSION_SECURITY)
            .then(|| MessageSignatures {
                session_key: session_key.clone(),
                flags,
            })
    }

    pub fn by_client(&self, message: &[u8]) -> [u8; 16] {
        self.sign(CLIENT_SIGNING, CLIENT_SEALING, message)
    }

    pub fn by_server(&self, message: &[u8]) -> [u8; 16] {
        self.sign(SERVER_SIGNING, SERVER_SEALING, message)
    }

    pub fn is_by_client(&self, message: &[u8], signature: &[u8]) -> bool {
        same(&self.by_client(message), signature)
    }

    pub fn is_by_server(&self, message: &[u8], signature: &[u8]) -> bool {
        same(&self.by_server(message), signature)
    }

    fn sign(&self, signing: &[u8], sealing: &[u8], message: &[u8]) -> [u8; 16] {
        const SEQUENCE: [u8; 4] = [0; 4];
        let key = self.session_key.as_bytes();
        let signing_key = md5(&[key, signing]);
        let digest = hmac_md5(&signing_key, &[&SEQUENCE, message]);
        let [checksum @ .., _, _, _, _, _, _, _, _] = digest;
        let checksum = if self.flags.contains(NegotiateFlags::KEY_EXCHANGE) {
            rc4(&md5(&[self.sealing_base(), sealing]), checksum)
        } else {
            checksum
        };
        let mut signature = [0; 16];
        signature[0] = 1;
        signature[4..12].copy_from_slice(&checksum);
        signature
    }

    /// How much of the session key a sealing key is made of (MS-NLMP 3.4.5.3).
    fn sealing_base(&self) -> &[u8] {
        let key = self.session_key.as_bytes();
        if self.flags.contains(NegotiateFlags::KEY_128) {
            key
        } else if self.flags.contains(NegotiateFlags::KEY_56) {
            &key[..7]
        } else {
            &key[..5]
        }
    }
}
