//! One epoll instance, level-triggered, and what it reports. Every process of smbd waits on one.
//!
//! Safe code over `rustix`. A token is the caller's name for a descriptor; a descriptor that is
//! closed leaves the set by itself unless a duplicate of it is open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use shm::SystemError;

/// Events taken in one call; more wait for the next.
const BATCH: usize = 64;

/// What to wait for. Errors and hang-ups are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Something to read, or room to write.
    ReadWrite,
    /// Room to write: the writer is behind and reads nothing until it has caught up.
    Write,
    /// Only errors and hang-ups: the reader is behind and wants no more now.
    Nothing,
}

/// A descriptor that has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The name it was added under.
    pub token: u64,
    /// Reading gives bytes, end of file, or the error.
    pub readable: bool,
    /// Writing makes progress, or gives the error.
    pub writable: bool,
    /// The other end is gone, though bytes may be left to read.
    pub hung_up: bool,
}

/// An epoll instance, close-on-exec.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    /// An empty set.
    pub fn new() -> Result<Poll, SystemError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(SystemError::of("create an epoll instance"))?;
        Ok(Poll {
            epoll,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Waits for `descriptor` too, under the name `token`.
    pub fn add(
        &self,
        descriptor: impl AsFd,
        token: u64,
        interest: Interest,
    ) -> Result<(), SystemError> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, descriptor, data, flags(interest))
            .map_err(SystemError::of("wait for a descriptor"))
    }

    /// Changes what is waited for.
    pub fn modify(
        &self,
        descriptor: impl AsFd,
        token: u64,
        interest: Interest,
    ) -> Result<(), SystemError> {
        let data = epoll::EventData::new_u64(token);
        epoll::modify(&self.epoll, descriptor, data, flags(interest))
            .map_err(SystemError::of("change what a descriptor is waited for"))
    }

    /// Waits for `descriptor` no more.
    pub fn remove(&self, descriptor: impl AsFd) -> Result<(), SystemError> {
        epoll::delete(&self.epoll, descriptor)
            .map_err(SystemError::of("stop waiting for a descriptor"))
    }

    /// Clears `ready` and fills it with what is ready, waiting up to `timeout` (`None`: for ever)
    /// for a first event. A signal ends the wait early with nothing ready.
    pub fn wait(
        &mut self,
        ready: &mut Vec<Ready>,
        timeout: Option<Duration>,
    ) -> Result<(), SystemError> {
        ready.clear();
        self.events.clear();
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(SystemError::of("wait for events")(errno)),
        }
        ready.extend(self.events.iter().map(|event| {
            let found = event.flags;
            let hung_up = found.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            Ready {
                token: event.data.u64(),
                readable: hung_up
                    || found.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
                writable: hung_up || found.intersects(epoll::EventFlags::OUT),
                hung_up,
            }
        }));
        Ok(())
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    match interest {
        Interest::Read => epoll::EventFlags::IN,
        Interest::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        Interest::Write => epoll::EventFlags::OUT,
        Interest::Nothing => epoll::EventFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn a_readable_end_is_reported_until_it_is_read_and_a_closed_one_hangs_up() {
        let (left, right) = shm::link::pair().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.add(&left, 7, Interest::Read).unwrap();
        let mut ready = Vec::new();
        poll.wait(&mut ready, NOW).unwrap();
        assert!(ready.is_empty());

        rustix::io::write(&right, b"x").unwrap();
        for _ in 0..2 {
            poll.wait(&mut ready, NOW).unwrap();
            assert!(matches!(
                ready[..],
                [Ready {
                    token: 7,
                    readable: true,
                    hung_up: false,
                    ..
                }]
            ));
        }
        drop(right);
        poll.modify(&left, 8, Interest::Nothing).unwrap();
        poll.wait(&mut ready, NOW).unwrap();
        assert!(matches!(
            ready[..],
            [Ready {
                token: 8,
                hung_up: true,
                ..
            }]
        ));
        poll.remove(&left).unwrap();
        poll.wait(&mut ready, NOW).unwrap();
        assert!(ready.is_empty());
    }
}
