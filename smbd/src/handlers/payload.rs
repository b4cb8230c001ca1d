//! What protects the payload of a READ or WRITE that moves by RDMA, beside its message: nothing, the
//! channel's signature, or the session's cipher (MS-SMB2 3.3.5.12, 3.3.5.13).
//!
//! READ and WRITE ask before anything moves. A payload that must be protected and would not be is
//! refused here and nowhere else.

use proto::smb2::rdma_transform::{CryptoTransform, TransformType};
use proto::smb2::{Command, NtStatus};

use super::Context;
use crate::security::encryption::{End, SessionCipher};
use crate::security::payload::{Opening, OpeningKey, RdmaTransforms, Sealing};
use crate::security::signing::SigningKey;

/// How a READ's payload leaves: `None` is as it is. The client does not ask: what its request is
/// protected by, its payload is, where both ends know how.
pub(super) fn sealing(cx: &Context) -> Result<Option<Sealing>, NtStatus> {
    let known = transforms(cx);
    if cx.encrypted && known.encryption {
        let sealer = cipher(cx)?.payload_sealer().map_err(|used_up| {
            cx.connection.end(used_up.to_string());
            NtStatus::CONNECTION_DISCONNECTED
        })?;
        return Ok(Some(Sealing::Encrypt(sealer)));
    }
    if !cx.encrypted
        && known.signing
        && let Some(key) = signing_key(cx)
    {
        let nonce = key.payload_nonce(cx.header.message_id, End::Server);
        return Ok(Some(Sealing::Sign { key, nonce }));
    }
    bare(cx).map(|()| None)
}

/// How a WRITE's payload is checked: `None` is not at all.
pub(super) fn opening(
    transform: Option<&CryptoTransform<'_>>,
    cx: &Context,
) -> Result<Option<Opening>, NtStatus> {
    let Some(transform) = transform else {
        return bare(cx).map(|()| None);
    };
    let known = transforms(cx);
    let refuse = |why| cx.refuse(why, NtStatus::INVALID_PARAMETER);
    let key = match transform.transform_type {
        TransformType::Encryption if !known.encryption => {
            return Err(refuse("its payload is encrypted, which was not negotiated"));
        }
        TransformType::Encryption => OpeningKey::Decrypt(cipher(cx)?.payload_opener()),
        TransformType::Signing if !known.signing => {
            return Err(refuse("its payload is signed, which was not negotiated"));
        }
        // An encrypted message has no signature of its own: this would be less than it has.
        TransformType::Signing if cx.encrypted => {
            return Err(refuse("it is encrypted, and its payload is only signed"));
        }
        TransformType::Signing => {
            let key = signing_key(cx);
            OpeningKey::Verify(key.ok_or_else(|| refuse("its payload is signed, and it is not"))?)
        }
    };
    Ok(Some(Opening::new(key, transform)))
}

/// Tells of a payload that was changed on its way, or sealed with another key.
pub(super) fn tell_of_forgery(cx: &Context, status: NtStatus) {
    if matches!(
        status,
        NtStatus::INVALID_SIGNATURE | NtStatus::AUTH_TAG_MISMATCH
    ) {
        cx.refuse("its payload by RDMA is not what its sender sealed", status);
    }
}

/// Whether any transform was negotiated (IsRDMATransformSupported).
pub(super) fn is_known(cx: &Context) -> bool {
    !transforms(cx).is_empty()
}

/// A payload that nothing protects may move only where nothing needs to be protected.
fn bare(cx: &Context) -> Result<(), NtStatus> {
    let must_protect = cx
        .session
        .as_ref()
        .is_some_and(|session| session.signing_required.get() || session.encrypt_data);
    // A signature or cipher covers the message, not what RDMA moves beside it.
    if (must_protect || cx.encrypted) && !cx.child.config.rdma.allow_unprotected_payload {
        let command = cx.header.command().unwrap_or(Command::Read);
        return Err(cx.connection.refusals().tell(
            format_args!("{command:?} by RDMA"),
            "its payload would be neither signed nor encrypted \
             (rdma allow unprotected payload = no)",
            NtStatus::ACCESS_DENIED,
        ));
    }
    Ok(())
}

fn transforms(cx: &Context) -> RdmaTransforms {
    let negotiated = cx.connection.negotiated.get();
    negotiated.map_or(RdmaTransforms::default(), |found| found.rdma_transforms)
}

fn cipher(cx: &Context) -> Result<&SessionCipher, NtStatus> {
    let cipher = cx.session()?.cipher.as_deref();
    cipher.ok_or_else(|| {
        cx.refuse(
            "its session has no cipher to encrypt a payload with",
            NtStatus::INVALID_PARAMETER,
        )
    })
}

/// The key that the request was signed with, if it was.
fn signing_key(cx: &Context) -> Option<SigningKey> {
    let session = cx.session.as_ref().filter(|_| cx.header.is_signed())?;
    session
        .signing_key(cx.connection.id)
        .map(|key| SigningKey::clone(&key))
}
