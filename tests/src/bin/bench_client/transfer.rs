//! One large file to the server and back by smbclient: plain, signed and encrypted.
//!
//! A virtual machine gives memory that was free for some seconds back to its host, which finds it again at the next
//! touch; that takes several times as long as to write it, at random, and on the account of whichever server runs.
//! So as much memory as the file takes is touched and freed before each put, and the first time does not count.

use std::path::Path;
use std::process::Command;

use memmap2::MmapOptions;
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
            touch_memory(bytes)?;
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

fn touch_memory(bytes: u64) -> Result<(), ClientError> {
    let length = usize::try_from(bytes).map_err(|error| ClientError::Local(error.to_string()))?;
    MmapOptions::new().len(length).populate().map_anon()?;
    Ok(())
}

fn run(
    target: &Target,
    smbclient: &Path,
    protection: &str,
    command: &str,
) -> Result<(), ClientError> {
    let share = &target.share;
    let output = Command::new(smbclient)
        .arg(format!("//{}/{}", share.address.ip(), share.name))
        .arg("--configfile=/dev/null")
        .arg(format!("--port={}", share.address.port()))
        .arg(format!("--user={}%{}", share.user, share.password))
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
