//! Small reads and writes that need not wait, made on the loop's thread: what lies in the page cache
//! is there sooner than a thread of the pool is awake.
//!
//! RWF_NOWAIT makes the kernel give up where it would wait; then, and for all that is larger, the
//! handlers ask the pool. Reads are the server's, as the open decided; writes are the user's, for
//! the reasons `handlers::file_call` names. Only for files of file systems of this machine: a lock of a network's
//! may be asked for over the network. A file system that has no such calls is remembered.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::smb2::NtStatus;
use rustix::fs::fstatfs;
use rustix::io::Errno;

use super::errno::status_of;
use super::file::File;
use crate::channel::PayloadSlice;
use crate::security::users::Identity;
use crate::sys::file::{self, AtOnce};
use crate::sys::identity::as_file_user;

/// Longer ones would hold up the other requests of the client for longer than a thread's waking.
pub const MAX_LENGTH: u32 = 64 * 1024;

/// Which calls are worth trying with the files of a device.
#[derive(Debug)]
pub struct Attempts {
    reads: AtomicBool,
    writes: AtomicBool,
}

impl Attempts {
    /// All, at first, if an open file is on a file system of this machine.
    pub fn on_device_of(file: BorrowedFd<'_>) -> Option<Attempts> {
        is_local(file).then(|| Attempts {
            reads: true.into(),
            writes: true.into(),
        })
    }
}

/// File systems that keep data, and locks, on this machine (their numbers: statfs(2)).
const LOCAL: [i64; 5] = [
    0xEF53,      // ext4
    0x0102_1994, // tmpfs
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0xF2F5_2010, // F2FS
];

fn is_local(file: BorrowedFd<'_>) -> bool {
    fstatfs(file).is_ok_and(|found| LOCAL.contains(&found.f_type))
}

impl File {
    /// Reads to the end of a buffer; `None` if that may have to wait, or to be tried at all.
    pub fn read_at_once(
        &self,
        buffer: &mut Vec<u8>,
        length: u32,
        offset: u64,
    ) -> Option<Result<(), NtStatus>> {
        self.try_read(length, offset, || {
            file::read_at_once(self.descriptor(), buffer, length, offset)
        })
        .map(|outcome| outcome.map(|_| ()))
    }

    /// Reads into a payload extent, likewise, and says how much.
    pub fn read_payload_at_once(
        &self,
        payload: &PayloadSlice,
        length: u32,
        offset: u64,
    ) -> Option<Result<u32, NtStatus>> {
        self.try_read(length, offset, || {
            file::read_payload_at_once(self.descriptor(), payload, length, offset)
        })
    }

    /// Writes for the user, and says how much was written; the rest is the pool's.
    pub fn write_at_once(
        &self,
        bytes: &[u8],
        offset: u64,
        user: &Identity,
    ) -> Result<u32, NtStatus> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.try_write(length, offset, user, || {
            file::write_at_once(self.descriptor(), bytes, offset)
        })
    }

    /// Writes from a payload extent, likewise.
    pub fn write_payload_at_once(
        &self,
        payload: &PayloadSlice,
        length: u32,
        offset: u64,
        user: &Identity,
    ) -> Result<u32, NtStatus> {
        self.try_write(length, offset, user, || {
            file::write_payload_at_once(self.descriptor(), payload, length, offset)
        })
    }

    fn try_read(
        &self,
        length: u32,
        offset: u64,
        read: impl FnOnce() -> Result<AtOnce, Errno>,
    ) -> Option<Result<u32, NtStatus>> {
        let reads = self.attempts.as_ref().map(|attempts| &attempts.reads)?;
        if length > MAX_LENGTH || !reads.load(Ordering::Relaxed) {
            return None;
        }
        if let Err(conflict) = self.check_locks(false, offset, length.into()) {
            return Some(Err(conflict));
        }
        match read() {
            Ok(AtOnce::Whole(count)) => Some(Ok(count)),
            Ok(AtOnce::Part(_)) => None,
            Err(Errno::OPNOTSUPP) => {
                reads.store(false, Ordering::Relaxed);
                None
            }
            Err(errno) => Some(Err(status_of(errno))),
        }
    }

    fn try_write(
        &self,
        length: u32,
        offset: u64,
        user: &Identity,
        write: impl FnOnce() -> Result<AtOnce, Errno>,
    ) -> Result<u32, NtStatus> {
        let Some(writes) = self.attempts.as_ref().map(|attempts| &attempts.writes) else {
            return Ok(0);
        };
        if length > MAX_LENGTH || !writes.load(Ordering::Relaxed) {
            return Ok(0);
        }
        self.check_locks(true, offset, length.into())?;
        match as_file_user(user, write) {
            Ok(AtOnce::Whole(count) | AtOnce::Part(count)) => Ok(count),
            Err(Errno::OPNOTSUPP) => {
                writes.store(false, Ordering::Relaxed);
                Ok(0)
            }
            Err(errno) => Err(status_of(errno)),
        }
    }
}
