//! The identity of one pool thread: whose rights its file calls have.
//!
//! Only [`super::pool`] switches, before a job, and only when the thread has another identity. The
//! loop's thread stays the server, but for the file-system user of calls made together
//! ([`FileUser`]).
//! Raw system calls: glibc's own would change every thread of the process. Real and saved user
//! id stay 0 so that the next job can switch again; the effective one (and with it the
//! file-system one) is the user's, and the kernel empties the effective capabilities with it. A
//! half-made switch would run a file call as the wrong user, so a failed one ends the process.

use std::marker::PhantomData;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::umask;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::security::users::Identity;

/// Who a job runs as.
#[derive(Debug, Clone)]
pub enum RunAs {
    /// The child itself (root): for calls on descriptors that are open already.
    Server,
    /// A session's user.
    User(Arc<Identity>),
    /// Whoever the thread is: for a job that asks nothing of the kernel.
    Anyone,
}

/// What the calling thread runs as. Belongs to the thread that made it.
#[derive(Debug)]
pub struct ThreadIdentity {
    current: RunAs,
}

impl ThreadIdentity {
    /// A thread that never switched: it runs as the process does.
    pub fn unchanged() -> ThreadIdentity {
        ThreadIdentity {
            current: RunAs::Server,
        }
    }

    /// Switches the calling thread; no system call if it has this identity already.
    ///
    /// # Aborts
    /// When the kernel refuses.
    pub fn switch_to(&mut self, wanted: &RunAs) {
        if self.current.is_same(wanted) {
            return;
        }
        if let Err((operation, errno)) = switch(wanted) {
            tracing::error!(
                "switching a thread to {wanted:?} failed at {operation} ({errno}); the process ends, \
                 its client reconnects. smbd must be started as root."
            );
            std::process::abort();
        }
        self.current = wanted.clone();
    }
}

impl RunAs {
    fn is_same(&self, other: &RunAs) -> bool {
        match (self, other) {
            (RunAs::Server, RunAs::Server) => true,
            (RunAs::User(one), RunAs::User(two)) => Arc::ptr_eq(one, two) || one == two,
            (_, RunAs::Anyone) => true,
            _ => false,
        }
    }
}

/// Whose calls on open descriptors the calling thread makes: blocks kept for root and set-user-id
/// bits are as in a call by the user. The thread is the server's again when this is dropped, even by
/// a panic. Quotas bind it only after [`give_up_resources`].
#[derive(Debug)]
pub struct FileUser {
    uid: u32,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl FileUser {
    /// The server itself.
    pub fn server() -> FileUser {
        FileUser {
            uid: 0,
            _thread: PhantomData,
        }
    }

    /// What follows is the user's; no system call if it was already.
    ///
    /// # Aborts
    /// When the kernel refuses, which the next switch shows.
    pub fn switch_to(&mut self, user: &Identity) {
        self.become_user(user.uid);
    }

    fn become_user(&mut self, uid: u32) {
        if self.uid == uid {
            return;
        }
        let was = set_file_user(uid);
        if was != self.uid {
            tracing::error!(
                "a file call for user {} was made by user {was}; the process ends, its client \
                 reconnects",
                self.uid
            );
            std::process::abort();
        }
        self.uid = uid;
    }
}

impl Drop for FileUser {
    fn drop(&mut self) {
        self.become_user(0);
    }
}

/// Takes from the calling thread, which is to be a [`FileUser`], the right to exceed quotas.
pub fn give_up_resources() -> Result<(), Errno> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective
        .remove(rustix::thread::CapabilitySet::SYS_RESOURCE);
    rustix::thread::set_capabilities(None, sets)
}

/// Sets the file-system user of the calling thread; the kernel takes the capabilities over files
/// away with it, and gives them back with root's. Returns who it was: a call that is refused shows
/// in what the next one returns.
fn set_file_user(uid: u32) -> u32 {
    // SAFETY: setfsuid takes an integer and touches no memory of this process; the calling thread
    // alone is changed.
    let was = unsafe { libc::syscall(libc::SYS_setfsuid, libc::c_long::from(uid)) };
    was as u32
}

/// Gives the calling thread an empty file mode mask of its own: modes of new files come from the
/// share's configuration alone, not from the shell that started smbd.
pub fn clear_file_mode_mask() {
    // SAFETY: the thread stops sharing its working directory, root and mask with the others; it
    // never changes the first two, and no descriptor is affected.
    if let Err(errno) = unsafe { unshare_unsafe(UnshareFlags::FS) } {
        tracing::warn!("a pool thread shares its file mode mask with the process ({errno})");
    }
    umask(Mode::empty());
}

