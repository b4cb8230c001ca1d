//! The 24 cases of transform encryption and the 9 of transform signing of Microsoft's suite for
//! MS-SMBD: `Smb2OverRdmaChannelTransform_` and the name here. What is refused must leave the file as
//! it was and the connection as good as before.

use proto::smb2::negotiate_context::rdma_transform;
use proto::smb2::rdma_transform::TransformType;
use proto::smb2::{BufferDescriptorV1, Channel, NtStatus};
use smbd::security::encryption::Cipher;
use smbd::security::signing::SigningAlgorithm;

use super::scene::{Scene, Terms, pattern};
use crate::client::{Protection, SealedPayload};
use crate::refusals::RdmaClient;

/// Bytes of a large file.
const LARGE: u32 = 1 << 20;
/// Operations of a case with many.
const MANY: u32 = 64;

/// One case.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    terms: Terms,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Reads a large file in so many operations.
    Read(u32),
    Write(u32),
    /// Writes with this payload transform, put together so; refused with the status.
    Refused(Protection, Compose, NtStatus),
}

/// Channel information of a sealed payload's parts and its memory.
type Compose = fn(SealedPayload, BufferDescriptorV1) -> Vec<u8>;

const ENCRYPTION: &[u16] = &[rdma_transform::ENCRYPTION];
const SIGNING: &[u16] = &[rdma_transform::SIGNING];

const fn encrypted(name: &'static str, cipher: Cipher, what: What) -> Case {
    Case {
        name,
        terms: Terms {
            transforms: ENCRYPTION,
            cipher: Some(cipher),
            ..Terms::ENCRYPTED
        },
        what,
    }
}

const fn signed(name: &'static str, signing: SigningAlgorithm, what: What) -> Case {
    Case {
        name,
        terms: Terms {
            transforms: SIGNING,
            signing,
            ..Terms::SIGNED
        },
        what,
    }
}

/// Refused before anything moves.
const fn invalid(protection: Protection, compose: Compose) -> What {
    What::Refused(protection, compose, NtStatus::INVALID_PARAMETER)
}

/// Fetched, and found to be forged.
const fn forged(compose: Compose) -> What {
    What::Refused(Protection::Encryption, compose, NtStatus::AUTH_TAG_MISMATCH)
}

use Cipher::{Aes128Ccm, Aes128Gcm, Aes256Ccm, Aes256Gcm};
use SigningAlgorithm::{AesCmac, AesGmac};

