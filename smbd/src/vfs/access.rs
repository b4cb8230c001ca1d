//! What a user may do with a file: the rights of MS-DTYP computed from what the kernel allows.
//!
//! The kernel's own answer counts (mode, access control list, capabilities, read-only mounts), as
//! the user of the calling thread; nothing is guessed from mode bits.

use std::os::fd::{AsFd, BorrowedFd};

use proto::smb2::{AccessMask, FileAttributes};
use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, fstatvfs};
use rustix::process::geteuid;

use super::metadata::{Metadata, proc_path};
use super::name::SharePath;
use super::share::Share;

/// What an open with write rights asks of the share: any of these makes a request a writing one.
pub const CHANGES: AccessMask = AccessMask::WRITE_DATA
    .union(AccessMask::APPEND_DATA)
    .union(AccessMask::WRITE_EA)
    .union(AccessMask::WRITE_ATTRIBUTES)
    .union(AccessMask::DELETE_CHILD)
    .union(AccessMask::DELETE)
    .union(AccessMask::WRITE_DAC)
    .union(AccessMask::WRITE_OWNER);

const ALWAYS: AccessMask = AccessMask::READ_ATTRIBUTES
    .union(AccessMask::READ_CONTROL)
    .union(AccessMask::SYNCHRONIZE);

/// The rights the calling thread's user has on an existing file. DELETE depends on the directory
/// it is in, which is looked at only if `with_delete`.
pub fn maximal(
    share: &Share,
    path: &SharePath,
    file: BorrowedFd<'_>,
    metadata: &Metadata,
    with_delete: bool,
) -> AccessMask {
    let link = proc_path(file);
    let may = |access| accessat(CWD, &link, access, AtFlags::EACCESS).is_ok();
    let (read, write, execute) = (
        may(Access::READ_OK),
        may(Access::WRITE_OK),
        may(Access::EXEC_OK),
    );
    let mut granted = ALWAYS;
    if read {
        granted |= AccessMask::READ_DATA | AccessMask::READ_EA;
    }
    // A program on a share needs no x bit to be started by Windows: it is read, not executed.
    if execute || (read && !metadata.is_directory()) {
        granted |= AccessMask::EXECUTE;
    }
    if write {
        granted |= AccessMask::WRITE_DATA
            | AccessMask::APPEND_DATA
            | AccessMask::WRITE_EA
            | AccessMask::WRITE_ATTRIBUTES;
        // Of a file it allows nothing, and is part of "everything" (FILE_ALL_ACCESS) all the same.
        if execute || !metadata.is_directory() {
            granted |= AccessMask::DELETE_CHILD;
        }
    }
    let user = geteuid();
    let writable = !is_read_only_mount(file);
    if writable && (user.as_raw() == metadata.uid || user.is_root()) {
        granted |= AccessMask::WRITE_ATTRIBUTES | AccessMask::WRITE_DAC | AccessMask::WRITE_OWNER;
    }
    if !metadata.is_directory() && metadata.attributes.contains(FileAttributes::READONLY) {
        // MS-FSA 2.1.5.1.2.1.
        granted -= AccessMask::WRITE_DATA | AccessMask::APPEND_DATA;
    }
    if with_delete && may_delete(share, path, metadata) {
        granted |= AccessMask::DELETE;
    }
    granted
}

/// Whether the user may take the name out of its directory.
fn may_delete(share: &Share, path: &SharePath, metadata: &Metadata) -> bool {
    if path.is_root() {
        // Clients open a share's directory for everything; deleting it is refused when they try.
        return true;
    }
    let Ok(location) = share.locate(path) else {
        return false;
    };
    let parent = location.parent.as_fd();
    let access = Access::WRITE_OK | Access::EXEC_OK;
    if accessat(CWD, proc_path(parent), access, AtFlags::EACCESS).is_err() {
        return false;
    }
    const STICKY: u32 = 0o1000;
    let user = geteuid();
    match Metadata::of(parent) {
        Ok(parent) if parent.mode & STICKY != 0 => {
            user.is_root() || user.as_raw() == metadata.uid || user.as_raw() == parent.uid
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

fn is_read_only_mount(file: BorrowedFd<'_>) -> bool {
    fstatvfs(file).is_ok_and(|volume| volume.f_flag.contains(StatVfsMountFlags::RDONLY))
}
