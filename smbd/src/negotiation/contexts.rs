//! The negotiate contexts of 3.1.1 (MS-SMB2 3.3.5.4): what is chosen of a request's, and the
//! answer's. Contexts of a type nobody here knows are ignored; a known one that is malformed, empty
//! or there twice refuses the whole request.

use proto::smb2::NtStatus;
use proto::smb2::negotiate::NegotiateRequest;
use proto::smb2::negotiate_context::{
    self, CompressionFlags, ContextType, PreauthIntegrity, SHA_512, algorithms_data,
    decode_algorithms, decode_rdma_transforms, decode_transport, rdma_transform,
    rdma_transforms_data,
};
use proto::wire::WireError;

use super::Policy;
use crate::compression::Compression;
use crate::config::{ServerEncryption, ShareCompression};
use crate::security::encryption::Cipher;
use crate::security::payload::RdmaTransforms;
use crate::security::signing::SigningAlgorithm;

/// Bytes of salt in the answer (MS-SMB2 2.2.4.1.1 leaves the number to the server).
pub const SALT_LENGTH: usize = 32;

/// Signing algorithms, best first: GMAC is ten times as fast as CMAC.
const SIGNING_PREFERENCE: [SigningAlgorithm; 3] = [
    SigningAlgorithm::AesGmac,
    SigningAlgorithm::AesCmac,
    SigningAlgorithm::HmacSha256,
];

/// What 3.1.1's contexts settle. The default is that of dialects without contexts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contexts {
    /// Answered only if asked for, and only if there is one in common.
    pub signing: Option<SigningAlgorithm>,
    /// Answered if asked for, with 0 when there is none in common.
    pub cipher: Option<Option<Cipher>>,
    /// Likewise, with NONE.
    pub compression: Option<Option<Compression>>,
    /// Those in common, in the client's order. Answered if asked for, with NONE when there is none.
    rdma_transforms: Option<Vec<u16>>,
    is_311: bool,
}

/// The data of a request's contexts, each at most once.
#[derive(Default)]
struct Offered<'a> {
    preauth: Option<&'a [u8]>,
    signing: Option<&'a [u8]>,
    ciphers: Option<&'a [u8]>,
    compression: Option<&'a [u8]>,
    transport: Option<&'a [u8]>,
    rdma_transforms: Option<&'a [u8]>,
}

