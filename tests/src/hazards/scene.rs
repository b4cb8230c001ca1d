//! The server at play: started on its ground, asked for its status, counted, ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::control::broker::BrokerTotals;
use proto::control::status::StatusReport;
use proto::smb2::Guid;
use rustix::process::{Pid, Signal, kill_process};

use super::client::transport;
use super::{Ground, Load, RdmaClient};
use crate::client::{ClientError, Connection, Tcp};
use crate::server::{Server, ServerBuilder};

/// Where it is reached over RDMA.
pub const ADDRESS: &str = "10.9.0.1";
/// Everything here is a matter of milliseconds; a loaded machine may take longer.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A running server.
pub struct Scene {
    server: Server,
    ground: Ground,
}

/// What a server holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    connections: u64,
    queue_pairs: u64,
    memory_regions: u64,
    pinned_bytes: u64,
    /// Clients, opens and connections on their way to an owner.
    brokered: BrokerTotals,
    /// Processes by name, children included.
    processes: BTreeMap<String, usize>,
    /// Open descriptors of those that live as long as the server.
    descriptors: BTreeMap<&'static str, usize>,
}

impl Scene {
    /// Starts it and waits until it listens for RDMA. `None`, noted as a skip, where it cannot run.
    pub fn start(ground: Ground) -> Option<Scene> {
        let builder = Server::builder().share("share", "    read only = no");
        Scene::start_as(builder, ground)
    }

    /// As [`Scene::start`], a server of one's own making.
    pub fn start_as(builder: ServerBuilder, ground: Ground) -> Option<Scene> {
        let builder = match &ground {
            Ground::Lab => builder.in_lab(),
            Ground::Fabric(folder) => builder.on_fabric(folder),
        };
        let server = builder.start_or_skip()?;
        let scene = Scene { server, ground };
        scene.wait_for("it listens for RDMA", |report| {
            let gateway = report.gateway.as_ref()?;
            (!gateway.interfaces.is_empty()).then_some(())
        });
        Some(scene)
    }

    /// A client that is logged on, from a host of its own.
    pub fn client(&self, last: u8) -> RdmaClient {
        RdmaClient::log_on(&self.ground, last, None)
    }

    /// The same, granting no more credits than this.
    pub fn client_granting(&self, last: u8, credits: u16) -> RdmaClient {
        RdmaClient::log_on(&self.ground, last, Some(credits))
    }

    /// A TCP connection on which nothing was said yet.
    pub fn connect_tcp(&self) -> Result<Connection, ClientError> {
        Ok(Connection::new(Tcp::connect(self.server.address())?))
    }

    /// The same, from an address of this machine.
    pub fn connect_tcp_from(&self, local: Ipv4Addr) -> Result<Connection, ClientError> {
        let transport = Tcp::connect_from(local, self.server.address())?;
        Ok(Connection::new(transport))
    }

    /// An SMB Direct connection, from a host of this number, on which nothing was said yet.
    pub fn connect_rdma(&self, host: u8) -> Result<Connection, ClientError> {
        Ok(Connection::new(transport(&self.ground, host)?))
    }

    /// What `smbd status --json` says.
    pub fn status_json(&self) -> String {
        self.server.status()
    }

    /// Where it plays.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// A client at work.
    pub fn load(&self, last: u8) -> Load {
        Load::over_rdma(&self.ground, last)
    }

    /// A file of the share, as the server sees it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.server.share("share").join(name)
    }

    /// Where it is reached over TCP.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// A client comes, reads, writes and goes.
    pub fn warm_up(&self) {
        let mut client = self.client(0xf0);
        let file = client.create("warm-up");
        client.write_and_check(file, 0, 1 << 20, 1);
        drop(client);
        self.wait_for("nobody is served", |report| {
            report.children.is_empty().then_some(())
        });
        std::fs::remove_file(self.file("warm-up")).expect("the file is there");
    }

    /// What it says of itself.
    pub fn status(&self) -> StatusReport {
        let socket = self.server.folder().join("run/status");
        smbd::status::ask_at(&socket).expect("the supervisor answers")
    }

    /// Asks until `wanted` finds what it wants.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, wanted: impl FnMut(&StatusReport) -> Option<T>) -> T {
        self.wait_at_most(PATIENCE, what, wanted)
    }

    /// As [`Scene::wait_for`], with more patience or less.
    pub fn wait_at_most<T>(
        &self,
        patience: Duration,
        what: &str,
        mut wanted: impl FnMut(&StatusReport) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + patience;
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
            brokered: report.brokered?,
            processes: processes(report.supervisor),
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
    pub fn stop(self) {
        let supervisor = self.status().supervisor;
        drop(self.server);
        assert_eq!(processes(supervisor), BTreeMap::new(), "left running");
    }
}

/// Sends a signal to a process of the server's.
pub fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("the process is there");
}

/// A file for a log: of the lab's results, or a temporary one.
pub fn results(name: &str) -> PathBuf {
    let folder = std::env::var_os("LAB_RESULTS").map(PathBuf::from);
    folder.unwrap_or_else(std::env::temp_dir).join(name)
}

fn descriptors(pid: i32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// A process and all it started, by name; one that has ended and was not waited for counts too.
fn processes(root: i32) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for process in family(root) {
        *found.entry(process.name).or_default() += 1;
    }
    found
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub name: String,
    /// R, S, T (stopped), Z (ended and not waited for) …
    pub state: char,
}

/// A process and all it started.
pub fn family(root: i32) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let mut all: Vec<Process> = entries
        .flatten()
        .filter_map(|entry| identity(&entry.path()))
        .collect();
    let mut family = BTreeSet::from([root]);
    loop {
        let known = family.len();
        let children = all.iter().filter(|found| family.contains(&found.parent));
        let children: Vec<i32> = children.map(|found| found.pid).collect();
        family.extend(children);
        if family.len() == known {
            break;
        }
    }
    all.retain(|found| family.contains(&found.pid));
    all
}

fn identity(process: &Path) -> Option<Process> {
    // pid (name) state parent …
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut words = rest.split_whitespace();
    Some(Process {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        state: words.next()?.chars().next()?,
        parent: words.next()?.parse().ok()?,
    })
}
