//! What smbdirectd gives up before it opens a device: every capability but binding low ports, its
//! user, its core dumps; and what it takes: as much locked memory as its budget says. Called once
//! from `main`, before anything is opened.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use shm::SystemError;

/// Why the privileges could not be set as they must be.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// A capability call failed.
    #[error("set capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
}

/// No core dump of other people's data, no new privileges, never longer alive than the supervisor.
pub fn confine() -> Result<(), PrivilegeError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(SystemError::of("forbid core dumps"))?;
    prctl::set_no_new_privs().map_err(SystemError::of("forbid new privileges"))?;
    die_with_parent()
}

/// Raises the locked-memory limit to `pinned`, then becomes `uid` and `gid` (0 stays root) with
/// CAP_NET_BIND_SERVICE alone. Answers the bytes it may lock now.
pub fn drop_to(uid: u32, gid: u32, pinned: u64) -> Result<u64, PrivilegeError> {
    let locked = raise_memory_limit(pinned)?;
    if uid != 0 {
        prctl::set_keepcaps(true).map_err(SystemError::of("keep capabilities"))?;
        setgroups(&[]).map_err(SystemError::of("drop supplementary groups"))?;
        setgid(Gid::from_raw(gid)).map_err(SystemError::of("set the group"))?;
        setuid(Uid::from_raw(uid)).map_err(SystemError::of("set the user"))?;
    }
    let wanted = CapsHashSet::from([Capability::CAP_NET_BIND_SERVICE]);
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = wanted.intersection(&permitted).copied().collect();
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    // Changing the user forgets both.
    prctl::set_dumpable(false).map_err(SystemError::of("forbid core dumps"))?;
    die_with_parent()?;
    Ok(locked)
}

fn die_with_parent() -> Result<(), PrivilegeError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(SystemError::of("follow the supervisor"))?;
    Ok(())
}

/// A lower limit than wanted is no reason to stop: less is served then.
fn raise_memory_limit(pinned: u64) -> Result<u64, SystemError> {
    if setrlimit(Resource::RLIMIT_MEMLOCK, pinned, pinned).is_ok() {
        return Ok(pinned);
    }
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK);
    let (_, hard) = limit.map_err(SystemError::of("read the limit of locked memory"))?;
    let lowered = pinned.min(hard);
    setrlimit(Resource::RLIMIT_MEMLOCK, lowered, lowered)
        .map_err(SystemError::of("set the limit of locked memory"))?;
    Ok(lowered)
}
