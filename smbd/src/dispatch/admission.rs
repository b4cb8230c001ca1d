//! What an element must satisfy before its handler sees it: signature, session, tree connect,
//! credit charge (MS-SMB2 3.3.5.2.4 to 3.3.5.2.11), and what a related element inherits from the
//! one before it (3.3.5.2.7.2).

use std::rc::Rc;
use std::sync::Arc;

use proto::smb2::{Command, FileId, HEADER_SIZE, Header, NtStatus, TreeId};

use super::Element;
use super::request_size::{check_charge, payload_size};
use crate::channel::Message;
use crate::child::Child;
use crate::security::signing::SigningKey;
use crate::state::{Connection, Session, Tree};
use crate::vfs::Metadata;

/// What the elements of a chain hand on.
#[derive(Default)]
pub(super) struct Inherited {
    pub session: Option<Rc<Session>>,
    pub tree: Option<Rc<Tree>>,
    pub file: Option<FileId>,
    /// What the CREATE found, until something may have changed it.
    pub metadata: Option<(FileId, Metadata)>,
    /// The status of the element that left nothing to inherit: a failed CREATE, or a chain that
    /// begins with a related element.
    pub failed: Option<NtStatus>,
}

/// An element that may be handled.
pub(super) struct Admitted {
    pub command: Command,
    pub session: Option<Rc<Session>>,
    pub tree: Option<Rc<Tree>>,
}

/// What is known of an element's sender, whether it is admitted or not.
#[derive(Default)]
pub(super) struct Sender {
    /// Signs the response.
    pub signing_key: Option<Rc<SigningKey>>,
    /// The request was signed with a key nobody here has: its response says that it is signed too.
    /// Clients take STATUS_USER_SESSION_DELETED from no other, and have no key left to check it.
    pub claims_signature: bool,
    /// The cipher has proven who it is: no signature is asked for, or looked at.
    pub encrypted: bool,
}

