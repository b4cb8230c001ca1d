//! What a file is: a statx, and the DOS attributes and creation time that Unix has no place for.
//!
//! Those two are kept in an extended attribute, written only when they differ from what a file
//! without it has: ARCHIVE for files, the birth time of the file system. Calls the kernel, under
//! the identity of the calling thread.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use proto::control::broker::FileKey;
use proto::smb2::{FileAttributes, FileTime, NtStatus};
use proto::wire::{Reader, WireError};
use rustix::fs::{
    AtFlags, FileType, Mode, Statx, StatxFlags, StatxTimestamp, XattrFlags, lgetxattr, makedev,
    setxattr, statx,
};
use rustix::io::Errno;

use super::errno::status_of;

/// A file's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    pub key: FileKey,
    pub kind: FileType,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    /// 0 for directories.
    pub end_of_file: u64,
    /// Bytes on disk; 0 for directories.
    pub allocation_size: u64,
    pub creation_time: FileTime,
    pub last_access_time: FileTime,
    pub last_write_time: FileTime,
    pub change_time: FileTime,
    pub attributes: FileAttributes,
}

impl Metadata {
    /// Of an open file, `O_PATH` or not.
    pub fn of(file: BorrowedFd<'_>) -> Result<Metadata, NtStatus> {
        let stat = statx(file, c"", AtFlags::EMPTY_PATH, WANTED).map_err(status_of)?;
        Ok(Metadata::build(&stat, StoredAttributes::of(file)))
    }

    /// Of `name` in a directory, not following it.
    pub fn of_entry(directory: BorrowedFd<'_>, name: &str) -> Result<Metadata, NtStatus> {
        let stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, WANTED).map_err(status_of)?;
        let stored = if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Symlink {
            None
        } else {
            StoredAttributes::of_entry(directory, name)
        };
        Ok(Metadata::build(&stat, stored))
    }

    /// Of the same open file again, but for the extended attribute: attributes and creation time
    /// stay.
    pub(super) fn again(&self, file: BorrowedFd<'_>) -> Result<Metadata, NtStatus> {
        let stat = statx(file, c"", AtFlags::EMPTY_PATH, WANTED).map_err(status_of)?;
        Ok(Metadata {
            attributes: self.attributes,
            creation_time: self.creation_time,
            ..Metadata::build(&stat, None)
        })
    }

    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The attributes, HIDDEN added for a name that starts with a dot where the share wants it.
    pub fn attributes_of(&self, name: &str, hide_dot_files: bool) -> FileAttributes {
        let mut attributes = self.attributes;
        if hide_dot_files && name.starts_with('.') && name != "." && name != ".." {
            attributes.remove(FileAttributes::NORMAL);
            attributes.insert(FileAttributes::HIDDEN);
        }
        attributes
    }

    fn build(stat: &Statx, stored: Option<StoredAttributes>) -> Metadata {
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        let is_directory = kind == FileType::Directory;
        let mask = StatxFlags::from_bits_retain(stat.stx_mask);
        let write = file_time(stat.stx_mtime);
        let change = file_time(stat.stx_ctime);
        let birth = if mask.contains(StatxFlags::BTIME) {
            file_time(stat.stx_btime)
        } else {
            write.min(change)
        };
        let default = default_attributes(is_directory);
        let attributes = stored.map_or(default, |stored| stored.attributes);
        Metadata {
            key: FileKey {
                device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
            },
            kind,
            mode: Mode::from_raw_mode(stat.stx_mode.into()).bits(),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            links: stat.stx_nlink,
            end_of_file: if is_directory { 0 } else { stat.stx_size },
            allocation_size: if is_directory {
                0
            } else {
                stat.stx_blocks.saturating_mul(512)
            },
            creation_time: stored
                .map(|stored| stored.creation_time)
                .filter(|time| *time != FileTime::UNCHANGED)
                .unwrap_or(birth),
            last_access_time: file_time(stat.stx_atime),
            last_write_time: write,
            change_time: change,
            attributes: reported(attributes, is_directory),
        }
    }
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

fn file_time(time: StatxTimestamp) -> FileTime {
    FileTime::from_unix(time.tv_sec, time.tv_nsec)
}

/// What a file has that nobody gave attributes.
fn default_attributes(is_directory: bool) -> FileAttributes {
    if is_directory {
        FileAttributes::empty()
    } else {
        FileAttributes::ARCHIVE
    }
}

/// NORMAL stands alone (MS-FSCC 2.6), DIRECTORY comes from the file itself.
fn reported(stored: FileAttributes, is_directory: bool) -> FileAttributes {
    let mut attributes = stored & SETTABLE;
    attributes.set(FileAttributes::DIRECTORY, is_directory);
    if attributes.is_empty() {
        attributes = FileAttributes::NORMAL;
    }
    attributes
}

/// What SET_INFO and CREATE may change; the others are ignored.
pub const SETTABLE: FileAttributes = FileAttributes::READONLY
    .union(FileAttributes::HIDDEN)
    .union(FileAttributes::SYSTEM)
    .union(FileAttributes::ARCHIVE)
    .union(FileAttributes::TEMPORARY)
    .union(FileAttributes::OFFLINE)
    .union(FileAttributes::NOT_CONTENT_INDEXED);

