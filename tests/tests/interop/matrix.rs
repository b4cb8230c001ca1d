//! Every dialect, signing algorithm and cipher that smbclient and smbprotocol can ask for, over
//! TCP: a small file both ways, compared. Each client is told one algorithm of each kind, and
//! refuses to go on with another.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

use tests::server::{PASSWORD, Server, USER};

use super::{have, smbprotocol, text};

const SIGNING: [&str; 3] = ["HMAC-SHA256", "AES-128-CMAC", "AES-128-GMAC"];
const CIPHERS: [&str; 4] = ["AES-128-CCM", "AES-128-GCM", "AES-256-CCM", "AES-256-GCM"];
/// Clients at once.
const WORKERS: usize = 4;

/// One of the combinations there are.
#[derive(Debug, Clone, Copy)]
struct Cell {
    dialect: &'static str,
    signing: &'static str,
    cipher: Option<&'static str>,
}

/// Before 3.1.1 a dialect has one signing algorithm, and 3.0 and 3.0.2 one cipher.
fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |dialect, signing, ciphers: &[&'static str]| {
        cells.extend(
            std::iter::once(None)
                .chain(ciphers.iter().copied().map(Some))
                .map(|cipher| Cell {
                    dialect,
                    signing,
                    cipher,
                }),
        );
    };
    add("SMB2_02", "HMAC-SHA256", &[]);
    add("SMB2_10", "HMAC-SHA256", &[]);
    add("SMB3_00", "AES-128-CMAC", &["AES-128-CCM"]);
    add("SMB3_02", "AES-128-CMAC", &["AES-128-CCM"]);
    for signing in SIGNING {
        add("SMB3_11", signing, &CIPHERS);
    }
    cells
}

#[test]
fn smbclient_in_every_dialect_signing_algorithm_and_cipher() {
    if !have("smbclient") {
        return;
    }
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let sent: Vec<u8> = (0..37_501u32).flat_map(|i| (i * 7).to_le_bytes()).collect();
    std::fs::write(folder.path().join("sent"), &sent).unwrap();
    let waiting = Mutex::new(cells());
    assert_eq!(waiting.lock().unwrap().len(), 21);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop();
                    let Some(cell) = next else { return };
                    let cipher = cell.cipher.unwrap_or("plain");
                    let name = format!("{}_{}_{cipher}", cell.dialect, cell.signing);
                    let output = smbclient(&server, folder.path(), cell, &name);
                    let said = text(&output);
                    let received = std::fs::read(folder.path().join(&name)).unwrap_or_default();
                    if !output.status.success() || said.contains("NT_STATUS") || received != sent {
                        failures.lock().unwrap().push(format!("{cell:?}: {said}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn smbprotocol_in_every_dialect_signing_algorithm_and_cipher() {
    let Some(python) = smbprotocol() else {
        return;
    };
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/matrix_with_smbprotocol.py");
    let output = Command::new(&python)
        .arg(&script)
        .arg(server.address().port().to_string())
        .args([USER, PASSWORD, "share"])
        .output()
        .unwrap();
    let said = text(&output);
    let worked = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(output.status.success() && worked == cells().len(), "{said}");
}

fn smbclient(server: &Server, folder: &Path, cell: Cell, name: &str) -> Output {
    let mut command = Command::new("smbclient");
    command
        .arg("//127.0.0.1/share")
        .args(["-p", &server.address().port().to_string()])
        .args(["-U", &format!("{USER}%{PASSWORD}")])
        .arg(format!("--option=client max protocol={}", cell.dialect))
        .arg(format!("--option=client min protocol={}", cell.dialect))
        .arg(format!(
            "--option=client smb3 signing algorithms={}",
            cell.signing
        ));
    match cell.cipher {
        None => command.arg("--client-protection=sign"),
        Some(cipher) => command.arg("--client-protection=encrypt").arg(format!(
            "--option=client smb3 encryption algorithms={cipher}"
        )),
    };
    command
        .arg("-c")
        .arg(format!("put sent {name}; get {name} {name}; del {name}"))
        .current_dir(folder)
        .output()
        .unwrap()
}
