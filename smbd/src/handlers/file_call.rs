//! How handlers make file calls: on the pool, as the tree connect's user or as the server.
//!
//! What opens, names or changes a file's metadata runs as the user, and the kernel decides. Data
//! of an open descriptor moves as the server: the open already decided.

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

    /// Runs a call on an open descriptor as the server.
    pub(super) async fn as_server<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, NtStatus> + Send + 'static,
    ) -> Result<T, NtStatus> {
        self.child.pool.run(RunAs::Server, call).await?
    }
}