/// Checks an element. `sender` is filled as far as the checks get: an error is signed too.
pub(super) fn admit(
    child: &Child,
    connection: &Connection,
    element: &Element,
    message: &mut Arc<Message>,
    inherited: &mut Inherited,
    sender: &mut Sender,
) -> Result<Admitted, NtStatus> {
    let header = &element.header;
    if header.is_related() {
        if let Some(status) = inherited.failed
            && (status == NtStatus::INVALID_PARAMETER || header.command() != Ok(Command::Create))
        {
            // The signature is still the session's; the status is the failed element's.
            sender.signing_key = inherited
                .session
                .as_ref()
                .filter(|_| header.is_signed())
                .and_then(|session| session.signing_key(connection.id));
            return Err(status);
        }
    } else {
        *inherited = Inherited::default();
    }
    let command = header.command().ok();
    if command != Some(Command::Negotiate) && connection.negotiated.get().is_none() {
        connection.end("a request before NEGOTIATE (MS-SMB2 3.3.5.2)");
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let session = session_of(child, connection, header, inherited);
    verify(
        child,
        connection,
        element,
        message,
        session.as_ref(),
        sender,
    )?;
    let bytes = element.bytes(message);
    let command = command
        .filter(|command| *command != Command::ServerToClientNotification)
        .ok_or(NtStatus::INVALID_PARAMETER)?;
    let (needs_session, needs_tree) = match command {
        Command::Negotiate | Command::SessionSetup | Command::Echo | Command::Cancel => {
            (false, false)
        }
        Command::Logoff | Command::TreeConnect => (true, false),
        _ => (true, true),
    };
    if needs_session && session.is_none() {
        inherited.session = None;
        return Err(match header.is_related() {
            // Nothing to inherit (MS-SMB2 3.3.5.2.7.2).
            true => NtStatus::INVALID_PARAMETER,
            false => NtStatus::USER_SESSION_DELETED,
        });
    }
    inherited.session.clone_from(&session);
    // MS-SMB2 3.3.5.2.9: what only gives back goes on.
    let gives_back = matches!(
        command,
        Command::SessionSetup
            | Command::Logoff
            | Command::Close
            | Command::Lock
            | Command::Cancel
            | Command::Echo
    );
    if !gives_back
        && session
            .as_ref()
            .is_some_and(|session| session.has_expired())
    {
        return Err(NtStatus::NETWORK_SESSION_EXPIRED);
    }
    let tree = match (&session, needs_tree) {
        (Some(session), true) => Some(tree_of(header, session, inherited)?),
        _ => None,
    };
    if tree.as_ref().is_some_and(|tree| tree.encrypt_data) && !sender.encrypted {
        // MS-SMB2 3.3.5.2.11. TREE_DISCONNECT goes the same way.
        let user = session.as_ref().map(|session| session.user());
        return Err(connection.refusals().tell(
            format_args!("a request of {:?}", user.as_ref().map(|user| &user.name)),
            "it is not encrypted, and its share must be (smb encrypt)",
            NtStatus::ACCESS_DENIED,
        ));
    }
    inherited.tree.clone_from(&tree);
    if connection.is_multi_credit() {
        check_charge(header.credit_charge, payload_size(command, bytes))?;
    } else {
        check_charge(1, payload_size(command, bytes))?;
    }
    Ok(Admitted {
        command,
        session,
        tree,
    })
}

/// The session an element belongs to (MS-SMB2 3.3.5.2.9): one of this connection's.
fn session_of(
    child: &Child,
    connection: &Connection,
    header: &Header,
    inherited: &Inherited,
) -> Option<Rc<Session>> {
    if header.is_related() {
        return inherited.session.clone();
    }
    child
        .sessions
        .find(header.session_id)
        .filter(|session| session.has_channel(connection.id))
}

/// The tree connect of an element (MS-SMB2 3.3.5.2.11), looked up again for each.
fn tree_of(
    header: &Header,
    session: &Session,
    inherited: &Inherited,
) -> Result<Rc<Tree>, NtStatus> {
    let id = if header.is_related() {
        inherited
            .tree
            .as_ref()
            .map(|tree| tree.id)
            .ok_or(NtStatus::INVALID_PARAMETER)?
    } else {
        header.tree_id().unwrap_or(TreeId(0))
    };
    session.trees.find(id).ok_or(NtStatus::NETWORK_NAME_DELETED)
}

/// The key of the session that a SESSION_SETUP wants to bind this connection to, if it is signed
/// with that: until there is a key of the channel it signs the responses too (MS-SMB2 3.3.5.5).
fn binding_key(child: &Child, element: &Element, message: &Message) -> Option<Rc<SigningKey>> {
    let session = child.sessions.find(element.header.session_id)?;
    let (head, rest) = element.bytes(message).split_first_chunk::<HEADER_SIZE>()?;
    let key = session.signing_key.as_ref()?;
    (element.header.is_signed() && key.verify(head, &[rest])).then(|| Rc::clone(key))
}

/// MS-SMB2 3.3.5.2.4. A SESSION_SETUP is signed where it renews a session or binds one.
fn verify(
    child: &Child,
    connection: &Connection,
    element: &Element,
    message: &mut Arc<Message>,
    session: Option<&Rc<Session>>,
    sender: &mut Sender,
) -> Result<(), NtStatus> {
    if sender.encrypted {
        return Ok(());
    }
    let header = &element.header;
    let command = header.command();
    if command == Ok(Command::Negotiate) {
        return match header.is_signed() {
            true => Err(NtStatus::INVALID_PARAMETER),
            false => Ok(()),
        };
    }
    let Some(session) = session else {
        sender.claims_signature = header.is_signed();
        if command == Ok(Command::SessionSetup) {
            sender.signing_key = binding_key(child, element, message);
            return Ok(());
        }
        return match header.is_signed() {
            true => Err(NtStatus::USER_SESSION_DELETED),
            false => Ok(()),
        };
    };
    let key = session.signing_key(connection.id);
    // MS-SMB2 3.3.5.2.9: in such a session nothing but SESSION_SETUP may be in the clear.
    if session.encrypt_data && command != Ok(Command::SessionSetup) {
        sender.signing_key = key;
        return Err(connection.refusals().tell(
            format_args!("a request of {:?}", session.user().name),
            "it is not encrypted, and its session must be (MS-SMB2 3.3.5.2.9)",
            NtStatus::ACCESS_DENIED,
        ));
    }
    if session.signing_required.get() {
        sender.signing_key.clone_from(&key);
    }
    if !header.is_signed() {
        if !session.signing_required.get() {
            return Ok(());
        }
        return Err(connection.refusals().tell(
            format_args!("a request of {:?}", session.user().name),
            "it is not signed, and its session must be (MS-SMB2 3.3.5.2.4)",
            NtStatus::ACCESS_DENIED,
        ));
    }
    // A guest's session has no key, so a signature means nothing there.
    let Some(key) = key else { return Ok(()) };
    // A refusal is signed too: who knows the key shall know that it is the server's.
    sender.signing_key = Some(Rc::clone(&key));
    // Nobody shares the message but jobs of elements before this one, which have ended.
    let verified = match Arc::get_mut(message)
        .and_then(|message| message.bytes_mut().get_mut(element.range.clone()))
    {
        Some(bytes) => key.verify_whole(bytes),
        None => element
            .bytes(message)
            .split_first_chunk::<HEADER_SIZE>()
            .is_some_and(|(head, rest)| key.verify(head, &[rest])),
    };
    if !verified {
        tracing::warn!(
            peer = %connection.channel.peer(),
            session = format_args!("{:#x}", session.id.0),
            "a signature is wrong (MS-SMB2 3.3.5.2.4)"
        );
        return Err(NtStatus::ACCESS_DENIED);
    }
    Ok(())
}
