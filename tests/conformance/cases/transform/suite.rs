//! The 24 cases of transform encryption and the 9 of transform signing of Microsoft's suite for
//! MS-SMBD: `Smb2OverRdmaChannelTransform_` and the name here. What is refused must leave the file as
//! it was and the connection as good as before.

use proto::smb2::negotiate_context::rdma_transform;
use proto::smb2::rdma_transform::TransformType;
use proto::smb2::{BufferDescriptorV1, Channel, NtStatus};
use smbd::security::encryption::Cipher;
use smbd::security::signing::SigningAlgorithm;
use tests::client::{Protection, SealedPayload};
use tests::hazards::pattern;

use super::client::{Client, Terms};
use crate::endpoint::Endpoint;
use crate::scene::Scene;
use crate::table::{Case, Group};

/// Bytes of a large file.
const LARGE: u32 = 1 << 20;
/// Operations of a case with many.
const MANY: u32 = 64;

/// One case.
struct Sealed {
    name: &'static str,
    rule: &'static str,
    terms: Terms,
    what: What,
}

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

const fn encrypted(name: &'static str, rule: &'static str, cipher: Cipher, what: What) -> Sealed {
    Sealed {
        name,
        rule,
        terms: Terms {
            transforms: ENCRYPTION,
            cipher: Some(cipher),
            ..Terms::ENCRYPTED
        },
        what,
    }
}

