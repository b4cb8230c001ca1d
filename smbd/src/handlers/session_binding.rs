//! SESSION_SETUP with SMB2_SESSION_FLAG_BINDING (MS-SMB2 3.3.5.5, step 4): a session gets this
//! connection as a further channel.
//!
//! A ClientGuid leads here and proves nothing: each message must be signed with the session's key,
//! and the user authenticates in full. Nothing of the session changes before all of it succeeded.

use std::rc::Rc;

use proto::control::broker::{BindingConnection, Refusal};
use proto::smb2::{Dialect, HEADER_SIZE, NtStatus};

use super::Context;
use crate::channel::Reading;
use crate::messaging::Claim;
use crate::security::encryption::SessionCipher;
use crate::security::keys::KeySchedule;
use crate::security::ntlm::SessionKey;
use crate::security::signing::{SigningAlgorithm, SigningKey};
use crate::state::{Logon, Negotiated, Session};
use crate::stop_point;

/// Channels of one session: what Windows allows (MS-SMB2 3.3.5.5.3).
const MAX_CHANNELS: usize = 32;

/// Whether sessions may be bound at all.
pub fn permit(cx: &Context) -> Result<(), NtStatus> {
    match cx.child.config.global.server_multi_channel_support {
        true => Ok(()),
        false => Err(cx.refuse(
            "server multi channel support = no",
            NtStatus::REQUEST_NOT_ACCEPTED,
        )),
    }
}

/// The session a binding request names, once it is clear that its sender may ask.
pub fn check(
    element: &[u8],
    cx: &Context,
    negotiated: &Negotiated,
) -> Result<Rc<Session>, NtStatus> {
    let session = cx
        .child
        .sessions
        .find(cx.header.session_id)
        .ok_or(NtStatus::USER_SESSION_DELETED)?;
    // AES-GMAC is for all channels of a session or for none; what clients hear is what Windows
    // says, before it looks at anything else. HMAC-SHA256 and AES-CMAC may stand side by side.
    match session.signing {
        signing if signing == negotiated.signing => {}
        SigningAlgorithm::AesGmac => return Err(NtStatus::REQUEST_OUT_OF_SEQUENCE),
        _ if negotiated.signing == SigningAlgorithm::AesGmac => {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        _ => {}
    }
    if !negotiated.dialect.is_smb3() {
        return Err(NtStatus::REQUEST_NOT_ACCEPTED);
    }
    if session.dialect != negotiated.dialect || !cx.header.is_signed() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if session.supports_notifications != negotiated.supports_notifications() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if session.has_channel(cx.connection.id) {
        return Err(NtStatus::REQUEST_NOT_ACCEPTED);
    }
    // A guest has no key to prove anything with.
    let key = session
        .signing_key
        .as_ref()
        .filter(|_| !session.is_guest())
        .ok_or(NtStatus::NOT_SUPPORTED)?;
    // MS-SMB2 3.3.5.5, step 4: the session's messages must be readable on each of its channels.
    if session.cipher.as_deref().map(SessionCipher::cipher) != negotiated.cipher {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let verified = element
        .split_first_chunk::<HEADER_SIZE>()
        .is_some_and(|(head, rest)| key.verify(head, &[rest]));
    if !verified {
        tracing::warn!(
            peer = %cx.connection.channel.peer(),
            session = format_args!("{:#x}", session.id.0),
            "a binding is not signed with the session's key (MS-SMB2 3.3.5.2.4)"
        );
        return Err(NtStatus::ACCESS_DENIED);
    }
    if session.channel_count() >= MAX_CHANNELS {
        return Err(NtStatus::INSUFFICIENT_RESOURCES);
    }
    Ok(session)
}

/// A session that is none of this process's: the connection goes to the process that has it, which
/// answers. Only a bare TCP connection can go: not one that has sessions here, nor one with anything
/// under way. The status is the answer where it stays.
pub async fn pass_on(element: &[u8], cx: &Context) -> NtStatus {
    let connection = &cx.connection;
    let window_end = connection
        .window
        .borrow()
        .end_after(cx.header.message_id)
        .filter(|_| {
            !connection.is_authenticated()
                && !connection.negotiate.borrow().is_empty()
                && connection.requests.borrow().len() == 1
                && connection.channel.is_between_messages()
        });
    let duplicate = connection.channel.descriptor().try_clone_to_owned();
    let (Some(window_end), Ok(duplicate)) = (window_end, duplicate) else {
        return NtStatus::USER_SESSION_DELETED;
    };
    let state = BindingConnection {
        negotiate: connection.negotiate.borrow().clone(),
        preauth: connection.preauth.borrow().as_bytes().to_vec(),
        request: element.to_vec(),
        window_end,
    };
    connection.channel.read_on(Reading::Nothing);
    let session = cx.header.session_id.0;
    match cx.child.broker.bind(session, state, duplicate).await {
        Claim::HandedOver => {
            connection.hand_over();
            NtStatus::CONNECTION_DISCONNECTED
        }
        Claim::Owner(_) | Claim::Refused(Refusal::NoSession, _) => {
            connection.channel.read_on(Reading::Freely);
            NtStatus::USER_SESSION_DELETED
        }
        Claim::Refused(..) => {
            connection.channel.read_on(Reading::Freely);
            NtStatus::REQUEST_NOT_ACCEPTED
        }
    }
}

/// Adds the channel: MS-SMB2 3.3.5.5.3. Its signing key is made of the key of its own logon, and
/// signs the final response.
pub fn bind(
    cx: &Context,
    negotiated: &Negotiated,
    session: &Rc<Session>,
    logon: &Logon,
    key: &SessionKey,
) -> Result<Rc<SigningKey>, NtStatus> {
    // It may have ended, or have been bound by another exchange, while this one went on.
    let current = cx.child.sessions.find(session.id);
    if !current.is_some_and(|found| Rc::ptr_eq(&found, session)) {
        return Err(NtStatus::USER_SESSION_DELETED);
    }
    if session.has_channel(cx.connection.id) {
        return Err(NtStatus::REQUEST_NOT_ACCEPTED);
    }
    if session.channel_count() >= MAX_CHANNELS {
        return Err(NtStatus::INSUFFICIENT_RESOURCES);
    }
    let hash = logon.hash.borrow();
    let schedule = match negotiated.dialect {
        Dialect::Smb311 => KeySchedule::Smb311(&hash),
        _ => KeySchedule::Smb30,
    };
    let key = schedule.signing_key(key);
    let key = Rc::new(SigningKey::new(negotiated.signing, &key));
    session.add_channel(cx.connection.id, Some(Rc::clone(&key)));
    cx.child.authenticated(&cx.connection);
    cx.connection.proven.set(true);
    stop_point::reach("session-bound");
    tracing::info!(
        peer = %cx.connection.channel.peer(),
        transport = ?cx.connection.channel.transport(),
        user = ?session.user().name,
        session = format_args!("{:#x}", session.id.0),
        channels = session.channel_count(),
        "a further channel is bound"
    );
    Ok(key)
}
