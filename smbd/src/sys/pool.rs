//! The pool: threads for calls that may block, each job under the identity of its session.
//!
//! Only the child's loop submits and completes. A job switches its thread *to* its identity if the
//! thread has another one ([`super::identity`]); nothing is switched back. Its result travels back
//! through a queue and an eventfd, and the loop's thread alone resolves the future. The queue
//! has no bound of its own: each request submits one job at a time, and credits bound requests.

use std::any::Any;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use futures::channel::oneshot;
use proto::smb2::NtStatus;
use shm::SystemError;
use shm::wakeup::Wakeup;

pub use super::identity::RunAs;
use super::identity::{self, ThreadIdentity};

/// A job that gave no result: it panicked. The panic itself was logged where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a file call ended in a panic; see the log")]
pub struct JobLost;

impl From<JobLost> for NtStatus {
    fn from(_: JobLost) -> NtStatus {
        NtStatus::INTERNAL_ERROR
    }
}

/// A fixed number of threads and one queue.
#[derive(Debug)]
pub struct Pool {
    jobs: Sender<Job>,
    completed: Receiver<Completion>,
    wakeup: Arc<CompletionWakeup>,
}

struct Job {
    run_as: RunAs,
    /// Runs the call; what it gives back resolves the future and is run by the loop's thread.
    run: Box<dyn FnOnce() -> Completion + Send>,
}

type Completion = Box<dyn FnOnce() + Send>;

/// An eventfd that is written once for any number of completions between two drains.
#[derive(Debug)]
struct CompletionWakeup {
    signalled: AtomicBool,
    eventfd: Wakeup,
}

impl Pool {
    /// Threads for this machine: the two or four that keep one client's disk busy.
    pub fn default_threads() -> usize {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        (cores * 2).min(4)
    }

    /// Starts `threads` threads.
    pub fn start(threads: usize) -> Result<Pool, SystemError> {
        let (jobs, queue) = unbounded::<Job>();
        let (finished, completed) = unbounded::<Completion>();
        let wakeup = Arc::new(CompletionWakeup {
            signalled: AtomicBool::new(false),
            eventfd: Wakeup::new()?,
        });
        for number in 0..threads.max(1) {
            let (queue, finished, wakeup) = (queue.clone(), finished.clone(), Arc::clone(&wakeup));
            thread::Builder::new()
                .name(format!("file-{number}"))
                .spawn(move || work(&queue, &finished, &wakeup))
                .map_err(SystemError::of("start a pool thread"))?;
        }
        Ok(Pool {
            jobs,
            completed,
            wakeup,
        })
    }

    /// Readable when jobs have ended: the loop then calls [`Pool::complete`].
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.wakeup.eventfd.as_fd()
    }

    /// Resolves the futures of ended jobs.
    pub fn complete(&self) {
        self.wakeup.clear();
        for completion in self.completed.try_iter() {
            completion();
        }
    }

    /// Runs `job` on a thread; it is queued at once and runs even if the future is dropped.
    pub fn run<T, F>(
        &self,
        run_as: RunAs,
        job: F,
    ) -> impl Future<Output = Result<T, JobLost>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (resolve, result) = oneshot::channel();
        let run = Box::new(move || -> Completion {
            let outcome = catch_unwind(AssertUnwindSafe(job)).map_err(report_panic);
            Box::new(move || {
                // A dropped future wants no result.
                let _ = resolve.send(outcome);
            })
        });
        // Fails only without threads; then the oneshot is dropped and reads as a lost job.
        let _ = self.jobs.send(Job { run_as, run });
        async move { result.await.unwrap_or(Err(JobLost)) }
    }
}

impl CompletionWakeup {
    fn signal(&self) {
        if !self.signalled.swap(true, Ordering::SeqCst) {
            self.eventfd.signal();
        }
    }

    /// Called before the queue is drained. The eventfd is cleared first: a completion queued between
    /// the two lines signals nothing, and is drained by this turn.
    fn clear(&self) {
        self.eventfd.clear();
        self.signalled.store(false, Ordering::SeqCst);
    }
}

/// A thread's life: until the pool is dropped.
fn work(queue: &Receiver<Job>, finished: &Sender<Completion>, wakeup: &CompletionWakeup) {
    identity::clear_file_mode_mask();
    let mut identity = ThreadIdentity::unchanged();
    for job in queue {
        identity.switch_to(&job.run_as);
        if finished.send((job.run)()).is_err() {
            return;
        }
        wakeup.signal();
    }
}

fn report_panic(panic: Box<dyn Any + Send>) -> JobLost {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!("a file call panicked: {words}; its request is answered INTERNAL_ERROR");
    JobLost
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    /// What the child's loop does: waits for the descriptor, completes, polls.
    fn finish<T>(pool: &Pool, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            let descriptor = pool.descriptor();
            let mut ready = [PollFd::new(&descriptor, PollFlags::IN)];
            let limit = Timespec::try_from(Duration::from_secs(10)).unwrap();
            assert_eq!(poll(&mut ready, Some(&limit)).unwrap(), 1, "no wakeup");
            pool.complete();
        }
    }

    #[test]
    fn a_result_arrives_only_when_the_loop_completes() {
        let pool = Pool::start(1).unwrap();
        let mut future = pin!(pool.run(RunAs::Server, || 6 * 7));
        thread::sleep(Duration::from_millis(50));
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
        assert_eq!(finish(&pool, future), Ok(42));
    }

    #[test]
    fn a_panic_is_the_callers_error_and_the_thread_lives_on() {
        let pool = Pool::start(1).unwrap();
        let lost = finish(&pool, pool.run(RunAs::Server, || panic!("on purpose")));
        assert_eq!(lost, Err::<(), _>(JobLost));
        assert_eq!(NtStatus::from(JobLost), NtStatus::INTERNAL_ERROR);
        assert_eq!(finish(&pool, pool.run(RunAs::Server, || 1)), Ok(1));
    }

    #[test]
    fn a_job_runs_although_nobody_waits_for_it() {
        let pool = Pool::start(1).unwrap();
        let (ran, seen) = std::sync::mpsc::channel();
        drop(pool.run(RunAs::Server, move || ran.send(()).unwrap()));
        seen.recv_timeout(Duration::from_secs(10)).unwrap();
        pool.complete();
    }

    #[test]
    fn no_wakeup_is_lost_under_load() {
        let pool = Pool::start(4).unwrap();
        let all =
            futures::future::join_all((0..10_000u32).map(|n| pool.run(RunAs::Server, move || n)));
        let sum: u64 = finish(&pool, all)
            .into_iter()
            .map(|n| u64::from(n.unwrap()))
            .sum();
        assert_eq!(sum, 49_995_000);
    }

    #[test]
    fn a_slow_job_does_not_hold_up_another() {
        let pool = Pool::start(2).unwrap();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let slow = pool.run(RunAs::Server, move || wait.recv().is_ok());
        assert_eq!(finish(&pool, pool.run(RunAs::Server, || 2)), Ok(2));
        release.send(()).unwrap();
        assert_eq!(finish(&pool, slow), Ok(true));
    }
}
