//! Runs a script in the lab's guest: two hosts joined by soft-RoCE on a machine that has no RDMA.
//! Owns the call of `tests/lab/run.sh` and the reading of what it leaves behind; every test that needs a device, a
//! namespace or root calls it. It never boots anything itself, and never takes a machine that cannot run the lab for
//! a test that passed: that is [`LabError::Skip`], which [`GuestBuilder::run_or_skip`] reports as skipped.

mod capture;
pub mod skip;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

pub use capture::Capture;

/// Exit statuses of `run.sh` that are not the script's own.
const STATUS_SKIPPED: i32 = 77;
const STATUS_TIMED_OUT: i32 = 124;
const STATUS_SILENT: i32 = 125;
const STATUS_MISUSED: i32 = 126;

#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// This machine cannot run the lab, or the script said that it cannot run here.
    #[error("{0}")]
    Skip(String),
    #[error("{operation}: {source}")]
    Io {
        operation: String,
        source: io::Error,
    },
    /// The guest was described wrongly; the text is what `run.sh` had to say.
    #[error("the lab refused to start: {0}")]
    Misused(String),
}

/// How a guest came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The script ran to its end with this exit status.
    Status(i32),
    /// The guest ended without handing over a status. That is a failure, whatever the script did.
    Silent,
    /// The guest was killed at its time limit.
    TimedOut,
}

/// The RDMA devices on the links between the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RdmaKind {
    /// Soft-RoCE.
    Rxe,
    /// Soft-iWARP.
    Siw,
    None,
}

#[derive(Debug)]
pub struct Guest;

