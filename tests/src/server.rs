//! A server of ours for one test: its own folders, users, configuration and TCP port on loopback.
//! Started in the foreground and ended, with all it started, when dropped. Tests that need RDMA
//! run it in the lab's guest instead.

use std::ffi::OsString;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lab::{self, LabError};

/// The user every test server knows: an account each Debian has.
pub const USER: &str = "nobody";
/// Its password.
pub const PASSWORD: &str = "Secret-1";
/// A second user.
pub const OTHER_USER: &str = "games";
/// Its password.
pub const OTHER_PASSWORD: &str = "Secret-2";

/// A running server.
pub struct Server {
    process: Child,
    folder: TempDir,
    address: SocketAddr,
}

/// What a server is started with.
#[derive(Debug, Default)]
pub struct ServerBuilder {
    global: String,
    shares: Vec<(String, String)>,
    fabric: Option<PathBuf>,
    in_lab: bool,
    /// What its processes find in their environment.
    environment: Vec<(String, OsString)>,
    /// Files or folders it sees in other places.
    binds: Vec<(PathBuf, PathBuf)>,
    /// Shares on a file system of their own, and its size as mount says it.
    volumes: Vec<(String, String)>,
}

impl ServerBuilder {
    /// A line of the `[global]` section.
    pub fn global(mut self, line: &str) -> Self {
        self.global.push_str(&format!("    {line}\n"));
        self
    }

    /// A share of this name with these lines; its path is a new folder that [`USER`] owns.
    pub fn share(mut self, name: &str, lines: &str) -> Self {
        self.shares.push((name.into(), lines.into()));
        self
    }

    /// Serves SMB Direct too, on the simulated fabric in this folder, at 10.9.0.1.
    pub fn on_fabric(mut self, fabric: &Path) -> Self {
        self.fabric = Some(fabric.to_owned());
        self
    }

    /// Lets it see a file or a folder in another place, in a mount namespace of its own.
    pub fn bind(mut self, source: &Path, place: &str) -> Self {
        self.binds.push((source.to_owned(), place.into()));
        self
    }

    /// A variable of its processes' environment.
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs it on the server's host of the lab, with SMB Direct: the caller is in the guest.
    pub fn in_lab(mut self) -> Self {
        self.in_lab = true;
        self
    }

    /// Puts a share on a file system of this size, in memory and in a mount namespace of the
    /// server's own: nobody else sees it.
    pub fn volume(mut self, share: &str, size: &str) -> Self {
        self.volumes.push((share.into(), size.into()));
        self
    }

