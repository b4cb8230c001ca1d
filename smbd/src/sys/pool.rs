//! The pool: threads for calls that may block, each job under the identity of its session.
//!
//! Only the child's loop submits and completes. A job switches its thread *to* its identity if the
//! thread has another one ([`super::identity`]); nothing is switched back. Its result travels back
//! through a queue and an eventfd, and the loop's thread alone resolves the future. A thread is
//! started by the first job that finds none idle, and ends when it has had none for a while: an idle
//! client has none. The queue has no bound of its own: each request submits one job at a time, and
//! credits bound requests.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

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

/// A bounded number of threads and one queue.
pub struct Pool {
    shared: Arc<Shared>,
    max_threads: usize,
}

/// What the threads and the loop share. No lock is held while a job or a completion runs, and
/// never both at once.
struct Shared {
    jobs: Mutex<Jobs>,
    /// Signalled for each job that an idle thread shall take, and when the pool is dropped.
    job_queued: Condvar,
    completed: Mutex<Vec<Completion>>,
    /// Written when the first completion of a batch is queued.
    wakeup: Wakeup,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job, those among them that are being woken for one included.
    idle: usize,
    closed: bool,
    /// Of the threads, and of those that have ended since the last [`Pool::join_ended`].
    handles: Vec<JoinHandle<()>>,
}

struct Job {
    run_as: RunAs,
    /// Runs the call; what it gives back resolves the future and is run by the loop's thread.
    run: Box<dyn FnOnce() -> Completion + Send>,
}

type Completion = Box<dyn FnOnce() + Send>;

impl Pool {
    /// A pool with the threads that keep one client's disk busy on a machine of so many processors:
    /// two or four.
    pub fn on(processors: usize) -> Result<Pool, SystemError> {
        Pool::start((processors * 2).min(4))
    }

    /// A pool of at most `threads` threads, none of them started yet.
    pub fn start(threads: usize) -> Result<Pool, SystemError> {
        Ok(Pool {
            shared: Arc::new(Shared {
                jobs: Mutex::default(),
                job_queued: Condvar::new(),
                completed: Mutex::default(),
                wakeup: Wakeup::new()?,
            }),
            max_threads: threads.max(1),
        })
    }

    /// Readable when jobs have ended: the loop then calls [`Pool::complete`].
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.wakeup.as_fd()
    }

    /// Resolves the futures of ended jobs. The eventfd is cleared first: who queues the first
    /// completion of the next batch signals it again.
    pub fn complete(&self) {
        self.shared.wakeup.clear();
        let completed = std::mem::take(&mut *locked(&self.shared.completed));
        for completion in completed {
            completion();
        }
    }

    /// Gives back what is left of threads that have ended.
    pub fn join_ended(&self) {
        locked(&self.shared.jobs).join_ended();
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
        self.submit(Job { run_as, run });
        async move { result.await.unwrap_or(Err(JobLost)) }
    }

    fn submit(&self, job: Job) {
        let mut jobs = locked(&self.shared.jobs);
        jobs.queue.push_back(job);
        if jobs.queue.len() <= jobs.idle {
            drop(jobs);
            self.shared.job_queued.notify_one();
            return;
        }
        if jobs.threads == self.max_threads {
            return;
        }
        jobs.join_ended();
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name(format!("file-{}", jobs.threads))
            .stack_size(STACK_SIZE)
            .spawn(move || work(&shared));
        match started {
            Ok(handle) => {
                jobs.threads += 1;
                jobs.handles.push(handle);
            }
            Err(error) => {
                tracing::error!(%error, "can't start a pool thread; raise the limit of processes");
                if jobs.threads == 0 {
                    // Nobody will run them: their futures read as lost jobs.
                    jobs.queue.clear();
                }
            }
        }
    }
}

/// A thread that gets no job for this long ends. Less than the time after which an idle loop gives
/// memory back, what the thread had included.
const ENDS_AFTER: Duration = Duration::from_millis(500);

/// File calls recurse nowhere; the largest buffer on a stack is that of a directory's entries.
const STACK_SIZE: usize = 512 * 1024;

impl Drop for Pool {
    fn drop(&mut self) {
        locked(&self.shared.jobs).closed = true;
        self.shared.job_queued.notify_all();
    }
}

impl Shared {
    /// The next job; waits for one. `None` when none came for a while, or the pool is dropped and
    /// none is left: the thread is not counted any more then.
    fn next_job(&self) -> Option<Job> {
        let mut jobs = locked(&self.jobs);
        let mut waited_long = false;
        loop {
            if let Some(job) = jobs.queue.pop_front() {
                return Some(job);
            }
            if jobs.closed || waited_long {
                jobs.threads -= 1;
                return None;
            }
            jobs.idle += 1;
            let (woken, waited) = self
                .job_queued
                .wait_timeout(jobs, ENDS_AFTER)
                .unwrap_or_else(PoisonError::into_inner);
            jobs = woken;
            jobs.idle -= 1;
            waited_long = waited.timed_out();
        }
    }

    fn finished(&self, completion: Completion) {
        let mut completed = locked(&self.completed);
        completed.push(completion);
        if completed.len() == 1 {
            drop(completed);
            self.wakeup.signal();
        }
    }
}

impl Jobs {
    /// Takes what is left of threads that have ended: their stacks.
    fn join_ended(&mut self) {
        let ended = self.handles.extract_if(.., |handle| handle.is_finished());
        for handle in ended {
            // It waits for a few instructions only. Jobs' panics are caught, so there is no other.
            let _ = handle.join();
        }
    }
}

/// No lock is held where anything can panic, so a poisoned one is as it should be.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread's life: until it has had nothing to do for a while, or the pool is dropped.
fn work(shared: &Shared) {
    identity::clear_file_mode_mask();
    let mut identity = ThreadIdentity::unchanged();
    while let Some(job) = shared.next_job() {
        identity.switch_to(&job.run_as);
        shared.finished((job.run)());
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
    fn threads_are_started_by_jobs_that_find_none_idle() {
        let pool = Pool::start(4).unwrap();
        let started = || locked(&pool.shared.jobs).threads;
        assert_eq!(started(), 0);
        for _ in 0..3 {
            assert_eq!(finish(&pool, pool.run(RunAs::Server, || 1)), Ok(1));
            // The thread is idle again only a moment after its job's result is there.
            while locked(&pool.shared.jobs).idle == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(started(), 1);
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let slow = pool.run(RunAs::Server, move || wait.recv().is_ok());
        assert_eq!(finish(&pool, pool.run(RunAs::Server, || 2)), Ok(2));
        assert_eq!(started(), 2);
        release.send(()).unwrap();
        assert_eq!(finish(&pool, slow), Ok(true));
    }

    #[test]
    fn threads_without_a_job_end_and_the_next_job_starts_one() {
        let pool = Pool::start(2).unwrap();
        let started = || locked(&pool.shared.jobs).threads;
        for _ in 0..2 {
            assert_eq!(finish(&pool, pool.run(RunAs::Server, || 1)), Ok(1));
            assert_eq!(started(), 1);
            let deadline = std::time::Instant::now() + Duration::from_secs(30);
            while started() > 0 {
                assert!(std::time::Instant::now() < deadline, "a thread lives on");
                thread::sleep(ENDS_AFTER / 10);
            }
        }
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
