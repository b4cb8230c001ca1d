//! Asks the running smbd, over its status socket, for all that it and smbdirectd know. The
//! administrator's commands call it; it parses no configuration: smbd does, and answers for it.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use proto::control::status::{ServerSettings, StatusReport};

/// Where smbd answers when no configuration says otherwise.
const DEFAULT_SOCKET: &str = "/run/smbdirect/status";
/// smbd waits a second for its processes.
const LIMIT: Duration = Duration::from_secs(5);

/// Why nothing could be learnt.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Nobody answers.
    #[error(
        "no smbd answers at {path} ({error}); start it, run this as root, or name its \
         configuration with --config"
    )]
    NotRunning {
        /// The socket.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The answer is cut short.
    #[error("smbd's answer ends early ({0}); look into its log")]
    Broken(io::Error),
    /// The answer is of another build.
    #[error("smbd's answer can't be read; install smbd and smbdirectd together, and restart smbd")]
    Malformed,
    /// There is nobody who can read the configuration.
    #[error("there is no smbd beside smbdirectd or in PATH to read the configuration ({0})")]
    NoProgram(io::Error),
    /// smbd refuses its configuration.
    #[error("smbd can't read its configuration: {0}")]
    Config(String),
}

/// A server, running or not.
#[derive(Debug, Clone)]
pub struct Server {
    /// What its configuration says; of a running one, what it was started with counts.
    pub settings: ServerSettings,
}

impl Server {
    /// The server of this configuration, or the usual one.
    pub fn of(config: Option<&Path>) -> Result<Server, Box<dyn std::error::Error>> {
        let settings = match read_settings(config) {
            Ok(settings) => settings,
            // Without a smbd to ask, the usual place is all there is.
            Err(ServerError::NoProgram(_)) if config.is_none() => ServerSettings {
                status_socket: DEFAULT_SOCKET.into(),
                rdma: true,
                ..ServerSettings::default()
            },
            Err(error) => return Err(error.into()),
        };
        Ok(Server { settings })
    }

    /// All that the running server knows.
    pub fn ask(&self) -> Result<StatusReport, ServerError> {
        let path = &self.settings.status_socket;
        let not_running = |error| ServerError::NotRunning {
            path: path.clone(),
            error,
        };
        let mut socket = UnixStream::connect(path).map_err(not_running)?;
        socket
            .set_read_timeout(Some(LIMIT))
            .map_err(ServerError::Broken)?;
        let mut bytes = Vec::new();
        socket
            .read_to_end(&mut bytes)
            .map_err(ServerError::Broken)?;
        StatusReport::decode(&bytes).ok_or(ServerError::Malformed)
    }
}

/// smbd reads its configuration and says what concerns RDMA.
fn read_settings(config: Option<&Path>) -> Result<ServerSettings, ServerError> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("smbd")))
        .filter(|program| program.exists());
    let mut command = Command::new(beside.unwrap_or_else(|| PathBuf::from("smbd")));
    command.arg("rdma-settings");
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let output = command.output().map_err(ServerError::NoProgram)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(ServerError::Config(said.trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|_| ServerError::Malformed)
}
