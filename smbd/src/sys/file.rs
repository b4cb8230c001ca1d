//! File calls on open descriptors: payload straight into and out of the child's region by raw
//! iovecs, and private buffers without zeroing them first.
//!
//! Called on pool threads, the calls that do not wait on the loop's. A short transfer goes on until the end of the file, an error or the
//! whole length; EINTR is retried. Offsets and lengths are checked by the handlers.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, IoSlice, ReadWriteFlags, pread, pwritev2};

use crate::channel::PayloadSlice;

/// Reads up to `length` bytes at `offset` to the end of `bytes`; fewer at the end of the file.
pub fn read(
    file: BorrowedFd<'_>,
    mut bytes: Vec<u8>,
    length: u32,
    offset: u64,
) -> Result<Vec<u8>, Errno> {
    bytes
        .try_reserve_exact(length as usize)
        .map_err(|_| Errno::NOMEM)?;
    let mut done = 0;
    while done < length as usize {
        let wanted = length as usize - done;
        let at = offset + done as u64;
        let count = extend(&mut bytes, wanted, |room| {
            retry(|| pread(file, &mut *room, at).map(|(read, _)| read.len()))
        })?;
        if count == 0 {
            break;
        }
        done += count;
    }
    Ok(bytes)
}

/// Reads once, from a socket, at most `wanted` bytes to the end of `bytes`; 0 is the end of it.
pub fn append(socket: BorrowedFd<'_>, bytes: &mut Vec<u8>, wanted: usize) -> Result<usize, Errno> {
    bytes.try_reserve(wanted).map_err(|_| Errno::NOMEM)?;
    extend(bytes, wanted, |room| {
        retry(|| rustix::io::read(socket, &mut *room).map(|(read, _)| read.len()))
    })
}

/// Has `fill` fill the start of at most `wanted` bytes of room behind `bytes`, without zeroing it
/// first: a buffer used again may have more room than may be filled now.
fn extend(
    bytes: &mut Vec<u8>,
    wanted: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let room = bytes.spare_capacity_mut();
    let size = wanted.min(room.len());
    let room = room.get_mut(..size).unwrap_or_default();
    let count = fill(room)?.min(size);
    let length = bytes.len() + count;
    // SAFETY: `length` is within the capacity, since `count` is at most the size of the room
    // behind the bytes, and the kernel has filled the first `count` bytes of it.
    unsafe { bytes.set_len(length) };
    Ok(count)
}

/// Writes all of `bytes` at `offset`; `durable` returns only once they are on disk.
pub fn write(file: BorrowedFd<'_>, bytes: &[u8], offset: u64, durable: bool) -> Result<u32, Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let at = offset + done as u64;
        let count = retry(|| pwritev2(file, &[IoSlice::new(rest)], at, flags(durable)));
        done += some(count?)?;
    }
    Ok(done as u32)
}

/// Reads up to `length` bytes at `offset` into the start of `payload`; fewer at the end of the file.
pub fn read_into_payload(
    file: BorrowedFd<'_>,
    payload: &PayloadSlice,
    length: u32,
    offset: u64,
) -> Result<u32, Errno> {
    transfer(payload, length, |iovec, done| {
        // SAFETY: `transfer` hands out an iovec inside the mapping, which `payload` keeps mapped;
        // the kernel alone writes through it and no reference to that memory exists.
        unsafe {
            libc::preadv(
                file.as_raw_fd(),
                iovec,
                1,
                offset.wrapping_add(done) as libc::off_t,
            )
        }
    })
}

/// What a call that does not wait has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtOnce {
    /// Everything: for a read, that much up to the length or the end of the file.
    Whole(u32),
    /// So much of it, which may be nothing; the rest needs a call that may wait.
    Part(u32),
}

impl AtOnce {
    /// How much that is.
    pub fn count(self) -> u32 {
        match self {
            AtOnce::Whole(count) | AtOnce::Part(count) => count,
        }
    }
}

