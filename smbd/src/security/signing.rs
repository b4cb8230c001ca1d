//! SMB2 signatures (MS-SMB2 3.1.4.1, 3.1.5.1): HMAC-SHA256, AES-128-CMAC and AES-128-GMAC.
//!
//! Called by dispatch on every signed message, both ways. A message comes as its header and the
//! pieces behind it; the header's Signature field counts as zeros. HMAC and CMAC stream over the
//! pieces; GMAC, whose library takes one piece only, gathers them first, unless there is one.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{cmac, hmac};
use proto::smb2::MessageId;
use subtle::ConstantTimeEq;

use super::encryption::End;
use super::keys::Key128;

/// An SMB2 header, first of the pieces of every message.
pub type Header = [u8; 64];

const SIGNATURE_START: usize = 48;
/// Command, Flags and MessageId, and what of them goes into a GMAC nonce.
const COMMAND: std::ops::Range<usize> = 12..14;
const FLAGS: std::ops::Range<usize> = 16..20;
const MESSAGE_ID: std::ops::Range<usize> = 24..32;
const COMMAND_CANCEL: [u8; 2] = [0x0C, 0];
const FLAGS_SERVER_TO_REDIR: u8 = 1;
/// Set in the last byte of a payload's GMAC nonce, zero in a message's: a request and its payload
/// have one MessageId and one key, and the nonce must still not be used twice.
const PAYLOAD: u8 = 0x80;
const GMAC_NONCE: usize = 12;

/// SigningAlgorithmId (MS-SMB2 2.2.3.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SigningAlgorithm {
    HmacSha256 = 0,
    AesCmac = 1,
    AesGmac = 2,
}

impl SigningAlgorithm {
    pub fn from_id(id: u16) -> Option<SigningAlgorithm> {
        match id {
            0 => Some(SigningAlgorithm::HmacSha256),
            1 => Some(SigningAlgorithm::AesCmac),
            2 => Some(SigningAlgorithm::AesGmac),
            _ => None,
        }
    }

    pub fn id(self) -> u16 {
        self as u16
    }
}

/// A key ready for one algorithm. Clones share it.
#[derive(Clone)]
pub struct SigningKey(Arc<Algorithm>);

enum Algorithm {
    HmacSha256(Box<hmac::Key>),
    AesCmac(cmac::Key),
    AesGmac(LessSafeKey),
}

impl SigningKey {
    pub fn new(algorithm: SigningAlgorithm, key: &Key128) -> SigningKey {
        let key = key.as_bytes();
        SigningKey(Arc::new(match algorithm {
            SigningAlgorithm::HmacSha256 => {
                Algorithm::HmacSha256(hmac::Key::new(hmac::HMAC_SHA256, key).into())
            }
            SigningAlgorithm::AesCmac => Algorithm::AesCmac(
                cmac::Key::new(cmac::AES_128, key).expect("AES-128-CMAC takes 16 bytes"),
            ),
            SigningAlgorithm::AesGmac => Algorithm::AesGmac(LessSafeKey::new(
                UnboundKey::new(&AES_128_GCM, key).expect("AES-128-GCM takes 16 bytes"),
            )),
        }))
    }

    /// The signature of a message whose bytes are `header` and then each of `rest`. `gather` is
    /// an empty buffer that GMAC fills with the message.
    pub fn sign(&self, header: &Header, rest: &[&[u8]], gather: &mut Vec<u8>) -> [u8; 16] {
        let mut unsigned = *header;
        unsigned[SIGNATURE_START..].fill(0);
        match &*self.0 {
            Algorithm::HmacSha256(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(&unsigned);
                for piece in rest {
                    context.update(piece);
                }
                first_16(context.sign().as_ref())
            }
            Algorithm::AesCmac(key) => {
                const ACCEPTS: &str = "AES-CMAC accepts any amount of data";
                let mut context = cmac::Context::with_key(key);
                context.update(&unsigned).expect(ACCEPTS);
                for piece in rest {
                    context.update(piece).expect(ACCEPTS);
                }
                first_16(context.sign().expect(ACCEPTS).as_ref())
            }
            Algorithm::AesGmac(key) => {
                let length = rest
                    .iter()
                    .fold(unsigned.len(), |sum, piece| sum + piece.len());
                gather.clear();
                gather.reserve_exact(length);
                gather.extend_from_slice(&unsigned);
                for piece in rest {
                    gather.extend_from_slice(piece);
                }
                gmac(key, header, gather)
            }
        }
    }

