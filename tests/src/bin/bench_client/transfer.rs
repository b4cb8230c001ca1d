//! One large file to the server and back by smbclient: plain, signed and encrypted.
//!
//! The first time does not count: in a virtual machine, memory that nothing has used yet is first to be found by
//! its host, which takes longer than to write it, and whoever is measured first would pay for both servers.

use std::path::Path;
use std::process::Command;

use tests::client::ClientError;

use super::{Phase, Target};

const MIB: f64 = 1024.0 * 1024.0;
/// Times a file is moved with each protection; the best one counts.
const PASSES: usize = 3;

/// What guards the messages on their way, as smbclient is told.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protection {
    Off,
    Sign,
    Encrypt,
}

impl Protection {
    /// What each figure's key begins with, and what smbclient is told.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Protection::Off => ("", "off"),
            Protection::Sign => ("signed_", "sign"),
            Protection::Encrypt => ("encrypted_", "encrypt"),
        }
    }
}

pub fn measure(
    target: &Target,
    smbclient: &Path,
    file: &Path,
    only: Option<Protection>,
) -> Result<(), ClientError> {
    let bytes = std::fs::metadata(file)?.len();
    for protection in [Protection::Off, Protection::Sign, Protection::Encrypt] {
        if only.is_some_and(|only| only != protection) {
            continue;
        }
        let (prefix, protection) = protection.names();
        let put = format!("put {} large", file.display());
        for pass in 0..PASSES {
            for (key, command) in [("put", put.as_str()), ("get", "get large /dev/null")] {
                let phase = Phase::measure(target, || {
                    run(target, smbclient, protection, command)?;
                    Ok(bytes)
                })?;
                if pass > 0 {
                    phase.print(&format!("{prefix}{key}"), MIB);
                }
            }
            run(target, smbclient, protection, "del large")?;
        }
    }
    Ok(())
}

fn run(
    target: &Target,
    smbclient: &Path,
    protection: &str,
    command: &str,
) -> Result<(), ClientError> {
    let output = Command::new(smbclient)
        .arg(format!("//{}/{}", target.address.ip(), target.share))
        .arg("--configfile=/dev/null")
        .arg(format!("--port={}", target.address.port()))
        .arg(format!("--user={}%{}", target.user, target.password))
        .arg("--option=client min protocol=SMB3_11")
        .arg(format!("--client-protection={protection}"))
        .args(["--command", command])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("NT_STATUS_") {
        return Err(ClientError::Local(format!("smbclient, {command}: {said}")));
    }
    Ok(())
}