/// As [`read`], as far as it need not wait, which `flags` tells the kernel. OPNOTSUPP where the file
/// system knows none of them.
pub fn read_at_once(
    file: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    length: u32,
    offset: u64,
    flags: ReadWriteFlags,
) -> Result<AtOnce, Errno> {
    bytes
        .try_reserve_exact(length as usize)
        .map_err(|_| Errno::NOMEM)?;
    at_once(length, |done, left| {
        extend(bytes, left as usize, |room| {
            let iovec = libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            };
            // SAFETY: the iovec is `room`, which is this call's alone to write to.
            unsafe { read_once(file, iovec, offset.wrapping_add(done.into()), flags) }
        })
    })
}

/// As [`read_into_payload`], likewise.
pub fn read_payload_at_once(
    file: BorrowedFd<'_>,
    payload: &PayloadSlice,
    length: u32,
    offset: u64,
    flags: ReadWriteFlags,
) -> Result<AtOnce, Errno> {
    at_once(length, |done, left| {
        let iovec = part_of(payload, done, left)?;
        // SAFETY: as in `read_into_payload`.
        unsafe { read_once(file, iovec, offset.wrapping_add(done.into()), flags) }
    })
}

/// As [`write`], not durable, likewise.
pub fn write_at_once(
    file: BorrowedFd<'_>,
    bytes: &[u8],
    offset: u64,
    flags: ReadWriteFlags,
) -> Result<AtOnce, Errno> {
    at_once(bytes.len() as u32, |done, _| {
        let rest = bytes.get(done as usize..).unwrap_or_default();
        let at = offset + u64::from(done);
        retry(|| pwritev2(file, &[IoSlice::new(rest)], at, flags))
    })
}

/// As [`write_from_payload`], likewise.
pub fn write_payload_at_once(
    file: BorrowedFd<'_>,
    payload: &PayloadSlice,
    length: u32,
    offset: u64,
    flags: ReadWriteFlags,
) -> Result<AtOnce, Errno> {
    at_once(length, |done, left| {
        let iovec = part_of(payload, done, left)?;
        retry(|| {
            let (descriptor, at) = (file.as_raw_fd(), offset.wrapping_add(done.into()));
            let (at, flags) = (at as libc::off_t, flags.bits() as libc::c_int);
            // SAFETY: as in `write_from_payload`.
            counted(unsafe {
                match flags {
                    // The kernel has no list to copy first.
                    0 => libc::pwrite(descriptor, iovec.iov_base, iovec.iov_len, at),
                    _ => libc::pwritev2(descriptor, &raw const iovec, 1, at, flags),
                }
            })
        })
    })
}

/// Repeats `call(done, left)` until all is done, the end of the file, or it would wait.
fn at_once(
    length: u32,
    mut call: impl FnMut(u32, u32) -> Result<usize, Errno>,
) -> Result<AtOnce, Errno> {
    let mut done = 0;
    while done < length {
        match call(done, length - done) {
            Ok(0) => break,
            Ok(count) => done += count as u32,
            Err(Errno::AGAIN) => return Ok(AtOnce::Part(done)),
            // The call that may wait meets the error again, if it is one.
            Err(_) if done > 0 => return Ok(AtOnce::Part(done)),
            Err(errno) => return Err(errno),
        }
    }
    Ok(AtOnce::Whole(done))
}

/// # Safety
/// The iovec's memory is valid, and for the kernel to write to during the call.
unsafe fn read_once(
    file: BorrowedFd<'_>,
    iovec: libc::iovec,
    offset: u64,
    flags: ReadWriteFlags,
) -> Result<usize, Errno> {
    retry(|| {
        let (descriptor, at) = (file.as_raw_fd(), offset as libc::off_t);
        let flags = flags.bits() as libc::c_int;
        // SAFETY: the caller answers for the iovec.
        counted(unsafe {
            match flags {
                // The kernel has no list to copy first.
                0 => libc::pread(descriptor, iovec.iov_base, iovec.iov_len, at),
                _ => libc::preadv2(descriptor, &raw const iovec, 1, at, flags),
            }
        })
    })
}

