//! How handlers make file calls: on the pool, as the tree connect's user, data calls included.
//!
//! The open decided whether data may move, and the kernel asks who moves it all the same: quotas
//! and the blocks a file system keeps for root count for the caller of a write, and only a write
//! of somebody without root's rights takes a program's set-user-id bit away.

use std::sync::Arc;

use proto::smb2::NtStatus;

use super::Context;
use crate::sys::pool::RunAs;

impl Context {
    /// Runs a file call as the user of the request's tree connect.
    pub(super) async fn as_user<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, NtStatus> + Send + 'static,
    ) -> Result<T, NtStatus> {
        let identity = Arc::clone(&self.tree()?.identity);
        self.child.pool.run(RunAs::User(identity), call).await?
    }
}
