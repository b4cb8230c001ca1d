//! The smbdirectd process, whoever started it, and what it holds.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fabric::rdma::Fabric;
use proto::control::gateway::GatewaySettings;
use tempfile::TempDir;

use crate::client::simulated::{Behaviour, SmbDirect};
use crate::gateway::{Supervisor, settings};
use crate::lab;

/// How long anything may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what has come: smbdirectd may share the processor with who looks.
pub const TURN: Duration = Duration::from_micros(20);
/// Parts a region may grow to.
pub const MAX_PARTS: u32 = 4;

/// smbdirectd on a fabric of its own.
pub struct Theatre {
    supervisor: Supervisor,
    folder: TempDir,
    pid: u32,
}

/// What smbdirectd holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    connections: u64,
    queue_pairs: u64,
    memory_regions: u64,
    pinned_bytes: u64,
    descriptors: usize,
}

impl Theatre {
    /// Starts it and waits until it listens.
    pub fn open() -> Result<Theatre, lab::LabError> {
        let program = lab::binary("smbdirectd-simulated")?;
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(program);
        command
            .env("SMBDIRECT_FABRIC", folder.path())
            .env("SMBDIRECT_FABRIC_DEVICES", "server0=10.9.0.1")
            // It has a line to say about each connection.
            .env("SMBDIRECT_LOG", "error")
            .stderr(Stdio::inherit());
        let settings = GatewaySettings {
            uid: 0,
            gid: 0,
            client_memory: u64::from(MAX_PARTS) * (8 << 20),
            ..settings()
        };
        let supervisor = Supervisor::start(command, settings);
        let pid = supervisor.pid();
        let mut theatre = Theatre {
            supervisor,
            folder,
            pid,
        };
        theatre.until("smbdirectd listens", |theatre| {
            !theatre.supervisor.interfaces.is_empty()
        });
        Ok(theatre)
    }

    /// A client of a device of its own.
    pub fn connect(&self, host: u8) -> SmbDirect {
        let address: IpAddr = [10, 9, 1, host].into();
        Fabric::new(self.folder.path(), &format!("client{host}"), address).enter();
        let server: SocketAddr = "10.9.0.1:445".parse().expect("an address");
        SmbDirect::connect(server, Behaviour::default()).expect("smbdirectd accepts")
    }

    /// The child's end of the next connection, while `client` sends its first message.
    pub fn announced(&mut self, client: &mut SmbDirect) -> OwnedFd {
        let deadline = Instant::now() + PATIENCE;
        loop {
            client.drive().expect("a client that can be driven");
            self.supervisor.turn();
            if let Some(announced) = self.supervisor.announced.pop_front() {
                return announced.socket;
            }
            assert!(
                Instant::now() < deadline,
                "a connection was never announced"
            );
            std::thread::sleep(TURN);
        }
    }

    /// Takes what smbdirectd says, until `done`; it is one process all the time.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Theatre) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // It panics where smbdirectd has ended.
            self.supervisor.turn();
            if done(self) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::sleep(TURN);
        }
    }

    /// What it holds now.
    pub fn held(&mut self) -> Held {
        self.supervisor.query();
        self.until("it answers", |theatre| theatre.supervisor.status.is_some());
        let (_, totals) = self.supervisor.status.take().expect("just seen");
        let folder = format!("/proc/{}/fd", self.pid);
        Held {
            connections: totals.connections,
            queue_pairs: totals.queue_pairs,
            memory_regions: totals.memory_regions,
            pinned_bytes: totals.pinned_bytes,
            descriptors: std::fs::read_dir(folder).expect("it runs").count(),
        }
    }

    /// Waits until it holds what it held before.
    #[track_caller]
    pub fn wait_until_held(&mut self, before: &Held) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.held();
            if now == *before {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "it held {before:?} before, and now {now:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident KiB of smbdirectd.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.expect("it runs");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.expect("VmRSS")
    }

    /// Ends it in order.
    pub fn close(self) {
        assert!(self.supervisor.shut_down(), "smbdirectd did not end well");
    }
}