const fn signed(
    name: &'static str,
    rule: &'static str,
    signing: SigningAlgorithm,
    what: What,
) -> Sealed {
    Sealed {
        name,
        rule,
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
const SUITE: &[Sealed] = &[
    encrypted("BVT_Smb2OverRdmaChannelTransform_Encryption_ReadLargeFile_AES128CCM",
        "a READ's payload is encrypted with AES-128-CCM", Aes128Ccm, What::Read(1)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_ReadLargeFile_AES128GCM",
        "a READ's payload is encrypted with AES-128-GCM", Aes128Gcm, What::Read(1)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_ReadLargeFile_AES256CCM",
        "a READ's payload is encrypted with AES-256-CCM", Aes256Ccm, What::Read(1)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_ReadLargeFile_AES256GCM",
        "a READ's payload is encrypted with AES-256-GCM", Aes256Gcm, What::Read(1)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_ReadMultipleOperation",
        "each READ's payload is encrypted by itself", Aes128Ccm, What::Read(MANY)),
    encrypted("BVT_Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_AES128CCM",
        "a WRITE's payload is decrypted with AES-128-CCM", Aes128Ccm, What::Write(1)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_AES128GCM",
        "a WRITE's payload is decrypted with AES-128-GCM", Aes128Gcm, What::Write(1)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_AES256CCM",
        "a WRITE's payload is decrypted with AES-256-CCM", Aes256Ccm, What::Write(1)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_AES256GCM",
        "a WRITE's payload is decrypted with AES-256-GCM", Aes256Gcm, What::Write(1)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteMultipleOperation",
        "each WRITE's payload is decrypted by itself", Aes128Ccm, What::Write(MANY)),
    Sealed {
        name: "Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_NoTransformIds_Fails",
        rule: "a transform nobody negotiated is refused",
        terms: Terms { transforms: &[], cipher: Some(Aes128Ccm), ..Terms::ENCRYPTED },
        what: invalid(Protection::Encryption, as_it_should_be),
    },
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_ZeroTransformCount_Fails",
        "a TransformCount of 0 is refused", Aes128Ccm,
        invalid(Protection::Encryption, zero_count)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_MultipleEncryptionStructure_Fails",
        "two encryptions of one payload are refused", Aes128Ccm,
        invalid(Protection::Encryption, |sealed, memory| two(sealed, TransformType::Encryption, memory))),
    Sealed {
        name: "Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_EncryptionAndSigningStructure_Fails",
        rule: "encryption and signing of one payload are refused",
        terms: Terms { cipher: Some(Aes128Ccm), ..Terms::ENCRYPTED },
        what: invalid(Protection::Encryption, |sealed, memory| two(sealed, TransformType::Signing, memory)),
    },
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_BufferNotAligned_Fails",
        "descriptors that are not aligned to 8 are refused", Aes128Gcm,
        invalid(Protection::Encryption, not_aligned)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_IncreaseSignatureLength_Fails",
        "a tag longer than 16 bytes decrypts nothing", Aes128Gcm, forged(longer_signature)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_IncreaseNonceLength_AES128CCM_Fails",
        "a nonce longer than the cipher's decrypts nothing", Aes128Ccm, forged(longer_nonce)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_IncreaseNonceLength_AES128GCM_Fails",
        "a nonce longer than the cipher's decrypts nothing", Aes128Gcm, forged(longer_nonce)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_IncreaseNonceLength_AES256CCM_Fails",
        "a nonce longer than the cipher's decrypts nothing", Aes256Ccm, forged(longer_nonce)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_IncreaseNonceLength_AES256GCM_Fails",
        "a nonce longer than the cipher's decrypts nothing", Aes256Gcm, forged(longer_nonce)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_DecreaseNonceLength_AES128CCM_Fails",
        "a nonce shorter than the cipher's decrypts nothing", Aes128Ccm, forged(shorter_nonce)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_DecreaseNonceLength_AES128GCM_Fails",
        "a nonce shorter than the cipher's decrypts nothing", Aes128Gcm, forged(shorter_nonce)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_DecreaseNonceLength_AES256CCM_Fails",
        "a nonce shorter than the cipher's decrypts nothing", Aes256Ccm, forged(shorter_nonce)),
    encrypted("Smb2OverRdmaChannelTransform_Encryption_WriteLargeFile_DecreaseNonceLength_AES256GCM_Fails",
        "a nonce shorter than the cipher's decrypts nothing", Aes256Gcm, forged(shorter_nonce)),
    signed("Smb2OverRdmaChannelTransform_Signing_ReadLargeFile_AES_GMAC",
        "a READ's payload is signed with AES-GMAC", AesGmac, What::Read(1)),
    signed("Smb2OverRdmaChannelTransform_Signing_ReadLargeFile_AES_CMAC",
        "a READ's payload is signed with AES-CMAC", AesCmac, What::Read(1)),
    signed("Smb2OverRdmaChannelTransform_Signing_WriteLargeFile_AES_GMAC",
        "a WRITE's payload is verified with AES-GMAC", AesGmac, What::Write(1)),
    signed("Smb2OverRdmaChannelTransform_Signing_WriteLargeFile_AES_CMAC",
        "a WRITE's payload is verified with AES-CMAC", AesCmac, What::Write(1)),
    Sealed {
        name: "Smb2OverRdmaChannelTransform_Signing_WriteLargeFile_FlagsSignedNotSet_Fails",
        rule: "a signed payload in a request that is not signed is refused",
        terms: Terms { transforms: SIGNING, ..Terms::ENCRYPTED },
        what: invalid(Protection::Signing, as_it_should_be),
    },
    Sealed {
        name: "Smb2OverRdmaChannelTransform_Signing_WriteLargeFile_SigningStructure_EncryptionId_Fails",
        rule: "signing where only encryption was negotiated is refused",
        terms: Terms { transforms: ENCRYPTION, cipher: Some(Aes128Gcm), ..Terms::SIGNED },
        what: invalid(Protection::Signing, as_it_should_be),
    },
    signed("Smb2OverRdmaChannelTransform_Signing_WriteLargeFile_InvalidSignature_Fails",
        "a payload with a wrong signature is not written", AesCmac,
        What::Refused(Protection::Signing, wrong_signature, NtStatus::INVALID_SIGNATURE)),
    Sealed {
        name: "Smb2OverRdmaChannelTransform_Signing_WriteLargeFile_NoTransformIds_Fails",
        rule: "a transform nobody negotiated is refused",
        terms: Terms { transforms: &[], ..Terms::SIGNED },
        what: invalid(Protection::Signing, as_it_should_be),
    },
    signed("Smb2OverRdmaChannelTransform_Signing_WriteLargeFile_ZeroTransformCount_Fails",
        "a TransformCount of 0 is refused", AesCmac,
        invalid(Protection::Signing, zero_count)),
];

/// As rows of the table.
pub fn cases<E: Endpoint>() -> Vec<Case<E>> {
    let cases = SUITE.iter().map(|sealed| {
        let group = match sealed.name.contains("_Encryption_") {
            true => Group::TransformEncryption,
            false => Group::TransformSigning,
        };
        let section = match sealed.what {
            What::Read(_) => "MS-SMB2 3.3.5.12",
            What::Write(_) | What::Refused(..) => "MS-SMB2 3.3.5.13",
        };
        Case::new(group, sealed.name, section, sealed.rule, |scene| {
            play(sealed, scene);
        })
    });
    cases.collect()
}

fn play<E: Endpoint>(case: &Sealed, scene: &Scene<E>) {
    let name = case.name;
    let data = pattern(LARGE as usize, 0);
    match &case.what {
        What::Read(operations) => {
            let mut client = Client::of(scene, case.terms, Some(&data));
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
            let mut client = Client::of(scene, case.terms, None);
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
            let mut client = Client::of(scene, case.terms, None);
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
