//! Small reads and writes that need not wait, made on the loop's thread: what lies in memory is
//! there sooner than a thread of the pool is awake.
//!
//! Handlers queue them ([`Transfers`]); the loop makes all of a pass together, so that looking for
//! locks and becoming the user costs once and not for each. RWF_NOWAIT makes the kernel give up
//! where it would wait, and a file system in memory waits for nothing anyway; then, and for all
//! that is larger, the handlers ask the pool. On a machine of two processors, which client and server
//! share with everything else, long writes are made here too: a thread of the pool would make none of
//! them sooner, would find their bytes in the other processor's cache, and two of them would wait for
//! one file's lock. Reads are the server's, as the open decided; writes
//! are the user's, for the reasons `handlers::file_call` names. Only for files of file systems of
//! this machine: a lock of a network's may be asked for over the network.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::channel::oneshot;
use proto::smb2::NtStatus;
use rustix::fs::fstatfs;
use rustix::io::{Errno, ReadWriteFlags};

use super::errno::status_of;
use super::file::File;
use crate::channel::{MessagePart, PayloadSlice};
use crate::security::users::Identity;
use crate::sys::file::{self, AtOnce};
use crate::sys::identity::FileUser;

/// Longer ones would hold up the other requests of the client for longer than a thread's waking.
pub const MAX_LENGTH: u32 = 64 * 1024;
/// Longest write made here where that is no loss.
const MAX_LONG_WRITE: u32 = 1 << 20;
/// So much is moved in one pass; what is left waits until replies have left and events were heard.
const BYTES_A_PASS: u64 = 1 << 20;

/// Which calls are worth trying with the files of a device.
#[derive(Debug)]
pub struct Attempts {
    /// What makes a call return instead of waiting.
    flags: ReadWriteFlags,
    reads: AtomicBool,
    writes: AtomicBool,
}

impl Attempts {
    /// All, at first, if an open file is on a file system of this machine.
    pub fn on_device_of(file: BorrowedFd<'_>) -> Option<Attempts> {
        let kind = fstatfs(file).ok()?.f_type;
        let flags = if IN_MEMORY.contains(&kind) {
            ReadWriteFlags::empty()
        } else if ON_DISK.contains(&kind) {
            ReadWriteFlags::NOWAIT
        } else {
            return None;
        };
        Some(Attempts {
            flags,
            reads: true.into(),
            writes: true.into(),
        })
    }
}

/// File systems that keep data, and locks, on a disk of this machine (their numbers: statfs(2)).
const ON_DISK: [i64; 4] = [
    0xEF53,      // ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0xF2F5_2010, // F2FS
];

/// File systems without a disk. They refuse RWF_NOWAIT although they have nothing to wait for.
const IN_MEMORY: [i64; 2] = [
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
];

/// The transfers that wait for the end of the loop's pass.
#[derive(Debug)]
pub struct Transfers {
    waiting: RefCell<VecDeque<Transfer>>,
    max_write: u32,
}

#[derive(Debug)]
struct Transfer {
    file: Arc<File>,
    offset: u64,
    bytes: Bytes,
    done: oneshot::Sender<Done>,
}

/// Where the bytes of a transfer go or come from, and for whom they are written.
#[derive(Debug)]
enum Bytes {
    Read(Vec<u8>, u32),
    ReadPayload(PayloadSlice, u32),
    Write(MessagePart, Arc<Identity>),
    WritePrivate(Vec<u8>, Arc<Identity>),
    WritePayload(PayloadSlice, u32, Arc<Identity>),
}

/// What became of a transfer, and the bytes that were read into private memory or written from it.
#[derive(Debug)]
struct Done {
    outcome: Result<AtOnce, NtStatus>,
    bytes: Vec<u8>,
}

impl Transfers {
    /// For a machine of so many processors.
    pub fn on(processors: usize) -> Transfers {
        Transfers {
            waiting: RefCell::default(),
            max_write: match processors {
                0..=2 => MAX_LONG_WRITE,
                _ => MAX_LENGTH,
            },
        }
    }

    /// Reads to the end of a buffer, which comes back; `None` beside it if that may have to wait, or
    /// is not to be tried at all: then it may hold part of what was to be read.
    pub async fn read(
        &self,
        file: &Arc<File>,
        buffer: Vec<u8>,
        length: u32,
        offset: u64,
    ) -> (Vec<u8>, Option<Result<u32, NtStatus>>) {
        match self.queue(file, offset, Bytes::Read(buffer, length)).await {
            Ok(done) => (done.bytes, whole(done.outcome)),
            Err(Bytes::Read(buffer, _)) => (buffer, None),
            Err(_) => (Vec::new(), Some(Err(NtStatus::INTERNAL_ERROR))),
        }
    }