    /// Whether the header's Signature is right, in a time that does not depend on where it is
    /// wrong.
    pub fn verify(&self, header: &Header, rest: &[&[u8]]) -> bool {
        self.sign(header, rest, &mut Vec::new())
            .as_slice()
            .ct_eq(&header[SIGNATURE_START..])
            .into()
    }

    /// As [`SigningKey::verify`], for a whole message in one piece: GMAC needs no copy of it then.
    /// The Signature field is zeroed meanwhile and restored.
    pub fn verify_whole(&self, message: &mut [u8]) -> bool {
        let Some((header, rest)) = message.split_first_chunk_mut::<64>() else {
            return false;
        };
        let Algorithm::AesGmac(key) = &*self.0 else {
            return self.verify(header, &[rest]);
        };
        let signed = *header;
        header[SIGNATURE_START..].fill(0);
        let signature = gmac(key, &signed, message);
        if let Some(header) = message.first_chunk_mut::<64>() {
            *header = signed;
        }
        signature
            .as_slice()
            .ct_eq(&signed[SIGNATURE_START..])
            .into()
    }

    /// Signs in place: writes the Signature field. `gather` as for [`SigningKey::sign`].
    pub fn sign_in_place(&self, header: &mut Header, rest: &[&[u8]], gather: &mut Vec<u8>) {
        let signature = self.sign(header, rest, gather);
        header[SIGNATURE_START..].copy_from_slice(&signature);
    }

    /// The nonce for the one payload that this end sends by RDMA for this message; empty where the
    /// algorithm takes none.
    pub fn payload_nonce(&self, message: MessageId, end: End) -> Vec<u8> {
        if self.algorithm() != SigningAlgorithm::AesGmac {
            return Vec::new();
        }
        let mut nonce = message.0.to_le_bytes().to_vec();
        let by_server = match end {
            End::Server => FLAGS_SERVER_TO_REDIR,
            End::Client => 0,
        };
        nonce.extend([by_server, 0, 0, PAYLOAD]);
        nonce
    }

    /// The signature of a payload that moves by RDMA; `None` if the nonce's length isn't the
    /// algorithm's.
    pub fn sign_payload(&self, nonce: &[u8], payload: &[u8]) -> Option<[u8; 16]> {
        match &*self.0 {
            Algorithm::AesGmac(key) if nonce.len() == GMAC_NONCE => {
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(payload), &mut [])
                    .ok()?;
                Some(first_16(tag.as_ref()))
            }
            Algorithm::HmacSha256(key) if nonce.is_empty() => {
                Some(first_16(hmac::sign(key, payload).as_ref()))
            }
            Algorithm::AesCmac(key) if nonce.is_empty() => {
                Some(first_16(cmac::sign(key, payload).ok()?.as_ref()))
            }
            _ => None,
        }
    }

    /// Whether a payload's signature is right; one that is not whole is wrong.
    pub fn verify_payload(&self, nonce: &[u8], payload: &[u8], signature: &[u8]) -> bool {
        self.sign_payload(nonce, payload)
            .is_some_and(|right| right.as_slice().ct_eq(signature).into())
    }

    /// As [`SigningKey::sign_in_place`], for a whole message in one piece: GMAC needs no copy of it
    /// then.
    pub fn sign_whole(&self, message: &mut [u8]) {
        let Some((header, rest)) = message.split_first_chunk_mut::<64>() else {
            return;
        };
        let Algorithm::AesGmac(key) = &*self.0 else {
            return self.sign_in_place(header, &[rest], &mut Vec::new());
        };
        header[SIGNATURE_START..].fill(0);
        let header = *header;
        let signature = gmac(key, &header, message);
        if let Some(place) = message.get_mut(SIGNATURE_START..64) {
            place.copy_from_slice(&signature);
        }
    }

    pub fn algorithm(&self) -> SigningAlgorithm {
        match *self.0 {
            Algorithm::HmacSha256(_) => SigningAlgorithm::HmacSha256,
            Algorithm::AesCmac(_) => SigningAlgorithm::AesCmac,
            Algorithm::AesGmac(_) => SigningAlgorithm::AesGmac,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({:?}, redacted)", self.algorithm())
    }
}

/// The tag over `unsigned`, the whole message with zeros for its signature.
fn gmac(key: &LessSafeKey, header: &Header, unsigned: &[u8]) -> [u8; 16] {
    let tag = key
        .seal_in_place_separate_tag(gmac_nonce(header), Aad::from(unsigned), &mut [])
        .expect("AES-GCM accepts any message SMB2 can carry");
    first_16(tag.as_ref())
}

