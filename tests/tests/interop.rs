//! Clients that people use, against a server of ours over TCP: smbclient, smbprotocol, smbtorture.
//! Each dialect is asked for by name and signed; what went over is compared byte by byte.

#[path = "interop/matrix.rs"]
mod matrix;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::lab::skip;
use tests::server::{OTHER_PASSWORD, OTHER_USER, PASSWORD, Server, USER};

const DIALECTS: [(&str, &str); 5] = [
    ("SMB2_02", "2.0.2"),
    ("SMB2_10", "2.1.0"),
    ("SMB3_00", "3.0.0"),
    ("SMB3_02", "3.0.2"),
    ("SMB3_11", "3.1.1"),
];

/// Everything a person does with smbclient, one command after the other; smbclient ends with an
/// error status at the first that fails.
#[test]
fn smbclient_lists_puts_gets_renames_and_deletes_in_each_dialect() {
    if !have("smbclient") {
        return;
    }
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let local = tempfile::tempdir().unwrap();
    let sent: Vec<u8> = (0..3_000_001u32)
        .flat_map(|i| (i * 7).to_le_bytes())
        .collect();
    std::fs::write(local.path().join("sent"), &sent).unwrap();
    for (dialect, _) in DIALECTS {
        let run = |commands: &str| smbclient(&server, local.path(), dialect, commands);
        run("mkdir folder; cd folder; put sent; put sent \"ein Ölfaß.bin\"");
        assert_eq!(
            std::fs::read(server.share("share").join("folder/sent")).unwrap(),
            sent
        );
        let listing = run("cd folder; ls");
        assert!(listing.contains("12000004"), "no size in:\n{listing}");
        assert!(listing.contains("ein Ölfaß.bin"), "no name in:\n{listing}");
        run("cd folder; rename sent moved; get moved received; allinfo moved");
        assert_eq!(std::fs::read(local.path().join("received")).unwrap(), sent);
        run(
            "rename folder elsewhere; cd elsewhere; del moved; del \"ein*\"; cd ..; rmdir elsewhere",
        );
        let left: Vec<_> = std::fs::read_dir(server.share("share")).unwrap().collect();
        assert!(left.is_empty(), "{dialect} left {left:?}");
        std::fs::remove_file(local.path().join("received")).unwrap();
    }
}

#[test]
fn smbclient_is_told_plainly_what_it_may_not_do() {
    if !have("smbclient") {
        return;
    }
    let Some(server) = Server::builder()
        .share("share", "    read only = no")
        .share("frozen", "    read only = yes")
        .share("mine", "    read only = no\n    valid users = games")
        .start_or_skip()
    else {
        return;
    };
    let local = tempfile::tempdir().unwrap();
    std::fs::write(local.path().join("sent"), b"data").unwrap();
    std::fs::write(server.share("frozen").join("kept"), b"kept").unwrap();
    let attempt = |share: &str, user: &str, commands: &str| {
        let output = smbclient_output(&server, share, user, local.path(), "SMB3_11", commands);
        (output.status.success(), text(&output))
    };
    for (share, user, commands, expected) in [
        ("share", "nobody%wrong", "ls", "NT_STATUS_LOGON_FAILURE"),
        (
            "share",
            "stranger%Secret-1",
            "ls",
            "NT_STATUS_LOGON_FAILURE",
        ),
        (
            "absent",
            "nobody%Secret-1",
            "ls",
            "NT_STATUS_BAD_NETWORK_NAME",
        ),
        ("mine", "nobody%Secret-1", "ls", "NT_STATUS_ACCESS_DENIED"),
        (
            "frozen",
            "nobody%Secret-1",
            "put sent",
            "NT_STATUS_ACCESS_DENIED",
        ),
        (
            "frozen",
            "nobody%Secret-1",
            "del kept",
            "NT_STATUS_ACCESS_DENIED",
        ),
        (
            "frozen",
            "nobody%Secret-1",
            "mkdir new",
            "NT_STATUS_ACCESS_DENIED",
        ),
    ] {
        let (_, said) = attempt(share, user, commands);
        let media = expected.replace("ACCESS_DENIED", "MEDIA_WRITE_PROTECTED");
        assert!(
            said.contains(expected) || said.contains(&media),
            "{share} {user} {commands}: {said}"
        );
    }
    let (worked, said) = attempt(
        "mine",
        &format!("{OTHER_USER}%{OTHER_PASSWORD}"),
        "put sent",
    );
    assert!(worked, "{said}");
    assert_eq!(
        std::fs::read(server.share("frozen").join("kept")).unwrap(),
        b"kept"
    );
}

#[test]
fn smbprotocol_works_in_each_dialect() {
    let Some(python) = smbprotocol() else { return };
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/with_smbprotocol.py");
    for (_, dialect) in DIALECTS {
        let output = Command::new(&python)
            .arg(&script)
            .arg(server.address().port().to_string())
            .args([USER, PASSWORD, "share", dialect])
            .output()
            .unwrap();
        assert!(output.status.success(), "{dialect}: {}", text(&output));
        assert!(
            text(&output).contains("smbprotocol: ok"),
            "{}",
            text(&output)
        );
    }
}

