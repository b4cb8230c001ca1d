//! How the two ends of a relay share a processor, where there is one only. Each wakes the other with
//! every datagram; were the one woken to run at once, the waker would never get to put a second
//! record into the next. Where there are several the two run side by side, and nothing is changed:
//! whoever is woken on a busy machine had better be quick.

use std::time::Duration;

use crate::SystemError;

/// How long the process in which work comes together wants to run at a time. Kernels give 0.7 to 3 ms to
/// who does not ask, and at most 100 ms.
const LONG_SLICE: Duration = Duration::from_millis(12);

/// On one processor: makes the calling thread, and those it starts from now on, one that is woken without
/// interrupting whoever runs (SCHED_BATCH of sched(7)): what arrives meanwhile is handled together.
/// An idle processor runs it at once as before, and its share of a busy one stays the same.
pub fn gather_work() -> Result<(), SystemError> {
    match is_on_one_processor() {
        true => schedule(Duration::ZERO),
        false => Ok(()),
    }
}

/// As [`gather_work`], for a process in which the work of many comes together: it also asks for long
/// slices, so that of those who are ready it runs last. Kernels before 6.12 take no notice of that.
pub fn gather_work_of_many() -> Result<(), SystemError> {
    match is_on_one_processor() {
        true => schedule(LONG_SLICE),
        false => Ok(()),
    }
}

/// Whether this process has a single processor to run on.
pub fn is_on_one_processor() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() == 1)
}

fn schedule(slice: Duration) -> Result<(), SystemError> {
    // SAFETY: all zeroes is a valid value of this plain C structure.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    attributes.size = size_of::<libc::sched_attr>() as u32;
    attributes.sched_policy = libc::SCHED_BATCH as u32;
    attributes.sched_runtime = slice.as_nanos() as u64;
    // SAFETY: the kernel reads the structure, which lives through the call, and changes how the
    // calling thread is scheduled.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 {
        return Ok(());
    }
    Err(SystemError {
        operation: "change how this process is scheduled",
        source: std::io::Error::last_os_error(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_it_without_a_privilege() {
        for slice in [Duration::ZERO, LONG_SLICE] {
            let policy = std::thread::spawn(move || {
                schedule(slice).unwrap();
                // SAFETY: asks how the calling thread is scheduled; no memory is involved.
                unsafe { libc::sched_getscheduler(0) }
            });
            assert_eq!(policy.join().unwrap(), libc::SCHED_BATCH);
        }
    }
}