impl<'a> Offered<'a> {
    fn of(request: &NegotiateRequest<'a>) -> Result<Offered<'a>, NtStatus> {
        let mut offered = Offered::default();
        for context in request.contexts.iter() {
            let context = context.map_err(malformed)?;
            let slot = match context.context_type {
                ContextType::PREAUTH_INTEGRITY_CAPABILITIES => &mut offered.preauth,
                ContextType::SIGNING_CAPABILITIES => &mut offered.signing,
                ContextType::ENCRYPTION_CAPABILITIES => &mut offered.ciphers,
                ContextType::TRANSPORT_CAPABILITIES => &mut offered.transport,
                ContextType::RDMA_TRANSFORM_CAPABILITIES => &mut offered.rdma_transforms,
                ContextType::COMPRESSION_CAPABILITIES => &mut offered.compression,
                // The net name says nothing new.
                _ => continue,
            };
            if slot.replace(context.data).is_some() {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        Ok(offered)
    }
}

impl Contexts {
    pub(super) fn choose(
        request: &NegotiateRequest<'_>,
        policy: &Policy<'_>,
    ) -> Result<Contexts, NtStatus> {
        let offered = Offered::of(request)?;
        check_preauth(offered.preauth)?;
        if let Some(data) = offered.transport {
            // No transport here is secure by itself: well formed, and not answered.
            decode_transport(data).map_err(malformed)?;
        }
        let compresses = (policy.config.shares.iter())
            .any(|share| share.smb3_compression != ShareCompression::Off);
        let encrypts = policy.config.global.server_smb_encrypt != ServerEncryption::Off;
        let cipher = offered
            .ciphers
            .map(|data| best(data, &Cipher::PREFERENCE, Cipher::id))
            .transpose()?
            .map(|common| common.filter(|_| encrypts));
        let transforms = RdmaTransforms {
            encryption: cipher.flatten().is_some(),
            signing: true,
        };
        let rdma_transforms = offered
            .rdma_transforms
            .map(|data| common_transforms(data, transforms))
            .transpose()?
            .filter(|_| policy.config.rdma.transform);
        Ok(Contexts {
            signing: offered
                .signing
                .map(|data| best(data, &SIGNING_PREFERENCE, SigningAlgorithm::id))
                .transpose()?
                .flatten(),
            cipher,
            compression: offered
                .compression
                .filter(|_| compresses)
                .map(choose_compression)
                .transpose()?,
            rdma_transforms,
            is_311: true,
        })
    }

    /// Connection.RDMATransformIds.
    pub fn rdma_transforms(&self) -> RdmaTransforms {
        RdmaTransforms::of(self.rdma_transforms.iter().flatten().copied())
    }

    /// The answer's contexts.
    pub fn answer(&self, salt: &[u8; SALT_LENGTH]) -> Vec<(ContextType, Vec<u8>)> {
        if !self.is_311 {
            return Vec::new();
        }
        let mut answer = vec![(
            ContextType::PREAUTH_INTEGRITY_CAPABILITIES,
            PreauthIntegrity::data(&[SHA_512], salt),
        )];
        if let Some(chosen) = self.signing {
            let data = algorithms_data(&[chosen.id()]);
            answer.push((ContextType::SIGNING_CAPABILITIES, data));
        }
        if let Some(chosen) = self.cipher {
            // MS-SMB2 3.3.5.4: 0 says that there is none in common.
            let data = algorithms_data(&[chosen.map_or(0, Cipher::id)]);
            answer.push((ContextType::ENCRYPTION_CAPABILITIES, data));
        }
        if let Some(common) = &self.rdma_transforms {
            let data = match common.as_slice() {
                [] => rdma_transforms_data(&[rdma_transform::NONE]),
                common => rdma_transforms_data(common),
            };
            answer.push((ContextType::RDMA_TRANSFORM_CAPABILITIES, data));
        }
        if let Some(chosen) = &self.compression {
            let mut flags = CompressionFlags::empty();
            let ids = match chosen {
                Some(compression) => compression.ids(),
                None => &[negotiate_context::compression::NONE],
            };
            flags.set(
                CompressionFlags::CHAINED,
                chosen.as_ref().is_some_and(Compression::is_chained),
            );
            let data = negotiate_context::Compression::data(flags, ids);
            answer.push((ContextType::COMPRESSION_CAPABILITIES, data));
        }
        answer
    }
}

fn choose_compression(data: &[u8]) -> Result<Option<Compression>, NtStatus> {
    let offered = negotiate_context::Compression::decode(data).map_err(malformed)?;
    if offered.algorithms.iter().len() == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let chained = offered.flags.contains(CompressionFlags::CHAINED);
    Ok(Compression::choose(offered.algorithms.iter(), chained))
}

/// Exactly one context, and SHA-512 in it.
fn check_preauth(data: Option<&[u8]>) -> Result<(), NtStatus> {
    let data = data.ok_or(NtStatus::INVALID_PARAMETER)?;
    let preauth = PreauthIntegrity::decode(data).map_err(malformed)?;
    if preauth.hash_algorithms.iter().len() == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    match preauth.hash_algorithms.contains(SHA_512) {
        true => Ok(()),
        false => Err(NtStatus::SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP),
    }
}

/// The first of `preference` that a context's list has. An empty list is an error.
fn best<T: Copy>(data: &[u8], preference: &[T], id: fn(T) -> u16) -> Result<Option<T>, NtStatus> {
    let offered = decode_algorithms(data).map_err(malformed)?;
    if offered.iter().len() == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut common = preference.iter().filter(|one| offered.contains(id(**one)));
    Ok(common.next().copied())
}

/// Those of a context's list that are known here, each once. An empty list is an error.
fn common_transforms(data: &[u8], known: RdmaTransforms) -> Result<Vec<u16>, NtStatus> {
    let offered = decode_rdma_transforms(data).map_err(malformed)?;
    if offered.iter().len() == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut common = Vec::new();
    for id in offered.iter().filter(|id| known.contains(*id)) {
        if !common.contains(&id) {
            common.push(id);
        }
    }
    Ok(common)
}

fn malformed(_: WireError) -> NtStatus {
    NtStatus::INVALID_PARAMETER
}