/// All of them, in the suite's order.
#[rustfmt::skip]
pub const SUITE: &[Case] = &[
    encrypted("Encryption_ReadLargeFile_AES128CCM", Aes128Ccm, What::Read(1)),
    encrypted("Encryption_ReadLargeFile_AES128GCM", Aes128Gcm, What::Read(1)),
    encrypted("Encryption_ReadLargeFile_AES256CCM", Aes256Ccm, What::Read(1)),
    encrypted("Encryption_ReadLargeFile_AES256GCM", Aes256Gcm, What::Read(1)),
    encrypted("Encryption_ReadMultipleOperation", Aes128Ccm, What::Read(MANY)),
    encrypted("Encryption_WriteLargeFile_AES128CCM", Aes128Ccm, What::Write(1)),
    encrypted("Encryption_WriteLargeFile_AES128GCM", Aes128Gcm, What::Write(1)),
    encrypted("Encryption_WriteLargeFile_AES256CCM", Aes256Ccm, What::Write(1)),
    encrypted("Encryption_WriteLargeFile_AES256GCM", Aes256Gcm, What::Write(1)),
    encrypted("Encryption_WriteMultipleOperation", Aes128Ccm, What::Write(MANY)),
    Case {
        name: "Encryption_WriteLargeFile_NoTransformIds_Fails",
        terms: Terms { transforms: &[], cipher: Some(Aes128Ccm), ..Terms::ENCRYPTED },
        what: invalid(Protection::Encryption, as_it_should_be),
    },
    encrypted("Encryption_WriteLargeFile_ZeroTransformCount_Fails", Aes128Ccm,
        invalid(Protection::Encryption, zero_count)),
    encrypted("Encryption_WriteLargeFile_MultipleEncryptionStructure_Fails", Aes128Ccm,
        invalid(Protection::Encryption, |sealed, memory| two(sealed, TransformType::Encryption, memory))),
    Case {
        name: "Encryption_WriteLargeFile_EncryptionAndSigningStructure_Fails",
        terms: Terms { cipher: Some(Aes128Ccm), ..Terms::ENCRYPTED },
        what: invalid(Protection::Encryption, |sealed, memory| two(sealed, TransformType::Signing, memory)),
    },
    encrypted("Encryption_WriteLargeFile_BufferNotAligned_Fails", Aes128Gcm,
        invalid(Protection::Encryption, not_aligned)),
    encrypted("Encryption_WriteLargeFile_IncreaseSignatureLength_Fails", Aes128Gcm, forged(longer_signature)),
    encrypted("Encryption_WriteLargeFile_IncreaseNonceLength_AES128CCM_Fails", Aes128Ccm, forged(longer_nonce)),
    encrypted("Encryption_WriteLargeFile_IncreaseNonceLength_AES128GCM_Fails", Aes128Gcm, forged(longer_nonce)),
    encrypted("Encryption_WriteLargeFile_IncreaseNonceLength_AES256CCM_Fails", Aes256Ccm, forged(longer_nonce)),
    encrypted("Encryption_WriteLargeFile_IncreaseNonceLength_AES256GCM_Fails", Aes256Gcm, forged(longer_nonce)),
    encrypted("Encryption_WriteLargeFile_DecreaseNonceLength_AES128CCM_Fails", Aes128Ccm, forged(shorter_nonce)),
    encrypted("Encryption_WriteLargeFile_DecreaseNonceLength_AES128GCM_Fails", Aes128Gcm, forged(shorter_nonce)),
    encrypted("Encryption_WriteLargeFile_DecreaseNonceLength_AES256CCM_Fails", Aes256Ccm, forged(shorter_nonce)),
    encrypted("Encryption_WriteLargeFile_DecreaseNonceLength_AES256GCM_Fails", Aes256Gcm, forged(shorter_nonce)),
    signed("Signing_ReadLargeFile_AES_GMAC", AesGmac, What::Read(1)),
    signed("Signing_ReadLargeFile_AES_CMAC", AesCmac, What::Read(1)),
    signed("Signing_WriteLargeFile_AES_GMAC", AesGmac, What::Write(1)),
    signed("Signing_WriteLargeFile_AES_CMAC", AesCmac, What::Write(1)),
    Case {
        name: "Signing_WriteLargeFile_FlagsSignedNotSet_Fails",
        terms: Terms { transforms: SIGNING, ..Terms::ENCRYPTED },
        what: invalid(Protection::Signing, as_it_should_be),
    },
    Case {
        name: "Signing_WriteLargeFile_SigningStructure_EncryptionId_Fails",
        terms: Terms { transforms: ENCRYPTION, cipher: Some(Aes128Gcm), ..Terms::SIGNED },
        what: invalid(Protection::Signing, as_it_should_be),
    },
    signed("Signing_WriteLargeFile_InvalidSignature_Fails", AesCmac,
        What::Refused(Protection::Signing, wrong_signature, NtStatus::INVALID_SIGNATURE)),
    Case {
        name: "Signing_WriteLargeFile_NoTransformIds_Fails",
        terms: Terms { transforms: &[], ..Terms::SIGNED },
        what: invalid(Protection::Signing, as_it_should_be),
    },
    signed("Signing_WriteLargeFile_ZeroTransformCount_Fails", AesCmac,
        invalid(Protection::Signing, zero_count)),
];

