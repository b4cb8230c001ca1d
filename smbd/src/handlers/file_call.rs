//! How handlers make file calls: on the pool, as the tree connect's user, data calls included.
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
    /// Runs a file call as the user of the request's tree connect.
    pub(super) async fn as_user<T: Send + 'static>(
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
