//! Sessions (MS-SMB2 3.3.1.8): one authenticated user of the client.
//!
//! A session exists from the end of a successful logon on; what happens before is a connection's
//! own business. It belongs to the process, since several channels may share it.

use std::sync::Arc;

use proto::smb2::SessionId;

use super::Opens;
use crate::security::users::Identity;

/// One user's session.
pub struct Session {
    /// Session.SessionId.
    pub id: SessionId,
    /// Whom file calls are made as.
    pub identity: Arc<Identity>,
    /// The user's name, as the user file writes it.
    pub user: String,
    /// The guest account or nobody: holds no key, nothing is signed.
    pub guest: bool,
    /// Session.OpenTable.
    pub opens: Opens,
}