/// Runs the tests of smbtorture that Samba 4.22 itself passes; each must succeed, none be missing.
fn torture(suite: &str, expected: &[&str]) {
    let Some(samba) = samba_4_22() else { return };
    let Some(server) = Server::builder()
        .global("smbd:FSCTL_SMBTORTURE = yes")
        .share("share", "    read only = no")
        .start_or_skip()
    else {
        return;
    };
    let output = Command::new(samba.join("run"))
        .arg("smbtorture")
        .arg("//127.0.0.1/share")
        .args(["-p", &server.address().port().to_string()])
        .args(["-U", &format!("{USER}%{PASSWORD}")])
        .args([
            "--fullname",
            "--format=subunit",
            "--option=torture:progress=no",
            // What Samba itself is held to; the default expects answers of Windows alone.
            "--target=samba3",
        ])
        .args(["--option=torture:writetimeupdatedelay=500000"])
        .args(["--option=torture:sharedelay=100000"])
        .arg(suite)
        .output()
        .unwrap();
    let said = text(&output);
    let results: Vec<(&str, &str)> = said
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(result, _)| ["success", "failure", "error", "skip"].contains(result))
        .map(|(result, name)| (result, name.trim_end_matches(" [")))
        .collect();
    for name in expected {
        // smbtorture repeats the name of a suite that is a single test.
        let doubled = format!("{name}.{}", name.rsplit('.').next().unwrap_or(name));
        let result = results
            .iter()
            .find(|(_, test)| test == name || **test == doubled);
        assert_eq!(
            result.map(|(result, _)| *result),
            Some("success"),
            "{name}; smbtorture said:\n{said}\nthe server logged:\n{}",
            server.log()
        );
    }
}

#[test]
fn smbtorture_connect() {
    torture("smb2.connect", &["smb2.connect"]);
}

#[test]
fn smbtorture_read() {
    torture(
        "smb2.read",
        &[
            "smb2.read.access",
            "smb2.read.bug14607",
            "smb2.read.dir",
            "smb2.read.eof",
            "smb2.read.position",
        ],
    );
}

#[test]
fn smbtorture_rw() {
    torture(
        "smb2.rw",
        &[
            "smb2.rw.append",
            "smb2.rw.invalid",
            "smb2.rw.rw1",
            "smb2.rw.rw2",
        ],
    );
}

#[test]
fn smbtorture_tcon() {
    torture("smb2.tcon", &["smb2.tcon"]);
}

#[test]
fn smbtorture_mkdir() {
    torture("smb2.mkdir", &["smb2.mkdir"]);
}

macro_rules! compound {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let test = concat!("smb2.compound.", stringify!($name));
            torture(test, &[test]);
        })*
    };
}

/// `smb2.compound`, without the tests that need oplocks, locks or notifications.
mod smbtorture_compound {
    use super::torture;
    compound! {
        related1 related2 related3 related4 related5 related6 related7 related8 related9
        unrelated1 invalid1 invalid2 invalid3 invalid4
    }
}

fn smbclient(server: &Server, local: &Path, dialect: &str, commands: &str) -> String {
    let user = format!("{USER}%{PASSWORD}");
    let output = smbclient_output(server, "share", &user, local, dialect, commands);
    let said = text(&output);
    assert!(
        output.status.success() && !said.contains("NT_STATUS"),
        "{dialect}: {commands}:\n{said}"
    );
    said
}

fn smbclient_output(
    server: &Server,
    share: &str,
    user: &str,
    local: &Path,
    dialect: &str,
    commands: &str,
) -> Output {
    Command::new("smbclient")
        .arg(format!("//127.0.0.1/{share}"))
        .args(["-p", &server.address().port().to_string(), "-U", user])
        .arg(format!("--max-protocol={dialect}"))
        .arg(format!("--option=client min protocol={dialect}"))
        .args(["--client-protection=sign", "-c", commands])
        .current_dir(local)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skip::report(&format!("{program} is not installed; run ./x setup"));
    }
    found
}

/// A Python with smbprotocol, in a virtual environment of the cache.
fn smbprotocol() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/get-smbprotocol.sh");
    path_from(&script, "smbprotocol can't be had here")
}

/// The folder with Samba 4.22's programs.
fn samba_4_22() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/get-samba.sh");
    path_from(&script, "Samba 4.22 can't be had here")
}

/// Runs a script that prepares something and prints where it is. Tests run at once, so one of
/// them prepares while the others wait.
fn path_from(script: &Path, reason: &str) -> Option<PathBuf> {
    let lock = std::env::temp_dir().join("smbdirect-interop.lock");
    let output = Command::new("flock")
        .arg(lock)
        .arg(script)
        .output()
        .unwrap();
    if !output.status.success() {
        skip::report(&format!("{reason}: {}", text(&output)));
        return None;
    }
    Some(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}