pub fn play<C: RdmaClient>(case: &Case, scene: &Scene<C>) {
    let name = case.name;
    let data = pattern(LARGE, 0);
    match &case.what {
        What::Read(operations) => {
            let mut client = scene.client(case.terms, Some(&data));
            let each = LARGE / operations;
            for offset in (0..LARGE).step_by(each as usize) {
                let (tree, file) = (client.tree, client.file);
                let read = client.connection.read_protected(
                    tree,
                    file,
                    offset.into(),
                    each,
                    case.terms.session,
                    1,
                );
                let expected = &data[offset as usize..(offset + each) as usize];
                assert!(read.expect(name) == expected, "{name}: {offset}");
            }
            client.leave();
        }
        What::Write(operations) => {
            let mut client = scene.client(case.terms, None);
            let each = LARGE / operations;
            for (number, part) in data.chunks(each as usize).enumerate() {
                let (tree, file) = (client.tree, client.file);
                let offset = number as u64 * u64::from(each);
                let written = client.connection.write_protected(
                    tree,
                    file,
                    offset,
                    part,
                    case.terms.session,
                    1,
                );
                assert_eq!(written.expect(name), each, "{name}: {offset}");
            }
            assert!(client.stored() == data, "{name}: the file");
            client.leave();
        }
        What::Refused(protection, compose, status) => {
            let mut client = scene.client(case.terms, None);
            let (tree, file) = (client.tree, client.file);
            let reply = client
                .connection
                .write_sealed(tree, file, 0, &data, *protection, compose);
            assert_eq!(reply.expect(name).header.status, *status, "{name}");
            assert_eq!(client.stored(), b"", "{name}: the file");
            client.leave();
        }
    }
}

fn as_it_should_be(sealed: SealedPayload, memory: BufferDescriptorV1) -> Vec<u8> {
    sealed.information(Channel::RdmaV1, &[memory])
}

fn zero_count(sealed: SealedPayload, memory: BufferDescriptorV1) -> Vec<u8> {
    let mut information = as_it_should_be(sealed, memory);
    information[8..10].fill(0);
    information
}

/// The transform, then one more of this type with the same bytes.
fn two(sealed: SealedPayload, second: TransformType, memory: BufferDescriptorV1) -> Vec<u8> {
    let one = sealed.information(Channel::RdmaV1, &[memory]);
    let (transforms, descriptor) = one.split_at(one.len() - BufferDescriptorV1::SIZE);
    let (head, first) = transforms.split_at(16);
    let mut information = head.to_vec();
    information.extend_from_slice(first);
    let again = information.len();
    information.extend_from_slice(first);
    information[again..again + 2].copy_from_slice(&u16::from(second).to_le_bytes());
    let descriptors = information.len() as u16;
    information[..2].copy_from_slice(&descriptors.to_le_bytes());
    information[8] = 2;
    information.extend_from_slice(descriptor);
    information
}

/// The descriptor directly behind a nonce of 12 bytes.
fn not_aligned(sealed: SealedPayload, memory: BufferDescriptorV1) -> Vec<u8> {
    let mut information = as_it_should_be(sealed, memory);
    information.drain(52..56);
    information[0] = 52;
    information
}

fn longer_signature(mut sealed: SealedPayload, memory: BufferDescriptorV1) -> Vec<u8> {
    sealed.signature.insert(0, sealed.signature[0]);
    as_it_should_be(sealed, memory)
}

fn longer_nonce(mut sealed: SealedPayload, memory: BufferDescriptorV1) -> Vec<u8> {
    sealed.nonce.insert(0, sealed.nonce[0]);
    as_it_should_be(sealed, memory)
}

fn shorter_nonce(mut sealed: SealedPayload, memory: BufferDescriptorV1) -> Vec<u8> {
    sealed.nonce.pop();
    as_it_should_be(sealed, memory)
}

fn wrong_signature(mut sealed: SealedPayload, memory: BufferDescriptorV1) -> Vec<u8> {
    sealed.signature[2] ^= 0x5a;
    as_it_should_be(sealed, memory)
}
