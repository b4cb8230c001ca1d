//! An open file or directory: what can be asked of it and done to it by its descriptor.
//!
//! Every method may block and runs on a pool thread, as the session's user. Which rights the open
//! was granted is the handlers' to check.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};
use proto::control::broker::FileKey;
use proto::smb2::info::file::FileBasicInfo;
use proto::smb2::{FileAttributes, FileTime, NtStatus};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT,
    chmodat, fallocate, fsync, ftruncate, linkat, openat, renameat_with, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::at_once::Attempts;
use super::directory;
use super::errno::status_of;
use super::metadata::{Metadata, SETTABLE, StoredAttributes, proc_path};
use super::name::SharePath;
use super::share::{Found, Location, Share};
use crate::sys::file;

/// An open file or directory.
#[derive(Debug)]
pub struct File {
    share: Arc<Share>,
    descriptor: OwnedFd,
    key: FileKey,
    is_directory: bool,
    path: Mutex<SharePath>,
    /// On a file system of this machine: what is worth trying at once.
    pub(super) attempts: Option<Arc<Attempts>>,
}

/// A byte-range lock (MS-SMB2 2.2.26.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Shared,
    Exclusive,
    Unlock,
}

impl File {
    pub(super) fn new(
        share: Arc<Share>,
        descriptor: OwnedFd,
        metadata: &Metadata,
        path: SharePath,
    ) -> File {
        let attempts = share.attempts(metadata.key, &descriptor);
        File {
            share,
            descriptor,
            key: metadata.key,
            is_directory: metadata.is_directory(),
            path: Mutex::new(path),
            attempts,
        }
    }

