//! How handlers make file calls: on the pool, as the user who made the open, data calls included.
//!
//! The open decided whether data may move, and the kernel asks who moves it all the same: quotas
//! and the blocks a file system keeps for root count for the caller of a write, and only a write
//! of somebody without root's rights takes a program's set-user-id bit away.

use std::sync::Arc;

use proto::smb2::NtStatus;

use super::Context;
use crate::state::Open;
use crate::sys::pool::RunAs;
use crate::vfs::Metadata;

impl Context {
    /// Runs a file call as the user of the tree connect: of the open's, where there is an open. What it
    /// was granted stays its user's, even if the session is another's by now.
    pub(super) async fn as_user<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, NtStatus> + Send + 'static,
    ) -> Result<T, NtStatus> {
        let identity = match &*self.named.borrow() {
            Some(named) => Arc::clone(&named.open.tree.identity),
            None => Arc::clone(&self.tree()?.identity),
        };
        self.child.pool.run(RunAs::User(identity), call).await?
    }

    /// Runs a file call that concerns more than the open, such as directories, as the session's user.
    pub(super) async fn as_session_user<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, NtStatus> + Send + 'static,
    ) -> Result<T, NtStatus> {
        let identity = Arc::clone(&self.tree()?.identity);
        self.child.pool.run(RunAs::User(identity), call).await?
    }

    /// What the file of an open is: as the CREATE before in the compound found it, else asked now.
    pub(super) async fn metadata(&self, open: &Open) -> Result<Metadata, NtStatus> {
        if let Some((id, metadata)) = self.chain_metadata.get()
            && id == open.id
        {
            return Ok(metadata);
        }
        let file = Arc::clone(&open.disk()?.file);
        self.as_user(move || file.metadata()).await
    }
}
