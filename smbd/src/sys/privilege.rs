//! Giving up privileges for good, and the limits every process inherits.
//!
//! Called once at the start of a process that has one thread.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, User, getuid, setgroups, setresgid, setresuid};
use shm::SystemError;

/// Descriptors a process may have: a busy broker holds one for each child.
const DESCRIPTORS: u64 = 262_144;

/// A user and group to run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// The account of this name, or `number` as uid and gid when there is no name.
    pub fn named(name: &str, number: u32) -> Result<Account, SystemError> {
        if name.is_empty() {
            return Ok(Account {
                uid: number,
                gid: number,
            });
        }
        let user = User::from_name(name).map_err(SystemError::of("look a user up"))?;
        let user = user.ok_or_else(|| {
            SystemError::of("look a user up")(io::Error::other(format!(
                "there is no user {name}; make one with adduser --system {name}, or leave the \
                 setting out"
            )))
        })?;
        Ok(Account {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }
}

/// Becomes `account` with no way back: no capability, no group, no new privileges, no core dump,
/// no debugger. A process that is not root can only stay who it is.
pub fn become_account(account: Account) -> Result<(), SystemError> {
    if getuid().is_root() {
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        setgroups(&[]).map_err(SystemError::of("give up groups"))?;
        setresgid(gid, gid, gid).map_err(SystemError::of("change the group"))?;
        setresuid(uid, uid, uid).map_err(SystemError::of("change the user"))?;
    }
    prctl::set_no_new_privs().map_err(SystemError::of("give up new privileges"))?;
    hold_secrets()
}

/// No core dump and no debugger but root's, for this process and those it forks.
pub fn hold_secrets() -> Result<(), SystemError> {
    prctl::set_dumpable(false).map_err(SystemError::of("forbid core dumps"))
}

/// No core dumps (they would hold keys), and as many descriptors as allowed, for this process and
/// all it starts.
pub fn set_limits() -> Result<(), SystemError> {
    // 0 stops files only. 1 stops a pipe as well (core(5), core_pattern), which systems that
    // collect core dumps have.
    setrlimit(Resource::RLIMIT_CORE, 1, 1).map_err(SystemError::of("forbid core dumps"))?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(SystemError::of("read the limit of open files"))?;
    let wanted = match getuid().is_root() {
        true => hard.max(DESCRIPTORS),
        false => hard,
    };
    setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .map_err(SystemError::of("raise the limit of open files"))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;
    use crate::sys::fork::fork;

    #[test]
    fn a_process_that_crashes_leaves_no_core_to_a_file_or_a_collector() {
        let pid = fork(&[], || {
            let prepared = set_limits().is_ok() && hold_secrets().is_ok();
            if !prepared || getrlimit(Resource::RLIMIT_CORE).ok() != Some((1, 1)) {
                return 1;
            }
            std::process::abort()
        });
        let ended = waitpid(Pid::from_raw(pid.unwrap()), None).unwrap();
        let WaitStatus::Signaled(_, Signal::SIGABRT, dumped) = ended else {
            panic!("{ended:?}");
        };
        assert!(!dumped);
    }
}