    /// Its identity: what share modes and locks are kept by.
    pub fn key(&self) -> FileKey {
        self.key
    }

    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// The share it is beneath.
    pub fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// The descriptor, for reading and writing.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The name it was opened or last renamed by through this open.
    pub fn path(&self) -> SharePath {
        self.path
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What it is now.
    pub fn metadata(&self) -> Result<Metadata, NtStatus> {
        let mut metadata = Metadata::of(self.descriptor())?;
        let hide_dot_files = self.share.options().hide_dot_files;
        metadata.attributes = metadata.attributes_of(self.path().name(), hide_dot_files);
        Ok(metadata)
    }

    /// What it is now if `before` is what it was, but for what is kept in the extended attribute.
    /// `None` where to ask may take long; the loop may call this one.
    pub fn metadata_at_once(&self, before: &Metadata) -> Option<Result<Metadata, NtStatus>> {
        self.attempts
            .as_ref()
            .map(|_| before.again(self.descriptor()))
    }

    /// Times and attributes (MS-FSCC 2.4.7). As the user.
    pub fn set_basic(&self, wanted: &FileBasicInfo) -> Result<(), NtStatus> {
        let before = self.metadata()?;
        let attributes = wanted.file_attributes;
        if attributes.contains(FileAttributes::DIRECTORY) && !self.is_directory {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if attributes.contains(FileAttributes::TEMPORARY) && self.is_directory {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let creation = is_a_time(wanted.creation_time).then_some(wanted.creation_time);
        if !attributes.is_empty() || creation.is_some() {
            let stored = StoredAttributes::of(self.descriptor());
            let now = StoredAttributes {
                attributes: if attributes.is_empty() {
                    before.attributes & SETTABLE
                } else {
                    attributes & SETTABLE
                },
                creation_time: creation
                    .or(stored.map(|stored| stored.creation_time))
                    .unwrap_or(FileTime::UNCHANGED),
            };
            if stored.is_some() || !now.is_default(self.is_directory) {
                now.store(self.descriptor())?;
            }
        }
        let times = Timestamps {
            last_access: timespec(wanted.last_access_time),
            last_modification: timespec(wanted.last_write_time),
        };
        if times.last_access.tv_nsec == UTIME_OMIT && times.last_modification.tv_nsec == UTIME_OMIT
        {
            return Ok(());
        }
        let link = proc_path(self.descriptor());
        utimensat(CWD, &link, &times, AtFlags::empty()).map_err(status_of)
    }

    /// FileEndOfFileInformation.
    pub fn set_end_of_file(&self, size: u64) -> Result<(), NtStatus> {
        ftruncate(&self.descriptor, size).map_err(data_status)
    }

    /// FileAllocationInformation: more is reserved, less cuts the file (MS-FSA 2.1.5.15.1).
    pub fn set_allocation(&self, size: u64) -> Result<(), NtStatus> {
        if size < self.metadata()?.end_of_file {
            return self.set_end_of_file(size);
        }
        if size == 0 {
            return Ok(());
        }
        match fallocate(&self.descriptor, FallocateFlags::KEEP_SIZE, 0, size) {
            // A file system that cannot reserve space gives it when it is written.
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(data_status(errno)),
        }
    }

    /// Puts data and metadata on disk.
    pub fn flush(&self) -> Result<(), NtStatus> {
        match fsync(&self.descriptor) {
            Ok(()) => Ok(()),
            // Opened for metadata only: nothing was written through it.
            Err(Errno::BADF) => Ok(()),
            Err(errno) => Err(status_of(errno)),
        }
    }

    /// Permission bits. As the user.
    pub fn set_mode(&self, mode: u32) -> Result<(), NtStatus> {
        let link = proc_path(self.descriptor());
        chmodat(CWD, link, Mode::from_bits_truncate(mode), AtFlags::empty()).map_err(status_of)
    }

    /// Whether it may be made delete-pending (MS-FSA 2.1.5.15.3). As the user.
    pub fn check_deletable(&self, ignore_read_only: bool) -> Result<(), NtStatus> {
        let attributes = self.metadata()?.attributes;
        if attributes.contains(FileAttributes::READONLY) && !ignore_read_only {
            return Err(NtStatus::CANNOT_DELETE);
        }
        if self.path().is_root() {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if self.is_directory && !directory::is_empty(self)? {
            return Err(NtStatus::DIRECTORY_NOT_EMPTY);
        }
        Ok(())
    }

    /// Deletes its name. As the user.
    pub fn delete(&self) -> Result<(), NtStatus> {
        let location = self.location()?;
        let flags = if self.is_directory && !self.is_link(&location) {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        unlinkat(&location.parent, &location.name, flags).map_err(status_of)
    }

    /// Renames it (MS-FSA 2.1.5.15.11). As the user.
    pub fn rename(&self, target: &SharePath, replace: bool) -> Result<(), NtStatus> {
        let source = self.location()?;
        let (target, flags) = match self.share.find(target)? {
            Found::Missing(location) => (location, RenameFlags::NOREPLACE),
            Found::Existing(existing, found) => {
                let metadata = Metadata::of(existing.as_fd())?;
                if found == source.path || metadata.key == self.key {
                    // The same file: another letter case at most, which is a name like any other.
                    let named = self.share.locate(&in_directory_of(&found, target))?;
                    if named.path == source.path {
                        return Ok(());
                    }
                    let flags = if named.path == found {
                        RenameFlags::empty()
                    } else {
                        RenameFlags::NOREPLACE
                    };
                    (named, flags)
                } else if !replace {
                    return Err(NtStatus::OBJECT_NAME_COLLISION);
                } else if metadata.is_directory()
                    || metadata.attributes.contains(FileAttributes::READONLY)
                {
                    return Err(NtStatus::ACCESS_DENIED);
                } else {
                    (self.share.locate(&found)?, RenameFlags::empty())
                }
            }
        };
        renameat_with(
            &source.parent,
            &source.name,
            &target.parent,
            &target.name,
            flags,
        )
        .map_err(|errno| match errno {
            // Into itself or one of its own directories.
            Errno::INVAL => NtStatus::SHARING_VIOLATION,
            Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY => NtStatus::ACCESS_DENIED,
            other => status_of(other),
        })?;
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = target.path;
        Ok(())
    }

    /// Gives it another name (MS-FSA 2.1.5.15.6). As the user.
    pub fn link(&self, target: &SharePath, replace: bool) -> Result<(), NtStatus> {
        if self.is_directory {
            return Err(NtStatus::FILE_IS_A_DIRECTORY);
        }
        let target = match self.share.find(target)? {
            Found::Missing(location) => location,
            Found::Existing(..) if !replace => return Err(NtStatus::OBJECT_NAME_COLLISION),
            Found::Existing(existing, found) => {
                let metadata = Metadata::of(existing.as_fd())?;
                if metadata.key == self.key {
                    return Ok(());
                }
                if metadata.is_directory() {
                    return Err(NtStatus::ACCESS_DENIED);
                }
                let location = self.share.locate(&found)?;
                unlinkat(&location.parent, &location.name, AtFlags::empty()).map_err(status_of)?;
                location
            }
        };
        linkat(
            CWD,
            proc_path(self.descriptor()),
            &target.parent,
            &target.name,
            AtFlags::SYMLINK_FOLLOW,
        )
        .map_err(status_of)
    }

    /// Locks or unlocks bytes, against every other open of the file on this machine: an open file
    /// description's own lock (fcntl's OFD locks), so that a child's end releases it.
    pub fn lock(&self, kind: Lock, offset: u64, length: u64) -> Result<(), NtStatus> {
        if offset > i64::MAX as u64 {
            // Beyond any byte the kernel knows: granted, and no other open hears of it.
            return Ok(());
        }
        let request = flock(kind, offset, length);
        let set = |request: &libc::flock| {
            fcntl(&self.descriptor, FcntlArg::F_OFD_SETLK(request)).map(|_| ())
        };
        match set(&request) {
            // A descriptor without write access takes no exclusive lock; Windows does not mind.
            Err(nix::Error::EBADF) if kind == Lock::Exclusive => {
                set(&flock(Lock::Shared, offset, length))
            }
            outcome => outcome,
        }
        .map_err(|errno| match errno {
            nix::Error::EAGAIN | nix::Error::EACCES => NtStatus::LOCK_NOT_GRANTED,
            other => status_of(Errno::from_raw_os_error(other as i32)),
        })
    }

    /// Whether another open's lock forbids reading (or writing) these bytes (MS-FSA 2.1.4.10).
    pub fn check_locks(&self, writing: bool, offset: u64, length: u64) -> Result<(), NtStatus> {
        if length == 0 {
            return Ok(());
        }
        let kind = if writing {
            Lock::Exclusive
        } else {
            Lock::Shared
        };
        let mut found = flock(kind, offset, length);
        match fcntl(&self.descriptor, FcntlArg::F_OFD_GETLK(&mut found)) {
            Ok(_) if i32::from(found.l_type) != libc::F_UNLCK => Err(NtStatus::FILE_LOCK_CONFLICT),
            // A file system without locks has none that could conflict.
            _ => Ok(()),
        }
    }

    /// How long it is now.
    pub fn end_of_file(&self) -> Result<u64, NtStatus> {
        let found = rustix::fs::fstat(&self.descriptor).map_err(status_of)?;
        Ok(found.st_size.try_into().unwrap_or(0))
    }

    /// Copies bytes into another file, or elsewhere in this one; says how many. The kernel does it
    /// where it can.
    pub fn copy_to(&self, to: &File, from: u64, at: u64, length: u32) -> Result<u32, NtStatus> {
        let mut done = 0;
        if self.key != to.key {
            while done < length {
                let (mut source, mut target) = (from + u64::from(done), at + u64::from(done));
                let left = (length - done) as usize;
                let copied = rustix::fs::copy_file_range(
                    &self.descriptor,
                    Some(&mut source),
                    &to.descriptor,
                    Some(&mut target),
                    left,
                );
                match copied {
                    Ok(0) => return Ok(done),
                    Ok(count) => done += u32::try_from(count).unwrap_or(length - done),
                    Err(Errno::INTR) => {}
                    // Between these two the kernel can't.
                    Err(
                        Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::BADF,
                    ) => break,
                    Err(error) => return Err(status_of(error)),
                }
            }
        }
        let bytes = file::read(
            self.descriptor(),
            Vec::new(),
            length - done,
            from + u64::from(done),
        )
        .map_err(status_of)?;
        let written = file::write(to.descriptor(), &bytes, at + u64::from(done), false);
        Ok(done + written.map_err(status_of)?)
    }

    /// Opens the directory again to read its entries from the start. As the user.
    pub(super) fn reopen_directory(&self) -> Result<OwnedFd, NtStatus> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.descriptor, ".", flags, Mode::empty()).map_err(status_of)
    }

    /// Directory and name it has now, checked to lead to this very file: the name it was opened
    /// by (which a symbolic link may be), or the one the kernel knows after somebody else's rename.
    fn location(&self) -> Result<Location, NtStatus> {
        let by_kernel = || self.share.path_of(self.descriptor());
        let candidates = [Some(self.path()), by_kernel()];
        for path in candidates.into_iter().flatten() {
            if path.is_root() {
                return Err(NtStatus::ACCESS_DENIED);
            }
            let same = self
                .share
                .open_beneath(&path, OFlags::PATH)
                .is_ok_and(|found| {
                    Metadata::of(found.as_fd()).is_ok_and(|metadata| metadata.key == self.key)
                });
            if same {
                return self.share.locate(&path);
            }
        }
        Err(NtStatus::OBJECT_NAME_NOT_FOUND)
    }

    fn is_link(&self, location: &Location) -> bool {
        Metadata::of_entry(location.parent.as_fd(), &location.name)
            .is_ok_and(|metadata| metadata.kind == rustix::fs::FileType::Symlink)
    }
}

/// The name a client wrote, in the directory as it is on disk.
fn in_directory_of(found: &SharePath, wanted: &SharePath) -> SharePath {
    let directory = found.split().map(|(directory, _)| directory);
    directory.unwrap_or_default().join(wanted.name())
}

/// EINVAL for a size is one no file can have.
fn data_status(errno: Errno) -> NtStatus {
    match errno {
        // The descriptor was opened for metadata only.
        Errno::BADF => NtStatus::ACCESS_DENIED,
        Errno::FBIG => NtStatus::DISK_FULL,
        other => status_of(other),
    }
}

/// MS-FSCC 2.4.7: 0 leaves a time as it is, -1 and -2 are about implicit updates.
fn is_a_time(time: FileTime) -> bool {
    ![FileTime::UNCHANGED, FileTime::FREEZE, FileTime::THAW].contains(&time)
}

fn timespec(time: FileTime) -> Timespec {
    if !is_a_time(time) {
        return Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        };
    }
    let (seconds, nanoseconds) = time.to_unix();
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    }
}

/// Ranges that a signed 64-bit number cannot hold end beyond any file: they are cut off there.
fn flock(kind: Lock, offset: u64, length: u64) -> libc::flock {
    let limit = i64::MAX as u64;
    let start = offset.min(limit);
    libc::flock {
        l_type: match kind {
            Lock::Shared => libc::F_RDLCK,
            Lock::Exclusive => libc::F_WRLCK,
            Lock::Unlock => libc::F_UNLCK,
        } as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start as i64,
        l_len: length.min(limit - start).max(1) as i64,
        l_pid: 0,
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl std::fmt::Display for File {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.descriptor.as_raw_fd();
        write!(
            formatter,
            "{}{} (descriptor {number})",
            self.share.name(),
            self.path()
        )
    }
}
