//! Sessions (MS-SMB2 3.3.1.8) and the process's table of them.
//!
//! A session exists from the end of a successful logon on; until then there is only a [`Logon`]
//! of one connection, so that a failed one harms nothing. A session belongs to the process, and
//! each connection it may be used on is one of its channels, with a signing key of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use proto::smb2::{Dialect, NtStatus, SessionId};

use super::{Opens, Trees};
use crate::security::encryption::SessionCipher;
use crate::security::keys::{Key128, PreauthHash};
use crate::security::signing::{SigningAlgorithm, SigningKey};
use crate::security::spnego::{Authenticator, LogonKind};
use crate::security::users::Identity;

/// Sessions a client may have at once.
const MAX_SESSIONS: usize = 4096;

/// One user's session.
pub struct Session {
    /// Session.SessionId.
    pub id: SessionId,
    /// Another one after a reauthentication.
    user: RefCell<Rc<SessionUser>>,
    /// Connection.Dialect of its first connection; a further channel must have the same.
    pub dialect: Dialect,
    /// Connection.SigningAlgorithmId of its first connection.
    pub signing: SigningAlgorithm,
    /// Session.SigningKey: proves that whoever binds a further channel holds the session.
    pub signing_key: Option<Rc<SigningKey>>,
    /// Session.EncryptionKey and Session.DecryptionKey, where a cipher was negotiated.
    pub cipher: Option<Arc<SessionCipher>>,
    /// Session.EncryptData: what is not encrypted is refused.
    pub encrypt_data: bool,
    /// Session.SigningRequired.
    pub signing_required: Cell<bool>,
    /// Session.SupportsNotifications.
    pub supports_notifications: bool,
    /// Session.ApplicationKey, for protocols on named pipes.
    pub application_key: Key128,
    /// Session.ExpirationTime: the end of the ticket it was established with.
    pub expires: Cell<Option<Instant>>,
    /// Session.OpenTable.
    pub opens: Opens,
    /// Session.TreeConnectTable.
    pub trees: Trees,
    /// Session.ChannelList: the connection's number and its signing key.
    pub(crate) channels: RefCell<Vec<(u64, Option<Rc<SigningKey>>)>>,
}

/// Whose session it is (Session.SecurityContext).
#[derive(Debug)]
pub struct SessionUser {
    /// The name, as the user file or the client writes it.
    pub name: String,
    /// How the user logged on.
    pub kind: LogonKind,
    /// Whom file calls are made as.
    pub identity: Arc<Identity>,
}

/// What a session is made of.
pub struct SessionParts {
    pub id: SessionId,
    pub user: SessionUser,
    pub dialect: Dialect,
    pub signing: SigningAlgorithm,
    pub signing_key: Option<Rc<SigningKey>>,
    pub cipher: Option<Arc<SessionCipher>>,
    pub encrypt_data: bool,
    pub signing_required: bool,
    pub supports_notifications: bool,
    pub application_key: Key128,
}

/// A SESSION_SETUP exchange under way on one connection.
pub struct Logon {
    /// Session.PreauthIntegrityHashValue, or the channel's (MS-SMB2 3.3.5.5).
    pub hash: RefCell<PreauthHash>,
    /// The state of the exchange; taken while a token is judged.
    pub authenticator: RefCell<Option<Authenticator>>,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a SESSION_SETUP exchange is for.
pub enum Purpose {
    /// A new session (MS-SMB2 3.3.5.5.1).
    Establish,
    /// A session of this connection that authenticates anew (3.3.5.5.2).
    Renew(Rc<Session>),
    /// A session of another connection that gets this one as a further channel (3.3.5.5, step 4).
    Bind(Rc<Session>),
}

/// GlobalSessionTable, as far as this client goes.
#[derive(Default)]
pub struct Sessions {
    table: RefCell<HashMap<SessionId, Rc<Session>>>,
}

impl Session {
    /// A session without channels, opens and tree connects.
    pub fn new(parts: SessionParts) -> Session {
        Session {
            id: parts.id,
            user: RefCell::new(Rc::new(parts.user)),
            dialect: parts.dialect,
            signing: parts.signing,
            signing_key: parts.signing_key,
            cipher: parts.cipher,
            encrypt_data: parts.encrypt_data,
            signing_required: parts.signing_required.into(),
            supports_notifications: parts.supports_notifications,
            application_key: parts.application_key,
            expires: Cell::new(None),
            opens: Opens::default(),
            trees: Trees::default(),
            channels: RefCell::default(),
        }
    }

    /// Whose it is now.
    pub fn user(&self) -> Rc<SessionUser> {
        Rc::clone(&self.user.borrow())
    }

    /// Another user has authenticated on it.
    pub fn set_user(&self, user: SessionUser) {
        self.user.replace(Rc::new(user));
    }

    /// Channels it has.
    pub fn channel_count(&self) -> usize {
        self.channels.borrow().len()
    }

    /// A guest's or nobody's session.
    pub fn is_guest(&self) -> bool {
        self.user.borrow().kind != LogonKind::User
    }

    /// Session.State is Expired: it has to authenticate anew.
    pub fn has_expired(&self) -> bool {
        self.expires.get().is_some_and(|end| end <= Instant::now())
    }

    /// Makes a connection a channel of this session.
    pub fn add_channel(&self, connection: u64, signing_key: Option<Rc<SigningKey>>) {
        self.remove_channel(connection);
        self.channels.borrow_mut().push((connection, signing_key));
    }

    /// Whether the session may be used on a connection.
    pub fn has_channel(&self, connection: u64) -> bool {
        self.channels
            .borrow()
            .iter()
            .any(|(id, _)| *id == connection)
    }

    /// Channel.SigningKey.
    pub fn signing_key(&self, connection: u64) -> Option<Rc<SigningKey>> {
        let channels = self.channels.borrow();
        let (_, key) = channels.iter().find(|(id, _)| *id == connection)?;
        key.clone()
    }

    /// Takes a channel away; true if it was the last.
    pub fn remove_channel(&self, connection: u64) -> bool {
        let mut channels = self.channels.borrow_mut();
        channels.retain(|(id, _)| *id != connection);
        channels.is_empty()
    }
}

impl Sessions {
    /// The session of `id`.
    pub fn find(&self, id: SessionId) -> Option<Rc<Session>> {
        self.table.borrow().get(&id).cloned()
    }

    /// Whether another session or logon may begin.
    pub fn has_room(&self) -> bool {
        self.table.borrow().len() < MAX_SESSIONS
    }

    /// Adds a session.
    pub fn add(&self, session: Rc<Session>) -> Result<(), NtStatus> {
        if !self.has_room() {
            return Err(NtStatus::TOO_MANY_SESSIONS);
        }
        self.table.borrow_mut().insert(session.id, session);
        Ok(())
    }

    /// Forgets a session.
    pub fn remove(&self, id: SessionId) -> Option<Rc<Session>> {
        self.table.borrow_mut().remove(&id)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Rc<Session>> {
        self.table.borrow().values().cloned().collect()
    }
}
