//! A share's directory, and the only way to a file beneath it.
//!
//! Every path of a client is resolved by `openat2` from the directory's descriptor with
//! RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS: neither `..`, nor an absolute path, nor a symbolic
//! link leads out, whatever somebody renames meanwhile. Called on pool threads, under the
//! identity of the session's user.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use proto::control::broker::FileKey;
use proto::smb2::NtStatus;
use rustix::fs::{CWD, Mode, OFlags, RawDir, ResolveFlags, openat, openat2, readlink};
use rustix::io::Errno;

use super::at_once::Attempts;
use super::errno::status_of;
use super::metadata::proc_path;
use super::name::{self, SharePath};
use crate::config;
use crate::config::CaseSensitive;
use crate::refusals::Refusals;

/// How a share treats names and new files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareOptions {
    /// Names that differ in letter case are different names.
    pub case_sensitive: bool,
    /// Symbolic links that stay beneath the share are followed; others never are.
    pub follow_symlinks: bool,
    /// Clients get oplocks.
    pub oplocks: bool,
    /// Names that start with a dot get the hidden attribute.
    pub hide_dot_files: bool,
    /// Permission bits a new file can get.
    pub create_mask: u32,
    /// Permission bits a new directory can get.
    pub directory_mask: u32,
}

impl Default for ShareOptions {
    fn default() -> ShareOptions {
        ShareOptions {
            case_sensitive: false,
            follow_symlinks: true,
            oplocks: false,
            hide_dot_files: true,
            create_mask: 0o744,
            directory_mask: 0o755,
        }
    }
}

/// An open share.
#[derive(Debug)]
pub struct Share {
    name: String,
    root: OwnedFd,
    options: ShareOptions,
    /// Where it is told that a path led out of the share.
    refusals: Option<Arc<Refusals>>,
    /// The devices its files were found on; of those of this machine, what is worth trying there.
    devices: Mutex<Vec<(u64, Option<Arc<Attempts>>)>>,
}

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// Something; the descriptor is O_PATH. The path has the names as they are on disk.
    Existing(OwnedFd, SharePath),
    /// Nothing, but its directory exists.
    Missing(Location),
}

/// A name in a directory beneath the share, which need not exist.
#[derive(Debug)]
pub struct Location {
    /// The directory, O_PATH.
    pub parent: OwnedFd,
    /// One component.
    pub name: String,
    /// Both, from the share's directory.
    pub path: SharePath,
}

