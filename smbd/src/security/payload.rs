//! RDMA transform's cryptography: signing or encrypting one payload that moves by RDMA (MS-SMB2
//! 3.3.5.12, 3.3.5.13). READ's handler seals, WRITE's opens, a client the other way round.
//!
//! What is made here holds its keys and may go to another thread. It works on private memory only:
//! a region's bytes can change between a check and a use.

use proto::smb2::NtStatus;
use proto::smb2::negotiate_context::rdma_transform;
use proto::smb2::rdma_transform::{CryptoTransform, TransformType};

use super::encryption::{PayloadOpener, PayloadSealer};
use super::signing::SigningKey;

/// Connection.RDMATransformIds: which transforms both ends of a connection know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RdmaTransforms {
    pub encryption: bool,
    pub signing: bool,
}

impl RdmaTransforms {
    /// Of numbers in a negotiate context; unknown ones count for nothing.
    pub fn of(ids: impl Iterator<Item = u16> + Clone) -> RdmaTransforms {
        let contains = |wanted| ids.clone().any(|id| id == wanted);
        RdmaTransforms {
            encryption: contains(rdma_transform::ENCRYPTION),
            signing: contains(rdma_transform::SIGNING),
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == RdmaTransforms::default()
    }

    /// Whether the one of this number is among them.
    pub fn contains(self, id: u16) -> bool {
        match id {
            rdma_transform::ENCRYPTION => self.encryption,
            rdma_transform::SIGNING => self.signing,
            _ => false,
        }
    }
}

/// Protects one payload that leaves.
pub enum Sealing {
    Sign {
        key: SigningKey,
        /// See [`SigningKey::payload_nonce`].
        nonce: Vec<u8>,
    },
    Encrypt(PayloadSealer),
}

/// What the other end needs to know of a payload that was sealed.
#[derive(Debug)]
pub struct Sealed {
    transform_type: TransformType,
    signature: [u8; 16],
    nonce: Vec<u8>,
}

impl Sealing {
    /// Signs, or encrypts in place.
    pub fn seal(self, payload: &mut [u8]) -> Sealed {
        match self {
            Sealing::Sign { key, nonce } => Sealed {
                transform_type: TransformType::Signing,
                signature: key
                    .sign_payload(&nonce, payload)
                    .expect("the nonce is the key's own"),
                nonce,
            },
            Sealing::Encrypt(sealer) => {
                let (signature, nonce) = sealer.seal(payload);
                Sealed {
                    transform_type: TransformType::Encryption,
                    signature,
                    nonce,
                }
            }
        }
    }
}

impl Sealed {
    /// As it is told on the wire.
    pub fn transform(&self) -> CryptoTransform<'_> {
        CryptoTransform {
            transform_type: self.transform_type,
            signature: &self.signature,
            nonce: &self.nonce,
        }
    }
}

/// Checks one payload that arrives.
pub struct Opening {
    key: OpeningKey,
    signature: Vec<u8>,
    nonce: Vec<u8>,
}

/// What a payload is checked with.
pub enum OpeningKey {
    Verify(SigningKey),
    Decrypt(PayloadOpener),
}

impl Opening {
    /// For the payload that `transform` was told of.
    pub fn new(key: OpeningKey, transform: &CryptoTransform<'_>) -> Opening {
        Opening {
            key,
            signature: transform.signature.to_vec(),
            nonce: transform.nonce.to_vec(),
        }
    }

