//! The server on the lab's server host: started, asked for its status, counted, ended. Its share
//! is a folder in memory.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto::control::status::StatusReport;
use proto::smb2::Guid;
use rustix::process::{Pid, Signal, kill_process};
use tests::lab;
use tests::server::{PASSWORD, USER};

use crate::client::RdmaClient;

/// Where it listens.
pub const ADDRESS: &str = "10.9.0.1";
/// What `share` serves.
pub const SHARE: &str = "/srv/share";
const CONFIG: &str = "/run/scenario/smb.conf";
const STATUS_SOCKET: &str = "/run/scenario/run/status";
/// Everything here is a matter of milliseconds; a loaded machine may take longer.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A running server.
pub struct Server {
    process: std::cell::RefCell<Child>,
}

/// What a server holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    connections: u64,
    queue_pairs: u64,
    memory_regions: u64,
    pinned_bytes: u64,
    /// Processes by name, children included.
    processes: BTreeMap<String, usize>,
    /// Open descriptors of those that live as long as the server.
    descriptors: BTreeMap<&'static str, usize>,
}

impl Server {
    /// Starts it and waits until it listens for RDMA.
    pub fn start() -> Server {
        for folder in [SHARE, "/run/scenario"] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(SHARE, mode).expect("chmod");
        let configuration = format!(
            "[global]\n    server smb transports = tcp, rdma\n    private dir = /run/scenario/private\n    \
             state directory = /run/scenario/state\n    lock directory = /run/scenario/run\n    \
             passdb file = /run/scenario/users\n[share]\n    path = {SHARE}\n    read only = no\n"
        );
        std::fs::write(CONFIG, configuration).expect("write smb.conf");
        add_user();
        let log = std::fs::File::create(results("smbd.log")).expect("create the log");
        let process = smbd()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start smbd");
        let server = Server {
            process: process.into(),
        };
        let deadline = Instant::now() + PATIENCE;
        while !server.serves_rdma() {
            assert!(
                Instant::now() < deadline,
                "smbd does not listen for RDMA; look into smbd.log"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn serves_rdma(&self) -> bool {
        smbd::status::ask_at(Path::new(STATUS_SOCKET))
            .ok()
            .and_then(|report| report.gateway)
            .is_some_and(|gateway| !gateway.interfaces.is_empty())
    }

    /// A client comes, reads, writes and goes.
    pub fn warm_up(&self) {
        let mut client = RdmaClient::log_on(0xff);
        let file = client.create("warm-up");
        client.write_and_check(file, 0, 1 << 20, 1);
        drop(client);
        self.wait_for("nobody is served", |report| {
            report.children.is_empty().then_some(())
        });
        std::fs::remove_file(format!("{SHARE}/warm-up")).expect("the file is there");
    }

    /// What it says of itself.
    pub fn status(&self) -> StatusReport {
        smbd::status::ask_at(Path::new(STATUS_SOCKET)).expect("the supervisor answers")
    }

    /// Asks until `wanted` finds what it wants.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, mut wanted: impl FnMut(&StatusReport) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = self.status();
            if let Some(found) = wanted(&report) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain until {what}: {report:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process that serves the client of this GUID.
    pub fn owner(&self, guid: Guid) -> i32 {
        self.wait_for("a child serves the client", |report| {
            let mut children = report.children.iter();
            let found = children.find(|child| {
                let status = child.status.as_ref();
                status.is_some_and(|status| status.client_guid == guid.0)
            });
            found.map(|child| child.pid)
        })
    }

    /// What it holds now; None while something is on its way.
    fn try_held(&self) -> Option<Held> {
        let report = self.status();
        let gateway = report.gateway.as_ref()?;
        let totals = gateway.totals.as_ref()?;
        let lasting = [
            ("supervisor", report.supervisor),
            ("zygote", report.zygote?),
            ("broker", report.broker?),
            ("smbdirectd", gateway.pid),
        ];
        let descriptors = lasting
            .into_iter()
            .map(|(name, pid)| Some((name, descriptors(pid)?)))
            .collect::<Option<_>>()?;
        Some(Held {
            connections: totals.connections,
            queue_pairs: totals.queue_pairs,
            memory_regions: totals.memory_regions,
            pinned_bytes: totals.pinned_bytes,
            processes: processes(),
            descriptors,
        })
    }

    /// What it holds once nobody is served.
    pub fn held(&self) -> Held {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        // The status connection that asked may still be closing: what is seen three times counts.
        let mut seen = 0;
        while seen < 3 {
            let now = self.try_held();
            seen = if now == last { seen + 1 } else { 0 };
            last = now;
            assert!(Instant::now() < deadline, "it never rests: {last:?}");
            std::thread::sleep(Duration::from_millis(30));
        }
        last.expect("an idle server")
    }

    /// Waits until it holds what it held before.
    pub fn wait_until_held(&self, before: &Held) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.try_held();
            if now.as_ref() == Some(before) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "it held {before:?} before, and now {now:?}: {:?}",
                self.status()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Ends it, with all it started.
    pub fn stop(&self) {
        let mut process = self.process.borrow_mut();
        let pid = Pid::from_child(&process);
        kill_process(pid, Signal::TERM).expect("the supervisor runs");
        process.wait().expect("the supervisor ends");
        assert_eq!(processes(), BTreeMap::new(), "left running");
    }
}

/// Sends a signal to a process of the server's.
pub fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("the process is there");
}

/// A file of the run's results.
pub fn results(name: &str) -> std::path::PathBuf {
    let folder = std::env::var_os("LAB_RESULTS").expect("the lab says where results go");
    Path::new(&folder).join(name)
}

fn smbd() -> Command {
    let mut command = Command::new("ip");
    let program = lab::binary("smbd").expect("smbd is built");
    command.args(["netns", "exec", "server"]).arg(program);
    command.args(["--config", CONFIG]);
    command
}

fn add_user() {
    let mut child = smbd()
        .args(["passwd", "add", USER, "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("run smbd passwd");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{PASSWORD}").expect("give the password");
    drop(input);
    assert!(child.wait().expect("smbd passwd").success());
}

fn descriptors(pid: i32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// The server's processes by name; one that has ended and was not waited for counts too.
fn processes() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").expect("/proc");
    for entry in entries.flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // pid (name) state …
        let name = stat
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'));
        if let Some((name, _)) = name
            && name.starts_with("smbd")
        {
            *found.entry(name.to_owned()).or_default() += 1;
        }
    }
    found
}
