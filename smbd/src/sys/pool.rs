//! The pool: threads for calls that may block, each job under the identity of its session.
//!
//! A job switches its thread *to* its identity if the thread has another one, by raw per-thread
//! system calls; nothing is switched back, and a failed switch ends the process. The result comes
//! back to the child's loop, whose thread alone resolves the future.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::security::users::Identity;

/// Who a job runs as.
#[derive(Debug, Clone)]
pub enum RunAs {
    /// The child itself (root): for calls on descriptors that are open already.
    Server,
    /// A session's user.
    User(Arc<Identity>),
}

/// A fixed number of threads and one queue.
#[derive(Debug)]
pub struct Pool {}

impl Pool {
    /// Starts `threads` threads.
    pub fn start(_threads: usize) -> Result<Pool, shm::SystemError> {
        unimplemented!("the pool's threads")
    }

    /// Readable when jobs have ended: the loop then calls [`Pool::complete`].
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        unimplemented!("the pool's threads")
    }

    /// Resolves the futures of ended jobs.
    pub fn complete(&self) {
        unimplemented!("the pool's threads")
    }

    /// Runs `job` on a thread and waits for its result. The job runs even if the future is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        _run_as: RunAs,
        _job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        unimplemented!("the pool's threads")
    }
}