    /// Verifies, or decrypts in place. After an error there is nothing to use in `payload`. The
    /// statuses are 3.3.5.13's; a signature or nonce of the wrong length is a wrong one.
    pub fn open(&self, payload: &mut [u8]) -> Result<(), NtStatus> {
        match &self.key {
            OpeningKey::Verify(key) => key
                .verify_payload(&self.nonce, payload, &self.signature)
                .then_some(())
                .ok_or(NtStatus::INVALID_SIGNATURE),
            OpeningKey::Decrypt(opener) => opener
                .open(&self.nonce, payload, &self.signature)
                .then_some(())
                .ok_or(NtStatus::AUTH_TAG_MISMATCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::smb2::transform::TransformHeader;

    use super::*;
    use crate::security::encryption::{Cipher, End, SessionCipher};
    use crate::security::keys::{CipherKeys, Key128};
    use crate::security::signing::SigningAlgorithm;
    use proto::smb2::{MessageId, SessionId};

    const PAYLOAD: &[u8] = b"bytes that move by RDMA, sealed";

    fn key(algorithm: SigningAlgorithm) -> SigningKey {
        SigningKey::new(algorithm, &Key128::from_bytes([7; 16]))
    }

    fn ciphers(cipher: Cipher) -> (SessionCipher, SessionCipher) {
        let length = cipher.key_length() as usize;
        let keys = CipherKeys {
            client_to_server: vec![1; length],
            server_to_client: vec![2; length],
        };
        (
            SessionCipher::new(cipher, &keys, End::Client),
            SessionCipher::new(cipher, &keys, End::Server),
        )
    }

    /// A way to seal: its name, the key that opens it, and the status of what it does not open.
    type Way = (String, Sealing, Box<dyn Fn() -> OpeningKey>, NtStatus);

    fn ways() -> Vec<Way> {
        let mut ways: Vec<Way> = Vec::new();
        for algorithm in [
            SigningAlgorithm::HmacSha256,
            SigningAlgorithm::AesCmac,
            SigningAlgorithm::AesGmac,
        ] {
            let key = key(algorithm);
            let sealing = Sealing::Sign {
                nonce: key.payload_nonce(MessageId(5), End::Server),
                key: key.clone(),
            };
            ways.push((
                format!("{algorithm:?}"),
                sealing,
                Box::new(move || OpeningKey::Verify(key.clone())),
                NtStatus::INVALID_SIGNATURE,
            ));
        }
        for cipher in Cipher::PREFERENCE {
            let (client, server) = ciphers(cipher);
            ways.push((
                format!("{cipher:?}"),
                Sealing::Encrypt(server.payload_sealer().unwrap()),
                Box::new(move || OpeningKey::Decrypt(client.payload_opener())),
                NtStatus::AUTH_TAG_MISMATCH,
            ));
        }
        ways
    }

    #[test]
    fn what_one_end_seals_the_other_opens() {
        for (name, sealing, key, _) in ways() {
            let encrypts = matches!(sealing, Sealing::Encrypt(_));
            let mut payload = PAYLOAD.to_vec();
            let sealed = sealing.seal(&mut payload);
            assert_eq!(payload == PAYLOAD, !encrypts, "{name}");
            let opening = Opening::new(key(), &sealed.transform());
            assert_eq!(opening.open(&mut payload), Ok(()), "{name}");
            assert_eq!(payload, PAYLOAD, "{name}");
        }
    }

    #[test]
    fn a_changed_bit_or_length_anywhere_is_refused() {
        for (name, sealing, key, status) in ways() {
            let mut payload = PAYLOAD.to_vec();
            let sealed = sealing.seal(&mut payload);
            let good = sealed.transform();
            for at in 0..payload.len() {
                let mut changed = payload.clone();
                changed[at] ^= 1;
                let opening = Opening::new(key(), &good);
                assert_eq!(opening.open(&mut changed), Err(status), "{name} {at}");
            }
            let mut shorter = payload[1..].to_vec();
            let opening = Opening::new(key(), &good);
            assert_eq!(opening.open(&mut shorter), Err(status), "{name}");
            let (mut longer, mut flipped) = (good.signature.to_vec(), good.signature.to_vec());
            longer.push(0);
            flipped[3] ^= 0x10;
            let mut nonces = vec![[good.nonce, &[0]].concat()];
            if let Some((_, shorter)) = good.nonce.split_last() {
                let mut other = good.nonce.to_vec();
                other[0] ^= 1;
                nonces.extend([shorter.to_vec(), other, Vec::new()]);
            }
            for signature in [&longer[..], &flipped, &good.signature[..15], &[]] {
                let wrong = CryptoTransform { signature, ..good };
                let opening = Opening::new(key(), &wrong);
                assert_eq!(opening.open(&mut payload.clone()), Err(status), "{name}");
            }
            for nonce in &nonces {
                let wrong = CryptoTransform { nonce, ..good };
                let opening = Opening::new(key(), &wrong);
                assert_eq!(opening.open(&mut payload.clone()), Err(status), "{name}");
            }
        }
    }

    #[test]
    fn the_keys_of_the_two_directions_do_not_open_each_others() {
        for cipher in Cipher::PREFERENCE {
            let (_, server) = ciphers(cipher);
            let mut payload = PAYLOAD.to_vec();
            let sealed = Sealing::Encrypt(server.payload_sealer().unwrap()).seal(&mut payload);
            let key = OpeningKey::Decrypt(server.payload_opener());
            let reflected = Opening::new(key, &sealed.transform());
            assert!(reflected.open(&mut payload).is_err());
        }
    }

    #[test]
    fn no_nonce_is_used_twice() {
        let gmac = key(SigningAlgorithm::AesGmac);
        let mut nonces: Vec<Vec<u8>> = Vec::new();
        for message in [0, 1, u64::MAX] {
            for end in [End::Client, End::Server] {
                let nonce = gmac.payload_nonce(MessageId(message), end);
                assert_eq!(nonce.len(), 12);
                // A message's own nonce ends in three zeros.
                assert_ne!(nonce[9..], [0; 3]);
                nonces.push(nonce);
            }
        }
        // Messages and payloads of a session share one count.
        let (_, server) = ciphers(Cipher::Aes128Gcm);
        for _ in 0..3 {
            nonces.push(server.payload_sealer().unwrap().seal(&mut []).1);
            let mut message = vec![0; TransformHeader::SIZE + 1];
            server.seal(SessionId(1), &mut message).unwrap();
            nonces.push(message[20..32].to_vec());
        }
        let count = nonces.len();
        nonces.sort();
        nonces.dedup();
        assert_eq!(nonces.len(), count);
    }

    #[test]
    fn unknown_transforms_count_for_nothing() {
        let both = RdmaTransforms::of([7, 2, 0, 1, 2].into_iter());
        assert!(both.encryption && both.signing && !both.contains(0) && !both.contains(7));
        assert!(RdmaTransforms::of([0, 3].into_iter()).is_empty());
        assert!(both.contains(rdma_transform::SIGNING));
    }
}
