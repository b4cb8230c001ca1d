//! A wakeup: one eventfd that another thread or process signals and an epoll loop waits for.
//! Signals are counted together: any number of them between two `clear` calls wakes once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::SystemError;

/// An eventfd, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Wakeup {
    descriptor: OwnedFd,
}

impl Wakeup {
    /// A wakeup nobody has signalled yet.
    pub fn new() -> Result<Wakeup, SystemError> {
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(SystemError::of("create an eventfd"))?;
        Ok(Wakeup { descriptor })
    }

    /// Wakes the waiter. A full counter already means "woken", so nothing can fail.
    pub fn signal(&self) {
        let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
    }

    /// Forgets the signals so far; true if there were any.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        !matches!(
            rustix::io::read(&self.descriptor, &mut count),
            Err(Errno::AGAIN)
        )
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_signals_wake_once() {
        let wakeup = Wakeup::new().unwrap();
        assert!(!wakeup.clear());
        wakeup.signal();
        wakeup.signal();
        assert!(wakeup.clear());
        assert!(!wakeup.clear());
    }
}