/// The extended attribute: version, attributes, creation time (0: the file system's birth time).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredAttributes {
    pub attributes: FileAttributes,
    pub creation_time: FileTime,
}

impl StoredAttributes {
    const NAME: &'static str = "user.smbdirect.dos";
    const VERSION: u32 = 1;
    const SIZE: usize = 16;

    /// What is stored with an open file; `None` without the attribute or with one that makes no
    /// sense: any user of the machine may have written it.
    pub fn of(file: BorrowedFd<'_>) -> Option<StoredAttributes> {
        let mut value = [0u8; Self::SIZE];
        // By the magic link, because an O_PATH descriptor has no extended attributes.
        let length = rustix::fs::getxattr(proc_path(file), Self::NAME, &mut value).ok()?;
        Self::decode(value.get(..length)?).ok()
    }

    fn of_entry(directory: BorrowedFd<'_>, name: &str) -> Option<StoredAttributes> {
        let mut value = [0u8; Self::SIZE];
        let path = format!("{}/{name}", proc_path(directory));
        let length = lgetxattr(path, Self::NAME, &mut value).ok()?;
        Self::decode(value.get(..length)?).ok()
    }

    /// Stores it. A file system without extended attributes keeps the defaults.
    pub fn store(self, file: BorrowedFd<'_>) -> Result<(), NtStatus> {
        match setxattr(
            proc_path(file),
            Self::NAME,
            &self.encode(),
            XattrFlags::empty(),
        ) {
            Ok(()) | Err(Errno::NOTSUP) => Ok(()),
            Err(errno) => Err(status_of(errno)),
        }
    }

    /// Whether a new file with these attributes is as one without anything stored.
    pub fn is_default(self, is_directory: bool) -> bool {
        self.creation_time == FileTime::UNCHANGED
            && self.attributes & SETTABLE == default_attributes(is_directory)
    }

    fn encode(self) -> [u8; Self::SIZE] {
        let mut value = [0; Self::SIZE];
        value[..4].copy_from_slice(&Self::VERSION.to_le_bytes());
        value[4..8].copy_from_slice(&self.attributes.bits().to_le_bytes());
        value[8..].copy_from_slice(&self.creation_time.0.to_le_bytes());
        value
    }

    fn decode(value: &[u8]) -> Result<StoredAttributes, WireError> {
        let mut reader = Reader::new(value);
        let version = reader.error("Version");
        if reader.u32("Version")? != Self::VERSION {
            return Err(version);
        }
        Ok(StoredAttributes {
            attributes: FileAttributes::from_bits_retain(reader.u32("Attributes")?) & SETTABLE,
            creation_time: FileTime(reader.u64("CreationTime")?),
        })
    }
}

/// The magic link of a descriptor: leads to exactly the open file, whatever its name is now.
pub fn proc_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_file_and_a_directory_have_the_attributes_windows_gives_new_ones() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("f"), b"12345").unwrap();
        let opened = File::open(directory.path()).unwrap();
        let file = Metadata::of_entry(opened.as_fd(), "f").unwrap();
        assert_eq!(file.attributes, FileAttributes::ARCHIVE);
        assert_eq!((file.end_of_file, file.links), (5, 1));
        let own = Metadata::of(opened.as_fd()).unwrap();
        assert_eq!(own.attributes, FileAttributes::DIRECTORY);
        assert_eq!((own.end_of_file, own.allocation_size), (0, 0));
    }

    #[test]
    fn stored_attributes_come_back_by_descriptor_and_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, b"").unwrap();
        let file = File::open(&path).unwrap();
        let stored = StoredAttributes {
            attributes: FileAttributes::HIDDEN | FileAttributes::READONLY,
            creation_time: FileTime(130_000_000_000_000_000),
        };
        stored.store(file.as_fd()).unwrap();
        if StoredAttributes::of(file.as_fd()).is_none() {
            eprintln!("skipped: this file system has no extended attributes of users");
            return;
        }
        let opened = File::open(directory.path()).unwrap();
        for metadata in [
            Metadata::of(file.as_fd()).unwrap(),
            Metadata::of_entry(opened.as_fd(), "f").unwrap(),
        ] {
            assert_eq!(metadata.attributes, stored.attributes);
            assert_eq!(metadata.creation_time, stored.creation_time);
        }
    }

    #[test]
    fn nonsense_in_the_stored_attribute_is_ignored() {
        for value in [&[][..], &[1, 0, 0, 0], &[2; 16]] {
            assert!(StoredAttributes::decode(value).is_err());
        }
    }

    #[test]
    fn no_attribute_at_all_is_normal() {
        assert_eq!(
            reported(FileAttributes::empty(), false),
            FileAttributes::NORMAL
        );
        assert_eq!(
            reported(FileAttributes::HIDDEN, true),
            FileAttributes::HIDDEN | FileAttributes::DIRECTORY
        );
    }
}