    /// Reads into a payload extent, likewise, and says how much.
    pub async fn read_payload(
        &self,
        file: &Arc<File>,
        payload: &PayloadSlice,
        length: u32,
        offset: u64,
    ) -> Option<Result<u32, NtStatus>> {
        let bytes = Bytes::ReadPayload(payload.clone(), length);
        whole(self.queue(file, offset, bytes).await.ok()?.outcome)
    }

    /// Writes for the user, and says how much was written; the rest is the pool's.
    pub async fn write(
        &self,
        file: &Arc<File>,
        bytes: MessagePart,
        offset: u64,
        user: &Arc<Identity>,
    ) -> Result<u32, NtStatus> {
        let bytes = Bytes::Write(bytes, Arc::clone(user));
        match self.queue(file, offset, bytes).await {
            Ok(done) => done.outcome.map(AtOnce::count),
            Err(_) => Ok(0),
        }
    }

    /// Writes from private memory, likewise, and gives it back.
    pub async fn write_private(
        &self,
        file: &Arc<File>,
        bytes: Vec<u8>,
        offset: u64,
        user: &Arc<Identity>,
    ) -> Result<(u32, Vec<u8>), NtStatus> {
        let bytes = Bytes::WritePrivate(bytes, Arc::clone(user));
        match self.queue(file, offset, bytes).await {
            Ok(done) => Ok((done.outcome?.count(), done.bytes)),
            Err(Bytes::WritePrivate(bytes, _)) => Ok((0, bytes)),
            Err(_) => Err(NtStatus::INTERNAL_ERROR),
        }
    }

    /// Writes from a payload extent, likewise.
    pub async fn write_payload(
        &self,
        file: &Arc<File>,
        payload: &PayloadSlice,
        length: u32,
        offset: u64,
        user: &Arc<Identity>,
    ) -> Result<u32, NtStatus> {
        let bytes = Bytes::WritePayload(payload.clone(), length, Arc::clone(user));
        match self.queue(file, offset, bytes).await {
            Ok(done) => done.outcome.map(AtOnce::count),
            Err(_) => Ok(0),
        }
    }

    /// Gives the bytes back if it is not worth trying.
    async fn queue(&self, file: &Arc<File>, offset: u64, bytes: Bytes) -> Result<Done, Bytes> {
        let limit = match bytes.is_write() {
            true => self.max_write,
            false => MAX_LENGTH,
        };
        if bytes.length() > limit || !file.is_worth_trying(bytes.is_write()) {
            return Err(bytes);
        }
        let (done, outcome) = oneshot::channel();
        self.waiting.borrow_mut().push_back(Transfer {
            file: Arc::clone(file),
            offset,
            bytes,
            done,
        });
        Ok(outcome.await.unwrap_or(Done {
            outcome: Err(NtStatus::INTERNAL_ERROR),
            bytes: Vec::new(),
        }))
    }

    /// Whether there is something to do for [`Transfers::run`].
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Makes the transfers that wait, as far as one pass goes. Called by the loop alone.
    pub fn run(&self) {
        let pass = self.next_pass();
        let locks = Locks::of(&pass);
        let mut user = FileUser::server();
        for mut transfer in pass {
            let checked = locks.check(&transfer);
            let outcome = checked.and_then(|()| transfer.make(&mut user));
            let bytes = match transfer.bytes {
                Bytes::Read(bytes, _) | Bytes::WritePrivate(bytes, _) => bytes,
                _ => Vec::new(),
            };
            // A request that nobody waits for wants no answer.
            let _ = transfer.done.send(Done { outcome, bytes });
        }
    }

    fn next_pass(&self) -> Vec<Transfer> {
        let mut waiting = self.waiting.borrow_mut();
        let mut sum = 0;
        let count = waiting
            .iter()
            .take_while(|transfer| {
                let before = sum;
                sum += u64::from(transfer.bytes.length());
                before < BYTES_A_PASS
            })
            .count();
        waiting.drain(..count).collect()
    }
}