impl Guest {
    /// For a script of `tests/lab` that starts our server: it finds both daemons by `$SMBDIRECT_BIN_DIR`. `None` after
    /// the test was reported as skipped.
    pub fn of_our_server(script: &str) -> Option<GuestBuilder> {
        let smbd = match binary("smbdirectd").and_then(|_| binary("smbd")) {
            Ok(smbd) => smbd,
            Err(LabError::Skip(reason)) => {
                skip::report(&reason);
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let folder = smbd.parent().expect("a file is in a folder");
        let guest = Guest::builder()
            .script_file(lab_folder().join(script))
            .environment("SMBDIRECT_BIN_DIR", folder.display().to_string());
        Some(guest)
    }

    pub fn builder() -> GuestBuilder {
        GuestBuilder {
            script: Script::Text(String::new()),
            arguments: Vec::new(),
            environment: Vec::new(),
            links: 1,
            rdma: RdmaKind::Rxe,
            memory_mib: 2048,
            time_limit: Duration::from_secs(120),
            capture: false,
        }
    }
}

/// Times a guest is booted for a test whose client's kernel panics by itself.
const TRIES: usize = 3;

#[derive(Debug)]
enum Script {
    Text(String),
    File(PathBuf),
}

#[derive(Debug)]
#[must_use = "a guest is booted by run() or run_or_skip()"]
pub struct GuestBuilder {
    script: Script,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    links: u8,
    rdma: RdmaKind,
    memory_mib: u32,
    time_limit: Duration,
    capture: bool,
}

impl GuestBuilder {
    /// A bash script. `tests/lab/hosts.sh` is sourced before its first line, and a failing command ends it.
    pub fn script(mut self, text: &str) -> Self {
        self.script = Script::Text(format!("set -eu\n. \"$LAB/hosts.sh\"\n{text}\n"));
        self
    }

    /// A bash script in a file, run as it is.
    pub fn script_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.script = Script::File(path.into());
        self
    }

    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Veth pairs between the hosts, each with an RDMA device at each end: two for multichannel.
    pub fn links(mut self, links: u8) -> Self {
        self.links = links;
        self
    }

    pub fn rdma(mut self, kind: RdmaKind) -> Self {
        self.rdma = kind;
        self
    }

    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// From the guest's start on; waiting for a free core does not count.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Records the server's side of each link. Costs two to three seconds at the end.
    pub fn capture(mut self, capture: bool) -> Self {
        self.capture = capture;
        self
    }

    /// Boots the guest, runs the script, waits for the end. The guest ends with the returned value at the latest.
    pub fn run(&self) -> Result<Outcome, LabError> {
        let results = tempfile::Builder::new()
            .prefix("smbdirect-lab.")
            .tempdir()
            .map_err(|source| failed("make a results folder", source))?;
        let script = match &self.script {
            Script::File(path) => path.clone(),
            Script::Text(text) => {
                let path = results.path().join("script.sh");
                fs::write(&path, text).map_err(|source| failed("write the script", source))?;
                path
            }
        };
        let output = self
            .command(results.path(), &script)
            .output()
            .map_err(|source| failed("start tests/lab/run.sh", source))?;
        let words = || {
            let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
            String::from_utf8_lossy(&all).trim().to_owned()
        };
        let ending = match output.status.code() {
            Some(STATUS_SKIPPED) => {
                let reason = fs::read_to_string(results.path().join("skip"));
                return Err(LabError::Skip(
                    reason.map_or_else(|_| words(), |reason| reason.trim().to_owned()),
                ));
            }
            Some(STATUS_MISUSED) => return Err(LabError::Misused(words())),
            Some(STATUS_TIMED_OUT) if !results.path().join("status").exists() => Ending::TimedOut,
            Some(STATUS_SILENT) if !results.path().join("status").exists() => Ending::Silent,
            Some(status) => Ending::Status(status),
            None => Ending::Silent,
        };
        Ok(Outcome {
            ending,
            output: words(),
            results: Some(results),
        })
    }

    /// As [`run`](Self::run), for tests: `None` after the test was reported as skipped, a panic for every other error.
    /// A guest that a fault of cifs.ko ended is booted again, [`TRIES`] times in all.
    pub fn run_or_skip(&self) -> Option<Outcome> {
        for _ in 0..TRIES {
            match self.run() {
                Ok(outcome) if outcome.was_ended_by_the_client() => {}
                Ok(outcome) => return Some(outcome),
                Err(LabError::Skip(reason)) => {
                    skip::report(&reason);
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
        skip::report("the guest's kernel panicked in cifs_call_async, each time");
        None
    }

    fn command(&self, results: &Path, script: &Path) -> Command {
        let mut command = Command::new(lab_folder().join("run.sh"));
        command
            .arg("--results")
            .arg(results)
            .args(["--memory", &format!("{}M", self.memory_mib)])
            .args(["--timeout", &self.time_limit.as_secs().max(1).to_string()])
            .args(["--links", &self.links.to_string()])
            .arg("--rdma")
            .arg(match self.rdma {
                RdmaKind::Rxe => "rxe",
                RdmaKind::Siw => "siw",
                RdmaKind::None => "none",
            });
        for (name, value) in &self.environment {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        if self.capture {
            command.arg("--capture");
        }
        command.arg(script).args(&self.arguments);
        command
    }
}

/// What a guest left behind. The results folder goes with this value, unless a test panics while it holds one: then
/// the folder stays and its path is printed.
#[derive(Debug)]
pub struct Outcome {
    pub ending: Ending,
    /// What the script printed, and after it what the runner had to say about the guest's end.
    pub output: String,
    results: Option<tempfile::TempDir>,
}

impl Outcome {
    /// The guest's kernel, which is the client, panicked as it does now and then when it loses a connection while it
    /// issues asynchronous calls: `cifs_call_async` reads what is not there any more.
    fn was_ended_by_the_client(&self) -> bool {
        let console = self.read("console").unwrap_or_default();
        self.ending == Ending::Silent
            && console.contains("Kernel panic")
            && console.contains("] cifs_call_async+")
    }

    pub fn succeeded(&self) -> bool {
        self.ending == Ending::Status(0)
    }

    /// For tests: the script must have ended with status 0.
    #[track_caller]
    pub fn assert_succeeded(&self) {
        assert!(
            self.succeeded(),
            "the script ended with {:?}:\n{}",
            self.ending,
            self.output
        );
    }

    /// A file that the script wrote to `$LAB_RESULTS`, or one of the runner's: `dmesg`, `console`, `wire-1.pcap`.
    pub fn file(&self, name: &str) -> PathBuf {
        let results = self.results.as_ref();
        results.map_or_else(PathBuf::new, |results| results.path().join(name))
    }

    pub fn read(&self, name: &str) -> Result<String, LabError> {
        fs::read_to_string(self.file(name))
            .map_err(|source| failed(&format!("read {name}"), source))
    }

    /// Fields of the frames of link `link` that a filter of tshark's lets through, a row a frame.
    pub fn fields(
        &self,
        link: u8,
        filter: &str,
        names: &[&str],
    ) -> Result<Vec<Vec<String>>, LabError> {
        capture::fields(&self.file(&format!("wire-{link}.pcap")), filter, names)
    }

    /// What tshark makes of the recording of link `link`, counted from 1.
    pub fn wire(&self, link: u8) -> Result<Capture, LabError> {
        capture::decode(&self.file(&format!("wire-{link}.pcap")))
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(results) = self.results.take()
        {
            eprintln!("the guest's logs are in {}", results.keep().display());
        }
    }
}

/// Where a built daemon lies: `$SMBDIRECT_BIN_DIR`, which `./x` sets, or beside the running test or program.
pub fn binary(name: &str) -> Result<PathBuf, LabError> {
    let beside = || {
        let running = std::env::current_exe().ok()?;
        let folder = running.parent()?;
        match folder.ends_with("deps") {
            true => Some(folder.parent()?.to_path_buf()), // target/debug/deps/test-hash
            false => Some(folder.to_path_buf()),
        }
    };
    let folder = std::env::var_os("SMBDIRECT_BIN_DIR").map(PathBuf::from);
    let path = folder.or_else(beside).unwrap_or_default().join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(LabError::Skip(format!(
        "{} is not built: run 'cargo build --bins', or the tests by './x test'",
        path.display()
    )))
}

/// `tests/lab`, where the scripts are.
pub fn lab_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
}

fn failed(operation: &str, source: io::Error) -> LabError {
    LabError::Io {
        operation: operation.to_owned(),
        source,
    }
}
