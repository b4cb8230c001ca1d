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

/// Times a guest is booted for a test that faults of the kernel's client end.
const TRIES: usize = 3;

/// A file of the results: what the kernel's client did, by its own account, that ended the guest.
pub const CLIENT_FAULT: &str = "client-fault";
/// A file of the results: `guest.sh` writes it each second.
const RUNS: &str = "runs";
/// So long no program of a guest ran that was killed at its time limit: its kernel hangs.
const FROZEN: Duration = Duration::from_secs(15);

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
    /// A guest that a fault of cifs.ko ended is booted again, [`TRIES`] times in all, and each is printed.
    pub fn run_or_skip(&self) -> Option<Outcome> {
        for try_number in 1..=TRIES {
            match self.run() {
                Ok(outcome) => match outcome.fault_of_the_client() {
                    Some(fault) => println!("guest {try_number} of {TRIES} at most: {fault}"),
                    None => return Some(outcome),
                },
                Err(LabError::Skip(reason)) => {
                    skip::report(&reason);
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
        skip::report("a fault of the guest's own kernel, the client, ended it each time");
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
    /// What the guest's kernel, which is the client, ended this guest with.
    fn fault_of_the_client(&self) -> Option<String> {
        let console = self.read("console").unwrap_or_default();
        let shown = fs::metadata(self.file(RUNS)).and_then(|file| file.modified());
        let silence = shown.ok().and_then(|shown| shown.elapsed().ok());
        fault_of_the_client(
            self.ending,
            &console,
            self.read(CLIENT_FAULT).ok(),
            silence.unwrap_or_default(),
        )
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

/// After a lost connection cifs.ko uses a request that it has freed, now and then (`cifs_call_async`, when the SEND
/// fails): it panics, or hangs with the whole guest, where no program can be the reason. Or the guest's script has its
/// own account of a fault. `silence` is how long ago a program of the guest last ran.
fn fault_of_the_client(
    ending: Ending,
    console: &str,
    its_account: Option<String>,
    silence: Duration,
) -> Option<String> {
    let panicked = console.contains("Kernel panic") && console.contains("] cifs_call_async+");
    let failed_to_send = console.contains("smbdirect_connection_send_wait_zero_pending");
    match ending {
        Ending::Silent if panicked => Some("cifs.ko panicked in cifs_call_async".to_owned()),
        Ending::TimedOut if failed_to_send && silence > FROZEN => {
            Some("cifs.ko failed to send, and no program of the guest ran after that".to_owned())
        }
        Ending::Status(_) => its_account.map(|what| format!("cifs.ko: {}", what.trim())),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_client_shows_of_itself_excuses_a_guest() {
        let panic = "Kernel panic - not syncing\n [<6035682a>] cifs_call_async+0x1ba/0x330\n";
        let send = "smbdirect_connection_send_wait_zero_pending:1290 status=DISCONNECTED\n";
        let fault = |ending, console, why: Option<&str>, seconds| {
            let why = why.map(str::to_owned);
            fault_of_the_client(ending, console, why, Duration::from_secs(seconds)).is_some()
        };
        assert!(fault(Ending::Silent, panic, None, 0));
        assert!(fault(Ending::TimedOut, send, None, 60));
        assert!(fault(
            Ending::Status(1),
            send,
            Some("0 requests in flight"),
            0
        ));

        assert!(!fault(
            Ending::Silent,
            "Kernel panic in something else",
            None,
            60
        ));
        assert!(!fault(Ending::Silent, send, None, 60));
        assert!(!fault(Ending::TimedOut, send, None, 1), "its programs ran");
        assert!(
            !fault(Ending::TimedOut, "", None, 60),
            "cifs.ko had no trouble"
        );
        assert!(
            !fault(Ending::Status(1), send, None, 60),
            "a scenario failed"
        );
    }
}
