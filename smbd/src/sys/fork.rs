//! Starting processes: forking a child out of the zygote, executing the daemons.
//!
//! Called by the zygote and the supervisor, which have one thread each. A forked child keeps
//! standard input, output, error and the descriptors named, and never returns into its parent's
//! code; an executed process finds its control socket as descriptor 0.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::SigSet;
use nix::unistd::ForkResult;
use rustix::net::{SocketType, sockopt};
use shm::SystemError;

use super::memory;

/// A child's exit status after a panic outside of any connection, as Rust's own is.
const PANICKED: i32 = 101;

/// Forks. The child closes everything but standard input, output, error and `keep`, unblocks all
/// signals, runs `body` and exits with what it returns. Returns the child's pid.
pub fn fork(keep: &[RawFd], body: impl FnOnce() -> i32) -> Result<i32, SystemError> {
    // SAFETY: the zygote has one thread, so the child's copy of the heap and of every lock is in
    // a consistent state and all of Rust may be used in it.
    match unsafe { nix::unistd::fork() }.map_err(SystemError::of("fork a child"))? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            close_all_but(keep);
            let _ = SigSet::empty().thread_set_mask();
            let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
            // SAFETY: ends the process at once. Nothing of the zygote's, whose stack this is a
            // copy of, is dropped: its descriptors' numbers are closed or mean something else.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Executes `program` with `control` as its descriptor 0, in a process group of its own, so that
/// a terminal's interrupt reaches the supervisor alone. Returns its pid; the caller reaps it.
pub fn execute(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    control: OwnedFd,
) -> Result<i32, SystemError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg0(
            program
                .file_name()
                .filter(|name| *name != "exe")
                .unwrap_or("smbd".as_ref()),
        )
        .env(TUNABLES, tunables(std::env::var_os(TUNABLES)))
        .stdin(Stdio::from(control))
        .process_group(0);
    let prepare = || {
        inherit_nothing_from(3);
        SigSet::empty().thread_set_mask().map_err(io::Error::from)
    };
    // SAFETY: between fork and exec it only marks descriptors and changes the signal mask, two
    // async-signal-safe calls; the supervisor's mask, for its signalfd, is not for others to
    // inherit.
    unsafe { command.pre_exec(prepare) };
    let process = command
        .spawn()
        .map_err(SystemError::of("start a process"))?;
    i32::try_from(process.id())
        .map_err(|_| SystemError::of("start a process")(io::ErrorKind::InvalidData))
}

/// Where glibc looks for its settings as a program starts.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Our settings, then those given from outside: of two the later one counts.
fn tunables(given: Option<OsString>) -> OsString {
    let mut tunables = OsString::from(memory::TUNABLES);
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        tunables.push(":");
        tunables.push(given);
    }
    tunables
}

/// Takes the control socket this process was executed with off descriptor 0, which becomes
/// `/dev/null`.
pub fn take_control() -> Result<OwnedFd, SystemError> {
    let stdin = io::stdin();
    if sockopt::socket_type(stdin.as_fd()) != Ok(SocketType::SEQPACKET) {
        let hint = io::Error::other(
            "standard input is no control socket; smbd starts this process itself, run plain smbd",
        );
        return Err(SystemError::of("take the control socket")(hint));
    }
    let control = rustix::io::fcntl_dupfd_cloexec(stdin.as_fd(), 3)
        .map_err(SystemError::of("take the control socket"))?;
    let null = std::fs::File::open("/dev/null").map_err(SystemError::of("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(SystemError::of("empty standard input"))?;
    Ok(control)
}

fn close_all_but(keep: &[RawFd]) {
    let mut kept: Vec<RawFd> = keep.to_vec();
    kept.extend([0, 1, 2]);
    kept.sort_unstable();
    let mut first: RawFd = 0;
    for descriptor in kept {
        if first < descriptor {
            close_range(first, descriptor - 1);
        }
        first = descriptor + 1;
    }
    close_range(first, RawFd::MAX);
}

/// Every descriptor from `first` on is closed by the exec that follows, whoever opened it: the
/// supervisor may have been started with some that it knows nothing of.
fn inherit_nothing_from(first: RawFd) {
    // SAFETY: takes integers and changes a flag of this process's descriptors, in a fresh child
    // that is about to be replaced. Kernels before 5.11 refuse, and change nothing.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            RawFd::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: called in a fresh child only, which uses no descriptor of this range again: the
    // owners of these numbers are the zygote's and are never touched or dropped there.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn an_executed_process_has_its_control_socket_as_descriptor_0_and_nothing_else() {
        let (control, other) = shm::link::pair().unwrap();
        // As if it came from whoever started the supervisor: not close-on-exec.
        let foreign = rustix::io::dup(&other).unwrap();
        let [number, foreign] = [other.as_raw_fd(), foreign.as_raw_fd()];
        let script = format!(
            "test -n \"$GLIBC_TUNABLES\" && test -S /proc/$$/fd/0 && test ! -e /proc/$$/fd/{number} && test ! -e /proc/$$/fd/{foreign}"
        );
        let pid = execute(Path::new("/bin/sh"), ["-c", &script], control).unwrap();
        let ended = waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(ended, WaitStatus::Exited(Pid::from_raw(pid), 0));
    }
}