impl Share {
    /// Opens the directory of a share. Blocks.
    pub fn open(name: &str, path: &Path, options: ShareOptions) -> Result<Share, NtStatus> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            openat(CWD, path, flags, Mode::empty()).map_err(|_| NtStatus::BAD_NETWORK_NAME)?;
        Ok(Share {
            name: name.to_owned(),
            root,
            options,
            refusals: None,
            devices: Mutex::default(),
        })
    }

    /// Tells there what the client of a connection is refused.
    pub fn telling(mut self, refusals: Arc<Refusals>) -> Share {
        self.refusals = Some(refusals);
        self
    }

    /// Opens a configured share. Blocks.
    pub fn of_config(share: &config::Share) -> Result<Share, NtStatus> {
        let options = ShareOptions {
            // "auto" is by what the client says; SMB2 clients say nothing, so they get Windows' rule.
            case_sensitive: share.case_sensitive == CaseSensitive::Yes,
            follow_symlinks: share.follow_symlinks,
            oplocks: share.oplocks,
            hide_dot_files: share.hide_dot_files,
            create_mask: share.create_mask.0,
            directory_mask: share.directory_mask.0,
        };
        Share::open(&share.name, &share.path, options)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it treats names and new files.
    pub fn options(&self) -> &ShareOptions {
        &self.options
    }

    /// Its directory, O_PATH.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Finds what a client's path names, ignoring letter case where the share does and only after
    /// an exact miss.
    pub fn find(&self, path: &SharePath) -> Result<Found, NtStatus> {
        match self.open_beneath(path, OFlags::PATH) {
            Ok(file) => return Ok(Found::Existing(file, path.clone())),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.walk_failed(path, errno)),
        }
        if self.options.case_sensitive {
            return Ok(Found::Missing(self.locate(path)?));
        }
        self.find_ignoring_case(path)
    }

    /// The directory a path is in; the path itself need not exist.
    pub fn locate(&self, path: &SharePath) -> Result<Location, NtStatus> {
        // The share's directory has no name that could be made, moved or deleted.
        let (directory, name) = path.split().ok_or(NtStatus::ACCESS_DENIED)?;
        let parent = self
            .open_beneath(&directory, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|errno| match errno {
                Errno::NOENT => NtStatus::OBJECT_PATH_NOT_FOUND,
                other => self.walk_failed(path, other),
            })?;
        Ok(Location {
            parent,
            name: name.to_owned(),
            path: path.clone(),
        })
    }

    /// Opens an existing path as it is written.
    pub fn open_beneath(&self, path: &SharePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if !self.options.follow_symlinks {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let path = if path.is_root() { "." } else { path.as_str() };
        let flags = flags | OFlags::CLOEXEC;
        // A rename somewhere makes the kernel give up a walk beneath with EAGAIN.
        for _ in 0..RACES {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => return outcome,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Where an open file is now, if that is beneath the share and has a name.
    pub fn path_of(&self, file: BorrowedFd<'_>) -> Option<SharePath> {
        let root = link_target(self.root.as_fd())?;
        let file = link_target(file)?;
        let beneath = file.strip_prefix(&root).ok()?;
        Some(SharePath::from_disk(beneath.to_str()?))
    }

    /// What is worth trying with an open file, whose identity is `key`, if it is on a file system
    /// of this machine; asked once for each device.
    pub(super) fn attempts(&self, key: FileKey, file: &OwnedFd) -> Option<Arc<Attempts>> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, attempts)) = devices.iter().find(|(device, _)| *device == key.device) {
            return attempts.clone();
        }
        let attempts = Attempts::on_device_of(file.as_fd()).map(Arc::new);
        devices.push((key.device, attempts.clone()));
        attempts
    }

    /// What a failed walk means: EXDEV is a path that would leave the share.
    fn walk_failed(&self, path: &SharePath, errno: Errno) -> NtStatus {
        let (why, status) = match errno {
            Errno::XDEV => (
                "a symbolic link leads out of the share",
                NtStatus::ACCESS_DENIED,
            ),
            Errno::LOOP if !self.options.follow_symlinks => {
                ("follow symlinks = no", NtStatus::ACCESS_DENIED)
            }
            Errno::AGAIN => return NtStatus::SHARING_VIOLATION,
            other => return status_of(other),
        };
        if let Some(refusals) = &self.refusals {
            refusals.tell(format_args!("{}:{path}", self.name), why, status);
        }
        status
    }

    fn find_ignoring_case(&self, path: &SharePath) -> Result<Found, NtStatus> {
        let mut reached = SharePath::default();
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            let exact = reached.join(component);
            reached = match self.open_beneath(&exact, OFlags::PATH) {
                Ok(_) => exact,
                Err(Errno::NOENT) => match self.entry_ignoring_case(&reached, component)? {
                    Some(name) => reached.join(&name),
                    None if components.peek().is_none() => {
                        return Ok(Found::Missing(self.locate(&exact)?));
                    }
                    None => return Err(NtStatus::OBJECT_PATH_NOT_FOUND),
                },
                Err(errno) => return Err(self.walk_failed(path, errno)),
            };
        }
        match self.open_beneath(&reached, OFlags::PATH) {
            Ok(file) => Ok(Found::Existing(file, reached)),
            // Gone meanwhile, or a link that leads nowhere.
            Err(Errno::NOENT) => Ok(Found::Missing(self.locate(&reached)?)),
            Err(errno) => Err(self.walk_failed(path, errno)),
        }
    }

    /// The name of a directory's entry that differs from `wanted` in letter case only.
    fn entry_ignoring_case(
        &self,
        directory: &SharePath,
        wanted: &str,
    ) -> Result<Option<String>, NtStatus> {
        let opened = match self.open_beneath(directory, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(opened) => opened,
            // Entries of a directory that may only be traversed are found by their exact names.
            Err(Errno::ACCESS) => return Ok(None),
            Err(Errno::NOTDIR | Errno::NOENT) => return Err(NtStatus::OBJECT_PATH_NOT_FOUND),
            Err(errno) => return Err(self.walk_failed(directory, errno)),
        };
        let mut buffer = [MaybeUninit::uninit(); ENTRIES_SIZE];
        let mut entries = RawDir::new(opened, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(status_of)?;
            if let Ok(name) = entry.file_name().to_str()
                && name::equal_ignoring_case(name, wanted)
            {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }
}

const RACES: usize = 16;
/// Bytes one getdents call fills.
pub const ENTRIES_SIZE: usize = 32 * 1024;

fn link_target(file: BorrowedFd<'_>) -> Option<PathBuf> {
    let target = readlink(proc_path(file), Vec::new()).ok()?;
    Some(PathBuf::from(target.into_string().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        share: Share,
    }

    /// `outside/secret` beside the share `inside`, which has `dir/File`.
    fn fixture(options: ShareOptions) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("inside");
        fs::create_dir_all(inside.join("dir")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret"), b"secret").unwrap();
        fs::write(inside.join("dir/File"), b"file").unwrap();
        let share = Share::open("inside", &inside, options).unwrap();
        Fixture { directory, share }
    }

    fn path(text: &str) -> SharePath {
        SharePath::from_text(text).unwrap()
    }

    fn existing(found: Result<Found, NtStatus>) -> String {
        match found {
            Ok(Found::Existing(_, path)) => path.as_str().to_owned(),
            other => panic!("not found: {other:?}"),
        }
    }

    #[test]
    fn letter_case_is_ignored_after_an_exact_miss() {
        let fixture = fixture(ShareOptions::default());
        assert_eq!(existing(fixture.share.find(&path("DIR\\file"))), "dir/File");
        fs::write(fixture.directory.path().join("inside/dir/file"), b"").unwrap();
        assert_eq!(existing(fixture.share.find(&path("dir\\file"))), "dir/file");
        assert_eq!(existing(fixture.share.find(&path("dir\\File"))), "dir/File");
    }

    #[test]
    fn a_case_sensitive_share_tells_names_apart() {
        let fixture = fixture(ShareOptions {
            case_sensitive: true,
            ..ShareOptions::default()
        });
        assert!(matches!(
            fixture.share.find(&path("dir\\file")),
            Ok(Found::Missing(_))
        ));
    }

    #[test]
    fn a_missing_name_and_a_missing_directory_are_different_answers() {
        let fixture = fixture(ShareOptions::default());
        let Ok(Found::Missing(location)) = fixture.share.find(&path("DIR\\new")) else {
            panic!("dir\\new is there");
        };
        assert_eq!(location.path.as_str(), "dir/new");
        for missing in ["none\\new", "dir\\File\\new", "dir\\none\\new"] {
            assert_eq!(
                fixture.share.find(&path(missing)).unwrap_err(),
                NtStatus::OBJECT_PATH_NOT_FOUND,
                "{missing}"
            );
        }
    }

    #[test]
    fn symbolic_links_are_followed_within_the_share_and_never_out_of_it() {
        let fixture = fixture(ShareOptions::default());
        let inside = fixture.directory.path().join("inside");
        let secret = fixture.directory.path().join("outside/secret");
        symlink("dir/File", inside.join("within")).unwrap();
        symlink("../outside", inside.join("relative")).unwrap();
        symlink("../outside/secret", inside.join("file")).unwrap();
        symlink(&secret, inside.join("absolute")).unwrap();
        symlink("/proc/self/root", inside.join("magic")).unwrap();
        assert_eq!(existing(fixture.share.find(&path("within"))), "within");
        for escape in [
            "relative\\secret",
            "relative",
            "file",
            "absolute",
            "magic\\etc",
        ] {
            assert_eq!(
                fixture.share.find(&path(escape)).unwrap_err(),
                NtStatus::ACCESS_DENIED,
                "{escape}"
            );
        }
    }

    #[test]
    fn no_link_at_all_is_followed_when_the_share_says_so() {
        let fixture = fixture(ShareOptions {
            follow_symlinks: false,
            ..ShareOptions::default()
        });
        let inside = fixture.directory.path().join("inside");
        symlink("dir/File", inside.join("within")).unwrap();
        assert_eq!(
            fixture.share.find(&path("within")).unwrap_err(),
            NtStatus::ACCESS_DENIED
        );
    }

    #[test]
    fn a_directory_swapped_for_a_link_while_walking_never_leads_out() {
        let fixture = fixture(ShareOptions::default());
        let inside = fixture.directory.path().join("inside");
        fs::write(inside.join("dir/secret"), b"harmless").unwrap();
        symlink("../outside", inside.join("trap")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = rustix::fs::renameat_with(
                        CWD,
                        inside.join("dir"),
                        CWD,
                        inside.join("trap"),
                        rustix::fs::RenameFlags::EXCHANGE,
                    );
                }
            });
            for _ in 0..2000 {
                if let Ok(file) = fixture
                    .share
                    .open_beneath(&path("dir\\secret"), OFlags::RDONLY)
                {
                    let mut bytes = [0; 8];
                    let length = rustix::io::read(&file, &mut bytes).unwrap();
                    assert_eq!(&bytes[..length], b"harmless");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn an_open_file_knows_where_it_was_moved() {
        let fixture = fixture(ShareOptions::default());
        let inside = fixture.directory.path().join("inside");
        let file = fixture
            .share
            .open_beneath(&path("dir\\File"), OFlags::PATH)
            .unwrap();
        fs::rename(inside.join("dir"), inside.join("moved")).unwrap();
        assert_eq!(
            fixture.share.path_of(file.as_fd()).unwrap().as_str(),
            "moved/File"
        );
    }
}
