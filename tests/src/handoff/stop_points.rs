//! Stops the server's processes between two steps: at places of theirs (`smbd::stop_point`), or from
//! outside, wherever they are.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::hazards::{Process, family, signal};

/// A step takes milliseconds; a loaded machine may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The folder of points asked for.
pub struct StopPoints {
    folder: TempDir,
}

impl StopPoints {
    /// A folder in which every process of the server may take files away.
    pub fn new() -> StopPoints {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))
            .expect("chmod");
        StopPoints { folder }
    }

    /// What `SMBDIRECT_STOP_POINTS` names.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The next process that gets there stops.
    pub fn set(&self, point: &str) {
        File::create(self.folder.path().join(point)).expect("make a stop point");
    }

    /// Waits until a process of the server has stopped at each of these points; `others` are
    /// stopped already.
    pub fn wait(&self, supervisor: i32, points: &[&str], others: &[i32]) -> Vec<i32> {
        let is_set = |point: &&str| self.folder.path().join(point).exists();
        wait_until(&format!("somebody stops at {points:?}"), || {
            if points.iter().any(is_set) {
                return None;
            }
            let stopped = |found: &Process| found.state == 'T' && !others.contains(&found.pid);
            let stopped = family(supervisor).into_iter().filter(stopped);
            let stopped: Vec<i32> = stopped.map(|found| found.pid).collect();
            (stopped.len() == points.len()).then_some(stopped)
        })
    }
}

/// Stops a process, and returns once it has.
pub fn freeze(pid: i32) {
    signal(pid, Signal::STOP);
    wait_until("it stops", || (state(pid)? == 'T').then_some(()));
}

/// Waits until a process sleeps: it has said what it had to say.
pub fn wait_until_idle(pid: i32) {
    wait_until("it waits for something", || {
        (state(pid)? == 'S').then_some(())
    });
}

/// Waits until no thread of these processes has anything to do, for as long as a wakeup may take.
pub fn wait_until_all_idle(pids: &[i32]) {
    const LOOKS: u32 = 3;
    let mut looks = 0;
    wait_until("nobody has anything to do", || {
        let sleeps = |thread: &i32| state(*thread) == Some('S');
        let all = pids.iter().all(|pid| threads(*pid).iter().all(sleeps));
        looks = if all { looks + 1 } else { 0 };
        (looks == LOOKS).then_some(())
    });
}

fn threads(pid: i32) -> Vec<i32> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/task"));
    let names = listed.into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Lets it go on, if it is still there.
pub fn thaw(pid: i32) {
    let _ = kill_process(Pid::from_raw(pid).expect("a pid"), Signal::CONT);
}

/// Kills a process, and returns once it runs no more.
pub fn kill(pid: i32) {
    signal(pid, Signal::KILL);
    wait_until("it is dead", || match state(pid) {
        None | Some('Z' | 'X') => Some(()),
        Some(_) => None,
    });
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