/// MessageId, then one bit for "sent by the server" and one for CANCEL (MS-SMB2 3.1.4.1): a CANCEL
/// carries the MessageId of the request it cancels, and a nonce must not be used twice.
fn gmac_nonce(header: &Header) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&header[MESSAGE_ID]);
    let by_server = header[FLAGS][0] & FLAGS_SERVER_TO_REDIR;
    let is_cancel = u8::from(header[COMMAND] == COMMAND_CANCEL);
    nonce[8] = by_server | is_cancel << 1;
    Nonce::assume_unique_for_key(nonce)
}

fn first_16(tag: &[u8]) -> [u8; 16] {
    *tag.first_chunk()
        .expect("every tag here has 16 bytes or more")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [SigningAlgorithm; 3] = [
        SigningAlgorithm::HmacSha256,
        SigningAlgorithm::AesCmac,
        SigningAlgorithm::AesGmac,
    ];

    fn key(algorithm: SigningAlgorithm) -> SigningKey {
        SigningKey::new(algorithm, &Key128::from_bytes([7; 16]))
    }

    fn header() -> Header {
        let mut header = [0x5A; 64];
        header[..4].copy_from_slice(b"\xFESMB");
        header
    }

    #[test]
    fn a_signed_message_verifies_however_it_is_cut_into_pieces() {
        for algorithm in ALL {
            let mut header = header();
            key(algorithm).sign_in_place(&mut header, &[b"some payload"], &mut Vec::new());
            assert!(
                key(algorithm).verify(&header, &[b"some ", b"", b"payload"]),
                "{algorithm:?}"
            );
        }
    }

    #[test]
    fn a_message_in_one_piece_verifies_in_place_and_stays_as_it_is() {
        for algorithm in ALL {
            let key = key(algorithm);
            let mut header = header();
            key.sign_in_place(&mut header, &[b"payload"], &mut Vec::new());
            let message = [&header[..], b"payload"].concat();
            for place in 0..message.len() {
                let mut altered = message.clone();
                altered[place] ^= 1;
                assert!(!key.verify_whole(&mut altered), "{algorithm:?}, {place}");
            }
            let mut whole = message.clone();
            assert!(key.verify_whole(&mut whole), "{algorithm:?}");
            assert_eq!(whole, message);
            whole[48..64].fill(7);
            key.sign_whole(&mut whole);
            assert_eq!(whole, message, "{algorithm:?}");
            assert!(!key.verify_whole(&mut whole[..63]));
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        for algorithm in ALL {
            let key = key(algorithm);
            let mut header = header();
            key.sign_in_place(&mut header, &[b"payload"], &mut Vec::new());
            assert!(!key.verify(&header, &[b"paYload"]), "{algorithm:?}");
            assert!(
                !key.verify(&header, &[b"payload", b"more"]),
                "{algorithm:?}"
            );
            for place in 0..64 {
                let mut altered = header;
                altered[place] ^= 1;
                assert!(
                    !key.verify(&altered, &[b"payload"]),
                    "{algorithm:?} byte {place}"
                );
            }
        }
    }

    #[test]
    fn another_key_does_not_verify() {
        for algorithm in ALL {
            let mut header = header();
            key(algorithm).sign_in_place(&mut header, &[], &mut Vec::new());
            let other = SigningKey::new(algorithm, &Key128::from_bytes([8; 16]));
            assert!(!other.verify(&header, &[]), "{algorithm:?}");
        }
    }

    #[test]
    fn a_request_its_answer_and_its_cancel_have_three_gmac_nonces() {
        let nonce = |command: u8, flags: u8| {
            let mut header = [0; 64];
            header[12] = command;
            header[16] = flags;
            header[24] = 9;
            *gmac_nonce(&header).as_ref()
        };
        assert_eq!(nonce(8, 0), [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(nonce(8, 1), [9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(nonce(0x0C, 0), [9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    }

    /// Computed by another implementation of HMAC, CMAC and GCM.
    #[test]
    fn signatures_are_those_of_the_algorithms() {
        for (algorithm, expected) in [
            (
                SigningAlgorithm::HmacSha256,
                0x484b1d9644cd3528ac818bf599acfdf0,
            ),
            (
                SigningAlgorithm::AesCmac,
                0xc390f77a9d24c7800adc3c4f54ffb3e8,
            ),
            (
                SigningAlgorithm::AesGmac,
                0x7d08f9f6e4b831f843b0879cbaf94aa7_u128,
            ),
        ] {
            let signature =
                key(algorithm).sign(&header(), &[b"some", b" payload"], &mut Vec::new());
            assert_eq!(u128::from_be_bytes(signature), expected, "{algorithm:?}");
        }
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        assert_eq!(
            format!("{:?}", key(SigningAlgorithm::AesCmac)),
            "SigningKey(AesCmac, redacted)"
        );
    }
}