fn part_of(payload: &PayloadSlice, done: u32, left: u32) -> Result<libc::iovec, Errno> {
    if done
        .checked_add(left)
        .is_none_or(|end| end > payload.length())
    {
        return Err(Errno::INVAL);
    }
    let address = payload.address().map_err(|_| Errno::FAULT)?;
    Ok(libc::iovec {
        iov_base: address.wrapping_add(done as usize).cast(),
        iov_len: left as usize,
    })
}

/// Writes `length` bytes from the start of `payload` at `offset`, as [`write`] does.
pub fn write_from_payload(
    file: BorrowedFd<'_>,
    payload: &PayloadSlice,
    length: u32,
    offset: u64,
    durable: bool,
) -> Result<u32, Errno> {
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    let written = transfer(payload, length, |iovec, done| {
        // SAFETY: as in `read_into_payload`; the kernel reads bytes that others may change
        // meanwhile, which changes what is written and nothing else.
        unsafe {
            libc::pwritev2(
                file.as_raw_fd(),
                iovec,
                1,
                offset.wrapping_add(done) as libc::off_t,
                flags,
            )
        }
    })?;
    some((written == length) as usize)?;
    Ok(written)
}

/// Repeats `call` over the rest of the range until it is through.
fn transfer(
    payload: &PayloadSlice,
    length: u32,
    call: impl Fn(*const libc::iovec, u64) -> libc::ssize_t,
) -> Result<u32, Errno> {
    let mut done = 0u32;
    while done < length {
        let iovec = part_of(payload, done, length - done)?;
        let count = retry(|| counted(call(&raw const iovec, u64::from(done))));
        match count? {
            0 => break,
            count => done += count as u32,
        }
    }
    Ok(done)
}

/// A write that takes nothing and gives no reason has found no room. Part of a write is never
/// acknowledged: the client hears of the error, and what was written stays.
fn some(count: usize) -> Result<usize, Errno> {
    match count {
        0 => Err(Errno::NOSPC),
        count => Ok(count),
    }
}

fn flags(durable: bool) -> ReadWriteFlags {
    if durable {
        ReadWriteFlags::DSYNC
    } else {
        ReadWriteFlags::empty()
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

/// What a system call returned: a count, or -1 and errno.
fn counted(result: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| last_errno())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_ends_at_the_end_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        assert_eq!(write(file.as_fd(), &bytes, 10, true), Ok(100_000));
        assert_eq!(read(file.as_fd(), Vec::new(), 100_000, 10).unwrap(), bytes);
        assert_eq!(read(file.as_fd(), Vec::new(), 200_000, 10).unwrap(), bytes);
        assert_eq!(
            read(file.as_fd(), Vec::new(), 5, 8).unwrap(),
            [0, 0, 0, 1, 2]
        );
        assert!(
            read(file.as_fd(), Vec::new(), 5, 100_010)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_is_in_memory_is_read_and_written_without_a_wait() {
        let file = tempfile::tempfile().unwrap();
        write(file.as_fd(), &[5; 5000], 0, false).unwrap();
        let mut bytes = Vec::new();
        match read_at_once(file.as_fd(), &mut bytes, 8000, 1000, ReadWriteFlags::NOWAIT) {
            Ok(AtOnce::Whole(count)) => assert_eq!((count, bytes), (4000, vec![5; 4000])),
            Err(Errno::OPNOTSUPP) => eprintln!("skipped: this file system can't read so"),
            other => panic!("{other:?}"),
        }
        match write_at_once(file.as_fd(), &[6; 3000], 4000, ReadWriteFlags::NOWAIT) {
            Ok(AtOnce::Whole(3000)) => {
                assert_eq!(
                    read(file.as_fd(), Vec::new(), 9999, 4000).unwrap(),
                    [6; 3000]
                );
            }
            Ok(AtOnce::Part(0)) | Err(Errno::OPNOTSUPP) => {
                eprintln!("skipped: this file system can't write so");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_descriptor_without_the_right_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(directory.path().join("f")).unwrap();
        assert_eq!(read(file.as_fd(), Vec::new(), 1, 0), Err(Errno::BADF));
    }
}