impl Bytes {
    fn length(&self) -> u32 {
        match self {
            Bytes::Read(_, length)
            | Bytes::ReadPayload(_, length)
            | Bytes::WritePayload(_, length, _) => *length,
            Bytes::Write(bytes, _) => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            Bytes::WritePrivate(bytes, _) => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        }
    }

    fn is_write(&self) -> bool {
        !matches!(self, Bytes::Read(..) | Bytes::ReadPayload(..))
    }
}

impl Transfer {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.length().into())
    }

    fn make(&mut self, user: &mut FileUser) -> Result<AtOnce, NtStatus> {
        let Some(attempts) = &self.file.attempts else {
            return Ok(AtOnce::Part(0));
        };
        let (flags, offset, file) = (attempts.flags, self.offset, self.file.descriptor());
        let made = match &mut self.bytes {
            Bytes::Read(bytes, length) => file::read_at_once(file, bytes, *length, offset, flags),
            Bytes::ReadPayload(payload, length) => {
                file::read_payload_at_once(file, payload, *length, offset, flags)
            }
            Bytes::Write(bytes, identity) => {
                user.switch_to(identity);
                file::write_at_once(file, bytes, offset, flags)
            }
            Bytes::WritePrivate(bytes, identity) => {
                user.switch_to(identity);
                file::write_at_once(file, bytes, offset, flags)
            }
            Bytes::WritePayload(payload, length, identity) => {
                user.switch_to(identity);
                file::write_payload_at_once(file, payload, *length, offset, flags)
            }
        };
        match made {
            Err(Errno::OPNOTSUPP) => {
                attempts
                    .of(self.bytes.is_write())
                    .store(false, Ordering::Relaxed);
                Ok(AtOnce::Part(0))
            }
            other => other.map_err(status_of),
        }
    }
}

impl Attempts {
    fn of(&self, writing: bool) -> &AtomicBool {
        match writing {
            true => &self.writes,
            false => &self.reads,
        }
    }
}

impl File {
    fn is_worth_trying(&self, writing: bool) -> bool {
        self.attempts
            .as_ref()
            .is_some_and(|attempts| attempts.of(writing).load(Ordering::Relaxed))
    }
}

/// What one look for others' locks told of all transfers of a pass that concern the same file.
struct Locks(Vec<Look>);

struct Look {
    /// Compared, never followed.
    file: *const File,
    writing: bool,
    offset: u64,
    end: u64,
    transfers: u32,
    is_free: bool,
}

impl Locks {
    fn of(pass: &[Transfer]) -> Locks {
        let mut looks: Vec<Look> = Vec::new();
        for transfer in pass {
            let (file, writing) = (Arc::as_ptr(&transfer.file), transfer.bytes.is_write());
            let same = |look: &&mut Look| look.file == file && look.writing == writing;
            match looks.iter_mut().find(same) {
                Some(look) => {
                    look.offset = look.offset.min(transfer.offset);
                    look.end = look.end.max(transfer.end());
                    look.transfers += 1;
                }
                None => looks.push(Look {
                    file,
                    writing,
                    offset: transfer.offset,
                    end: transfer.end(),
                    transfers: 1,
                    is_free: false,
                }),
            }
        }
        for look in looks.iter_mut().filter(|look| look.transfers > 1) {
            let found = pass
                .iter()
                .find(|transfer| Arc::as_ptr(&transfer.file) == look.file);
            look.is_free = found.is_some_and(|transfer| {
                let length = look.end - look.offset;
                let checked = transfer.file.check_locks(look.writing, look.offset, length);
                checked.is_ok()
            });
        }
        Locks(looks)
    }

    fn check(&self, transfer: &Transfer) -> Result<(), NtStatus> {
        let (file, writing) = (Arc::as_ptr(&transfer.file), transfer.bytes.is_write());
        let is_free = self
            .0
            .iter()
            .any(|look| look.file == file && look.writing == writing && look.is_free);
        if is_free {
            return Ok(());
        }
        let length = transfer.bytes.length().into();
        transfer.file.check_locks(writing, transfer.offset, length)
    }
}

/// A read that was made in part is made again by the pool.
fn whole(outcome: Result<AtOnce, NtStatus>) -> Option<Result<u32, NtStatus>> {
    match outcome {
        Ok(AtOnce::Whole(count)) => Some(Ok(count)),
        Ok(AtOnce::Part(_)) => None,
        Err(status) => Some(Err(status)),
    }
}

#[cfg(test)]
mod tests;
