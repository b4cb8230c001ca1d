//! LOCK (MS-SMB2 3.3.5.14): byte ranges, against every other open of the file on this machine.
//!
//! The kernel keeps them (open file description locks), so that they hold between children and end
//! with them. It merges and splits ranges where the protocol counts each lock; what this open
//! has locked is therefore listed here, too.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use proto::smb2::lock::{LockElement, LockFlags, LockRequest, LockResponse};
use proto::smb2::{AccessMask, NtStatus};

use super::{Context, Response, malformed};
use crate::state::{DiskOpen, HeldLock, Open};
use crate::vfs::Lock;

/// How often a lock that has to wait is tried again: the kernel tells nobody when it is free.
const RETRY: Duration = Duration::from_millis(100);
/// Locks one open may hold.
const MAX_LOCKS: usize = 4096;
/// Locks of one request (MS-SMB2 2.2.26 bounds them by a 16-bit count).
const MAX_ELEMENTS: usize = 1024;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = LockRequest::decode(request).map_err(malformed)?;
    let elements: Vec<LockElement> = request.locks().collect();
    let open = cx.open(request.file_id)?;
    let disk = open.disk()?;
    if disk.file.is_directory() {
        return Err(NtStatus::INVALID_DEVICE_REQUEST);
    }
    disk.require_any(AccessMask::READ_DATA | AccessMask::WRITE_DATA | AccessMask::EXECUTE)?;
    let first = elements.first().ok_or(NtStatus::INVALID_PARAMETER)?;
    if elements.len() > MAX_ELEMENTS {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if first.flags == LockFlags::UNLOCK {
        for element in &elements {
            if element.flags != LockFlags::UNLOCK {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            check_range(element)?;
            unlock(disk, element, cx).await?;
        }
    } else if cx.session()?.has_expired() {
        // LOCK goes on in such a session (MS-SMB2 3.3.5.2.9) to give back what it has, not to take more.
        return Err(NtStatus::NETWORK_SESSION_EXPIRED);
    } else {
        lock_all(&open, &elements, cx).await?;
    }
    let mut body = Vec::new();
    LockResponse.encode(&mut body);
    Ok(Response::of(body))
}

/// MS-SMB2 3.3.5.14.2: all of them, or none.
async fn lock_all(open: &Open, elements: &[LockElement], cx: &Context) -> Result<(), NtStatus> {
    let disk = open.disk()?;
    let mut wanted = Vec::new();
    for element in elements {
        let lock = wanted_lock(element)?;
        let waits = !element.flags.contains(LockFlags::FAIL_IMMEDIATELY);
        if waits && elements.len() > 1 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        wanted.push((lock, waits));
    }
    for (index, (lock, waits)) in wanted.iter().enumerate() {
        if let Err(status) = lock_one(open, lock, *waits, cx).await {
            for (taken, _) in wanted.iter().take(index).rev() {
                let _ = release(disk, taken, cx).await;
            }
            return Err(status);
        }
    }
    Ok(())
}

async fn lock_one(
    open: &Open,
    wanted: &HeldLock,
    waits: bool,
    cx: &Context,
) -> Result<(), NtStatus> {
    let disk = open.disk()?;
    loop {
        match try_lock(disk, wanted, cx).await {
            Err(NtStatus::LOCK_NOT_GRANTED) if waits => {}
            outcome => return outcome,
        }
        cx.progress.will_wait();
        let pause = cx.child.timers.sleep(RETRY);
        let ended = std::pin::pin!(select(
            Box::pin(cx.progress.cancelled()),
            Box::pin(open.closed.cancelled()),
        ));
        match select(ended, std::pin::pin!(pause)).await {
            Either::Left((Either::Left(_), _)) => return Err(NtStatus::CANCELLED),
            Either::Left((Either::Right(_), _)) => return Err(NtStatus::RANGE_NOT_LOCKED),
            Either::Right(_) => {}
        }
    }
}

async fn try_lock(disk: &DiskOpen, wanted: &HeldLock, cx: &Context) -> Result<(), NtStatus> {
    {
        let held = disk.locks.borrow();
        if held.len() >= MAX_LOCKS {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        // An open's own locks hold off its exclusive ones, too; shared ones it may stack upon any
        // (MS-FSA 2.1.5.8).
        let mut own = held.iter().filter(|lock| lock.overlaps(wanted));
        if wanted.exclusive && own.next().is_some() {
            return Err(NtStatus::LOCK_NOT_GRANTED);
        }
        if own.any(|lock| lock.exclusive && lock.covers(wanted)) {
            // The kernel keeps one kind a byte, and has the stronger one.
            drop(held);
            disk.locks.borrow_mut().push(*wanted);
            return Ok(());
        }
    }
    let kind = if wanted.exclusive {
        Lock::Exclusive
    } else {
        Lock::Shared
    };
    set(disk, kind, wanted, cx).await?;
    disk.locks.borrow_mut().push(*wanted);
    if !wanted.exclusive {
        // Where it reaches into an exclusive one of this open, that one holds.
        let exclusive: Vec<HeldLock> = disk
            .locks
            .borrow()
            .iter()
            .filter(|lock| lock.exclusive && lock.overlaps(wanted))
            .copied()
            .collect();
        for lock in &exclusive {
            set(disk, Lock::Exclusive, lock, cx).await?;
        }
    }
    Ok(())
}

/// MS-SMB2 3.3.5.14.1: a lock is taken back by exactly the range it was made with.
async fn unlock(disk: &DiskOpen, element: &LockElement, cx: &Context) -> Result<(), NtStatus> {
    let found = disk
        .locks
        .borrow()
        .iter()
        .find(|lock| lock.offset == element.offset && lock.length == element.length)
        .copied();
    release(disk, &found.ok_or(NtStatus::RANGE_NOT_LOCKED)?, cx).await
}

async fn release(disk: &DiskOpen, lock: &HeldLock, cx: &Context) -> Result<(), NtStatus> {
    {
        let mut held = disk.locks.borrow_mut();
        let position = held.iter().position(|other| other == lock);
        held.remove(position.ok_or(NtStatus::RANGE_NOT_LOCKED)?);
    }
    set(disk, Lock::Unlock, lock, cx).await?;
    // The kernel has unlocked what other locks of this open still cover.
    let still_held: Vec<HeldLock> = disk
        .locks
        .borrow()
        .iter()
        .filter(|other| other.overlaps(lock))
        .copied()
        .collect();
    let (exclusive, shared): (Vec<_>, Vec<_>) =
        still_held.into_iter().partition(|other| other.exclusive);
    for other in &shared {
        set(disk, Lock::Shared, other, cx).await?;
    }
    for other in &exclusive {
        set(disk, Lock::Exclusive, other, cx).await?;
    }
    Ok(())
}

async fn set(disk: &DiskOpen, kind: Lock, range: &HeldLock, cx: &Context) -> Result<(), NtStatus> {
    let (file, offset, length) = (Arc::clone(&disk.file), range.offset, range.length);
    if length == 0 {
        // Locks no byte, and conflicts with nothing.
        return Ok(());
    }
    cx.as_user(move || file.lock(kind, offset, length)).await
}

fn wanted_lock(element: &LockElement) -> Result<HeldLock, NtStatus> {
    check_range(element)?;
    let exclusive = match element.flags - LockFlags::FAIL_IMMEDIATELY {
        LockFlags::SHARED => false,
        LockFlags::EXCLUSIVE => true,
        _ => return Err(NtStatus::INVALID_PARAMETER),
    };
    Ok(HeldLock {
        offset: element.offset,
        length: element.length,
        exclusive,
    })
}

/// MS-FSA 2.1.5.8: the last byte has a number, too.
fn check_range(element: &LockElement) -> Result<(), NtStatus> {
    match element.offset.checked_add(element.length.saturating_sub(1)) {
        Some(_) => Ok(()),
        None => Err(NtStatus::INVALID_LOCK_RANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(offset: u64, length: u64, flags: u32) -> LockElement {
        LockElement {
            offset,
            length,
            flags: LockFlags::from_bits_retain(flags),
        }
    }

    #[test]
    fn flags_say_one_kind_of_lock_and_nothing_unknown() {
        assert!(!wanted_lock(&element(0, 1, 0x11)).unwrap().exclusive);
        assert!(wanted_lock(&element(0, 1, 0x2)).unwrap().exclusive);
        for flags in [0, 3, 4, 5, 0x10, 0x22] {
            let outcome = wanted_lock(&element(0, 1, flags));
            assert_eq!(outcome, Err(NtStatus::INVALID_PARAMETER), "{flags:#x}");
        }
    }

    #[test]
    fn a_range_may_end_at_the_last_byte_and_not_beyond() {
        assert_eq!(check_range(&element(u64::MAX, 1, 1)), Ok(()));
        assert_eq!(check_range(&element(u64::MAX, 0, 1)), Ok(()));
        assert_eq!(
            check_range(&element(u64::MAX, 2, 1)),
            Err(NtStatus::INVALID_LOCK_RANGE)
        );
    }

    #[test]
    fn ranges_overlap_by_a_byte_and_empty_ones_never() {
        let range = |offset, length| HeldLock {
            offset,
            length,
            exclusive: true,
        };
        assert!(range(0, 10).overlaps(&range(9, 1)));
        assert!(!range(0, 10).overlaps(&range(10, 1)));
        assert!(!range(0, 10).overlaps(&range(5, 0)));
        assert!(range(5, u64::MAX).overlaps(&range(u64::MAX - 1, 1)));
    }
}