    /// Starts it and waits until its port answers. A machine that cannot run it is a skip.
    pub fn start(self) -> Result<Server, LabError> {
        let smbd = lab::binary("smbd")?;
        if !rustix::process::getuid().is_root() {
            return Err(LabError::Skip(
                "a server that acts as its users must be started by root".into(),
            ));
        }
        let folder = tempfile::Builder::new()
            .prefix("smbdirect-test-")
            .tempdir_in(memory_folder())
            .expect("a temporary folder");
        // In the lab the usual one, by which a recording is decoded.
        let port = match self.in_lab {
            true => 445,
            false => free_port(),
        };
        let config = self.configuration(folder.path(), port);
        std::fs::write(folder.path().join("smb.conf"), config).expect("write smb.conf");
        let log = std::fs::File::create(folder.path().join("smbd.log")).expect("create the log");
        for (user, password) in [(USER, PASSWORD), (OTHER_USER, OTHER_PASSWORD)] {
            add_user(&smbd, folder.path(), user, password);
        }
        let mut command = self.command(&smbd, folder.path());
        if let Some(fabric) = &self.fabric {
            command = self.command(&programs_on_fabric(folder.path(), &smbd)?, folder.path());
            command
                .env("SMBDIRECT_FABRIC", fabric)
                .env("SMBDIRECT_FABRIC_DEVICES", "simulated0=10.9.0.1");
            // smbdirectd makes its sockets there, as a user of its own.
            set_mode(fabric, 0o777);
        }
        let process = command
            .envs(self.environment.iter().cloned())
            .arg("--config")
            .arg(folder.path().join("smb.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start smbd");
        let server = Server {
            process,
            folder,
            address: (self.host(), port).into(),
        };
        server.wait_until_up();
        Ok(server)
    }

    /// Where it is reached over TCP.
    fn host(&self) -> Ipv4Addr {
        match self.in_lab {
            true => Ipv4Addr::new(10, 9, 0, 1),
            false => Ipv4Addr::LOCALHOST,
        }
    }

    /// Starts `smbd`, on the lab's server and behind a shell that mounts its volumes, as asked.
    fn command(&self, smbd: &Path, folder: &Path) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.in_lab {
            words.extend(["ip", "netns", "exec", "server"].map(OsString::from));
        }
        if !self.volumes.is_empty() || !self.binds.is_empty() {
            let mut script = String::from("set -e; ");
            for (source, place) in &self.binds {
                script += &format!("mount --bind {} {}; ", source.display(), place.display());
            }
            for (share, size) in &self.volumes {
                let path = folder.join("shares").join(share);
                let at = path.display();
                script += &format!("mount -t tmpfs -o mode=0777,size={size} tmpfs {at}; ");
            }
            script += "exec \"$0\" \"$@\"";
            let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c"];
            words.extend(unshare.map(OsString::from));
            words.push(script.into());
        }
        words.push(smbd.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    fn configuration(&self, folder: &Path, port: u16) -> String {
        let at = folder.display();
        let has_rdma = self.in_lab || self.fabric.is_some();
        let rdma = if has_rdma { ", rdma" } else { "" };
        let mut text = format!(
            "[global]\n    server smb transports = tcp:{port}{rdma}\n    private dir = {at}/private\n    \
             state directory = {at}/state\n    lock directory = {at}/run\n    \
             passdb file = {at}/users\n{}",
            self.global
        );
        // The processes that are not root must reach their folders.
        set_mode(folder, 0o755);
        let owner = nix::unistd::User::from_name(USER)
            .ok()
            .flatten()
            .expect("the test's account");
        for (name, lines) in &self.shares {
            let path = folder.join("shares").join(name);
            std::fs::create_dir_all(&path).expect("make a share's folder");
            chown(&path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("chown");
            set_mode(&path, 0o777);
            text.push_str(&format!(
                "[{name}]\n    path = {}\n{lines}\n",
                path.display()
            ));
        }
        text
    }
}

impl Server {
    /// One with a writable share called `share`.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The usual one: a writable share `share`. `None`, noted as a skip, where it cannot run.
    pub fn start_or_skip() -> Option<Server> {
        Server::builder()
            .share("share", "    read only = no")
            .start_or_skip()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The supervisor's pid.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its folder: `smb.conf`, `smbd.log`, `shares/NAME`, `run`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of a share.
    pub fn share(&self, name: &str) -> PathBuf {
        self.folder().join("shares").join(name)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("smbd.log")).unwrap_or_default()
    }

    /// Runs `smbd passwd` on its users.
    pub fn passwd(&self, arguments: &[&str]) {
        let smbd = lab::binary("smbd").expect("it was started");
        let output = Command::new(smbd)
            .arg("--config")
            .arg(self.folder().join("smb.conf"))
            .arg("passwd")
            .args(arguments)
            .output()
            .expect("run smbd passwd");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "smbd passwd {arguments:?}: {said}");
    }

    /// What `smbd status --json` says.
    pub fn status(&self) -> String {
        let smbd = lab::binary("smbd").expect("it was started");
        let output = Command::new(smbd)
            .arg("--config")
            .arg(self.folder().join("smb.conf"))
            .args(["status", "--json"])
            .output()
            .expect("run smbd status");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address()).is_err() {
            assert!(
                Instant::now() < deadline,
                "the server does not answer; it logged:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl ServerBuilder {
    /// As [`ServerBuilder::start`]; where it cannot run, the test is noted as skipped.
    pub fn start_or_skip(self) -> Option<Server> {
        match self.start() {
            Ok(server) => Some(server),
            Err(LabError::Skip(reason)) => {
                lab::skip::report(&reason);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The supervisor ends what it started; killing it outright would not let it.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.process.try_wait() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the server logged:\n{}", self.log());
        }
    }
}

/// smbd beside a smbdirectd that is the simulated one; smbd starts what lies beside it.
fn programs_on_fabric(folder: &Path, smbd: &Path) -> Result<PathBuf, LabError> {
    let simulated = lab::binary("smbdirectd-simulated")?;
    let programs = folder.join("programs");
    std::fs::create_dir(&programs).expect("a folder for programs");
    std::fs::copy(simulated, programs.join("smbdirectd")).expect("copy smbdirectd");
    let smbd_there = programs.join("smbd");
    std::fs::copy(smbd, &smbd_there).expect("copy smbd");
    Ok(smbd_there)
}

fn add_user(smbd: &Path, folder: &Path, user: &str, password: &str) {
    let mut child = Command::new(smbd)
        .arg("--config")
        .arg(folder.join("smb.conf"))
        .args(["passwd", "add", user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run smbd passwd");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{password}").expect("give the password");
    drop(input);
    let output = child.wait_with_output().expect("smbd passwd");
    assert!(
        output.status.success(),
        "smbd passwd add {user}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A port nobody has now, and that no test running beside this one is about to take: tests are
/// processes, so each begins at a place of its own below the ports the kernel gives to clients.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    /// Prime, so that two tests' sequences meet late.
    const STEP: u32 = 7_919;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(turn < COUNT, "every port is in use");
        let place = (std::process::id() % COUNT + turn * STEP) % COUNT;
        let port = (FIRST + place) as u16;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// tmpfs where there is one: it has user xattrs and no surprises in allocation sizes.
fn memory_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}
