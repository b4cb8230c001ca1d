//! A child: one event loop that serves one client over all its channels.
//!
//! Owns the epoll loop, the task executor and the services handlers reach through [`Child`].
//! The zygote starts one in each forked process; it ends when the last connection is gone.

use crate::sys::pool::Pool;

/// Services of the process, shared by all connections of its client.
#[derive(Debug)]
pub struct Child {
    /// Threads for blocking calls.
    pub pool: Pool,
}
