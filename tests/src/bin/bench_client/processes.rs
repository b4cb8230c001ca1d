//! What the processes of a server cost: processor time and memory, as /proc tells. A server is the process that was
//! started and all that descend from it; nothing of another server is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// The processes of a server that were alive at one moment.
#[derive(Debug)]
pub struct ProcessTree {
    statuses: Vec<Status>,
}

/// What is of interest in /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Status {
    pid: u32,
    parent: u32,
    /// Clock ticks in user and kernel mode, of the process and of the children it has waited for.
    ticks: u64,
}

impl ProcessTree {
    /// `root` and its descendants.
    pub fn of(root: u32) -> ProcessTree {
        let all: BTreeMap<u32, Status> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(|pid| Status::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
            .map(|status| (status.pid, status))
            .collect();
        let statuses = all
            .values()
            .filter(|status| descends(&all, status.pid, root))
            .copied()
            .collect();
        ProcessTree { statuses }
    }

    /// Processor time of all of them, and of those that have ended and were waited for.
    pub fn cpu_time(&self) -> Duration {
        let ticks: u64 = self.statuses.iter().map(|status| status.ticks).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1))
    }

    pub fn pids(&self) -> BTreeSet<u32> {
        self.statuses.iter().map(|status| status.pid).collect()
    }
}

fn descends(all: &BTreeMap<u32, Status>, pid: u32, root: u32) -> bool {
    let mut ancestor = pid;
    while ancestor != root {
        match all.get(&ancestor) {
            Some(status) if status.parent != 0 => ancestor = status.parent,
            _ => return false,
        }
    }
    true
}

impl Status {
    /// Reads a line of proc(5)'s stat. The command's name may hold blanks and brackets, so fields count from its end.
    fn parse(line: &str) -> Option<Status> {
        let (before, after) = line.rsplit_once(')')?;
        let pid = before.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        // The third field of the line is the first here: ppid is the 4th; utime, stime, cutime, cstime 14th to 17th.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Status {
            pid,
            parent: number(4)? as u32,
            ticks: number(14)? + number(15)? + number(16)? + number(17)?,
        })
    }
}

/// Proportional set size in KiB: private memory, and of shared memory this process' part.
pub fn pss_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 100 200 0 0 11 12 13 14 20 0 1 0 999";
        let expected = Status {
            pid: 42,
            parent: 7,
            ticks: 11 + 12 + 13 + 14,
        };
        assert_eq!(Status::parse(line), Some(expected));
        assert_eq!(Status::parse("42 (cut short"), None);
    }

    #[test]
    fn a_child_belongs_to_its_parent_and_not_to_its_sister() {
        let status = |pid, parent| {
            let ticks = 0;
            (pid, Status { pid, parent, ticks })
        };
        let all = BTreeMap::from([status(1, 0), status(10, 1), status(11, 10), status(12, 11)]);
        assert!(descends(&all, 12, 10));
        assert!(descends(&all, 10, 10));
        assert!(!descends(&all, 10, 11));
        assert!(!descends(&all, 99, 10));
    }

    #[test]
    fn this_process_takes_memory_and_is_in_its_own_tree() {
        let own = std::process::id();
        assert!(pss_kib(own).is_some_and(|kib| kib > 0));
        assert!(ProcessTree::of(own).pids().contains(&own));
    }
}