type Refused = (&'static str, Errno);

/// Back to root first, which restores the capabilities that the rest needs; groups before the
/// user, because a user may not change them.
fn switch(wanted: &RunAs) -> Result<(), Refused> {
    set_effective_user(0)?;
    match wanted {
        RunAs::Anyone => Ok(()),
        RunAs::Server => {
            set_effective_group(0)?;
            set_groups(&[])
        }
        RunAs::User(identity) => {
            set_groups(&identity.groups)?;
            set_effective_group(identity.gid)?;
            set_effective_user(identity.uid)
        }
    }
}

const UNCHANGED: libc::c_long = -1;

fn set_effective_user(uid: u32) -> Result<(), Refused> {
    // SAFETY: setresuid takes three integers and touches no memory of this process; made as a
    // raw call it changes the calling thread alone, which is the intention.
    let result = unsafe {
        libc::syscall(
            libc::SYS_setresuid,
            UNCHANGED,
            libc::c_long::from(uid),
            UNCHANGED,
        )
    };
    refused("setresuid", result)
}

fn set_effective_group(gid: u32) -> Result<(), Refused> {
    // SAFETY: as for setresuid.
    let result = unsafe {
        libc::syscall(
            libc::SYS_setresgid,
            UNCHANGED,
            libc::c_long::from(gid),
            UNCHANGED,
        )
    };
    refused("setresgid", result)
}

fn set_groups(groups: &[u32]) -> Result<(), Refused> {
    // SAFETY: the kernel reads `groups.len()` 32-bit group ids at the pointer, all of them inside
    // the borrowed slice; the calling thread alone is changed.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    refused("setgroups", result)
}

fn refused(operation: &'static str, result: libc::c_long) -> Result<(), Refused> {
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err((
        operation,
        Errno::from_io_error(&error).unwrap_or(Errno::PERM),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::thread;

    use super::*;

    fn user(uid: u32, groups: &[u32]) -> RunAs {
        RunAs::User(Arc::new(Identity {
            user: format!("uid{uid}"),
            uid,
            gid: uid,
            groups: groups.to_vec(),
        }))
    }

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            eprintln!("skipped: switching identities takes root");
        }
        root
    }

    fn open_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        directory
    }

    fn status_line(name: &str) -> String {
        fs::read_to_string("/proc/thread-self/status")
            .unwrap()
            .lines()
            .find_map(|line| line.strip_prefix(name).map(str::trim).map(String::from))
            .unwrap()
    }

    fn create_as(run_as: &RunAs, path: &Path) -> std::io::Result<(u32, u32)> {
        ThreadIdentity::unchanged().switch_to(run_as);
        fs::write(path, b"x")?;
        let metadata = fs::metadata(path)?;
        Ok((metadata.uid(), metadata.gid()))
    }

    #[test]
    fn a_call_for_a_file_user_has_no_right_of_root_and_the_next_call_has() {
        if !is_root() {
            return;
        }
        let directory = open_directory();
        let program = directory.path().join("program");
        fs::write(&program, b"x").unwrap();
        let file = fs::File::options().write(true).open(&program).unwrap();
        let RunAs::User(somebody) = user(1234, &[]) else {
            unreachable!("user() makes users");
        };
        let mode = || fs::metadata(&program).unwrap().mode() & 0o7777;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        rustix::io::write(&file, b"y").unwrap();
        assert_eq!(mode(), 0o4755, "root's writes leave it");
        let before = status_line("CapEff:");
        let mut writer = FileUser::server();
        writer.switch_to(&somebody);
        rustix::io::write(&file, b"y").unwrap();
        drop(writer);
        assert_eq!(mode(), 0o755);
        assert_eq!(status_line("CapEff:"), before);
        let panicked = std::panic::catch_unwind(|| {
            FileUser::server().switch_to(&somebody);
            let mut writer = FileUser::server();
            writer.switch_to(&somebody);
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(status_line("CapEff:"), before);
        thread::spawn(move || {
            give_up_resources().unwrap();
            let left = u64::from_str_radix(&status_line("CapEff:"), 16).unwrap();
            assert_eq!(left & 1 << 24, 0, "CAP_SYS_RESOURCE");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn two_threads_make_files_of_two_users_at_once() {
        if !is_root() {
            return;
        }
        let directory = open_directory();
        let barrier = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            for uid in [12_001, 12_002] {
                let path = directory.path().join(uid.to_string());
                let barrier = &barrier;
                scope.spawn(move || {
                    ThreadIdentity::unchanged().switch_to(&user(uid, &[uid]));
                    barrier.wait();
                    fs::write(&path, b"x").unwrap();
                    let metadata = fs::metadata(&path).unwrap();
                    assert_eq!((metadata.uid(), metadata.gid()), (uid, uid));
                    barrier.wait();
                });
            }
        });
        assert!(rustix::process::geteuid().is_root(), "the process changed");
    }

    #[test]
    fn a_user_gets_no_further_than_the_mode_allows_and_groups_count() {
        if !is_root() {
            return;
        }
        let directory = open_directory();
        let secret = directory.path().join("secret");
        fs::write(&secret, b"x").unwrap();
        std::os::unix::fs::chown(&secret, Some(0), Some(12_005)).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
        let read_as = |run_as: RunAs| {
            let secret = secret.clone();
            thread::spawn(move || {
                ThreadIdentity::unchanged().switch_to(&run_as);
                fs::read(secret).map_err(|error| error.kind())
            })
            .join()
            .unwrap()
        };
        assert_eq!(
            read_as(user(12_001, &[12_001])),
            Err(ErrorKind::PermissionDenied)
        );
        assert_eq!(read_as(user(12_001, &[12_001, 12_005])), Ok(b"x".to_vec()));
    }

    #[test]
    fn capabilities_are_empty_while_switched_and_back_for_the_server() {
        if !is_root() {
            return;
        }
        thread::spawn(|| {
            let before = status_line("CapEff:");
            let mut identity = ThreadIdentity::unchanged();
            identity.switch_to(&user(12_001, &[12_001, 12_009]));
            assert_eq!(status_line("CapEff:"), "0000000000000000");
            assert_eq!(status_line("Groups:"), "12001 12009");
            identity.switch_to(&user(12_002, &[12_002]));
            assert_eq!(status_line("Uid:"), "0\t12002\t0\t12002");
            assert_eq!(status_line("Groups:"), "12002");
            identity.switch_to(&RunAs::Server);
            assert_eq!(status_line("CapEff:"), before);
            assert_eq!(status_line("Uid:"), "0\t0\t0\t0");
            assert_eq!(status_line("Groups:"), "");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn each_job_of_a_thread_leaves_nothing_to_the_next_user() {
        if !is_root() {
            return;
        }
        let directory = open_directory();
        let path = directory.path().join("mine");
        thread::spawn(move || {
            assert_eq!(
                create_as(&user(12_001, &[12_001]), &path).unwrap().0,
                12_001
            );
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let mut identity = ThreadIdentity::unchanged();
            identity.switch_to(&user(12_002, &[12_002]));
            assert_eq!(
                fs::read(&path).unwrap_err().kind(),
                ErrorKind::PermissionDenied
            );
        })
        .join()
        .unwrap();
    }

    /// In strict mode any system call but read, write and exit ends the process (seccomp(2)).
    #[test]
    fn a_thread_that_is_the_user_already_makes_no_system_call() {
        if !is_root() {
            return;
        }
        let pid = crate::sys::fork::fork(&[], || {
            let somebody = user(12_001, &[12_001]);
            // The same user, from another session.
            let again = user(12_001, &[12_001]);
            let mut identity = ThreadIdentity::unchanged();
            identity.switch_to(&somebody);
            // SAFETY: seccomp's strict mode takes no pointer; exit takes a number, and nothing of
            // this process, which has one thread, is used after it.
            unsafe {
                if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) != 0 {
                    return 1;
                }
                for _ in 0..1000 {
                    identity.switch_to(&somebody);
                    identity.switch_to(&again);
                }
                libc::syscall(libc::SYS_exit, 0);
            }
            2
        });
        let pid = nix::unistd::Pid::from_raw(pid.unwrap());
        let ended = nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(pid, 0));
        // What it costs where there is something to switch, for comparison.
        thread::spawn(|| {
            let (one, other) = (user(12_001, &[12_001]), user(12_002, &[12_002]));
            let mut identity = ThreadIdentity::unchanged();
            let mut timed = |first: &RunAs, second: &RunAs| {
                let began = std::time::Instant::now();
                for _ in 0..10_000 {
                    identity.switch_to(first);
                    identity.switch_to(second);
                }
                began.elapsed() / 20_000
            };
            let (same, different) = (timed(&one, &one), timed(&one, &other));
            println!("a job of the same user: {same:?}; of another user: {different:?}");
        })
        .join()
        .unwrap();
    }
}
