//! strace on a process of the server's: holds up its file calls, or shows which calls carry bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{PATIENCE, results, signal};
use crate::lab::skip;

/// Calls that carry bytes between a process and anything else.
const CARRYING: &str = "read,write,readv,writev,pread64,pwrite64,preadv,pwritev,preadv2,pwritev2,\
    recvfrom,sendto,recvmsg,sendmsg,splice,sendfile,copy_file_range,process_vm_readv,process_vm_writev";

/// A running strace.
pub struct Strace {
    process: Child,
    log: PathBuf,
}

impl Strace {
    /// Whether it is installed. If not, the test is reported as skipped, which ends a guest's run.
    pub fn is_there_or_skip() -> bool {
        let version = Command::new("strace").arg("-V").output();
        let there = version.is_ok_and(|output| output.status.success());
        let reason = "strace is not installed ('./x setup' does it)";
        if !there && std::env::var_os("LAB_RESULTS").is_some() {
            std::fs::write(results("skip"), reason).expect("say so");
            std::process::exit(77);
        }
        if !there {
            skip::report(reason);
        }
        there
    }

    /// Holds up the payload calls on the files of these names that the process has open.
    pub fn hold_up(pid: i32, names: &[&str], time: Duration) -> Strace {
        let delay = format!("inject=preadv,pwritev2:delay_enter={}", time.as_micros());
        let mut arguments = vec!["-e", "trace=preadv,pwritev2", "-e", &delay];
        let paths: Vec<String> = names.iter().map(|name| open_path(pid, name)).collect();
        for path in &paths {
            arguments.extend(["-P", path]);
        }
        Strace::attach(pid, &arguments)
    }

    /// Watches every call by which a process can take or give bytes.
    pub fn count_bytes(pid: i32) -> Strace {
        Strace::attach(pid, &["-s", "0", "-e", &format!("trace={CARRYING}")])
    }

    /// Ends it; how many bytes each call carried.
    pub fn bytes_by_call(self) -> BTreeMap<String, u64> {
        let mut bytes = BTreeMap::<String, u64>::new();
        for line in self.detach().lines() {
            // PID call(…) = N, or PID <... call resumed>…) = N.
            let call = line.split_whitespace().find(|word| {
                let name = word.split('(').next().unwrap_or_default();
                CARRYING.split(',').any(|known| known == name)
            });
            let result = line.rsplit_once(" = ").map(|(_, result)| result);
            let count: Option<u64> =
                result.and_then(|result| result.split_whitespace().next()?.parse().ok());
            if let (Some(call), Some(count)) = (call, count) {
                let name = call.split('(').next().unwrap_or_default().to_owned();
                *bytes.entry(name).or_default() += count;
            }
        }
        bytes
    }

    /// Attaches to all threads of the process.
    fn attach(pid: i32, arguments: &[&str]) -> Strace {
        let log = results(&format!("strace-{pid}"));
        let process = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-o"])
            .arg(&log)
            .args(arguments)
            .stderr(Stdio::null())
            .spawn()
            .expect("run strace");
        let deadline = Instant::now() + PATIENCE;
        while !is_traced(pid) {
            assert!(Instant::now() < deadline, "strace does not attach");
            std::thread::sleep(Duration::from_millis(10));
        }
        Strace { process, log }
    }

    /// What it saw so far; a call that has begun stands there without its result.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it; what it saw.
    pub fn detach(mut self) -> String {
        signal(self.process.id() as i32, Signal::INT);
        self.process.wait().expect("strace ends");
        self.log()
    }
}

/// The path of an open file as the kernel shows it: the guest's root is not the kernel's.
fn open_path(pid: i32, name: &str) -> String {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let mut paths = descriptors
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let path = paths.find(|path| path.ends_with(name));
    let path = path.expect("the file is open").into_os_string();
    path.into_string().expect("a plain path")
}

/// Whether each thread of the process has a tracer.
fn is_traced(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let mut lines = status.lines();
        lines.any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}
