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

/// What of smbtorture takes seconds; `./x torture` runs all of it.
const TORTURE_SUITES: [&str; 9] = [
    "smb2.session",
    "smb2.session-id",
    "smb2.session-require-signing",
    "smb2.credits",
    "smb2.connect",
    "smb2.tcon",
    "smb2.compound",
    "smb2.read",
    "smb2.rw",
];

#[test]
fn smbtorture_ends_as_its_table_expects() {
    if !have("python3") || samba_4_22().is_none() {
        return;
    }
    let Ok(smbd) = tests::lab::binary("smbd") else {
        return skip::report("smbd is not built; run ./x test");
    };
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/torture");
    let output = Command::new("python3")
        .arg(runner)
        .args(TORTURE_SUITES)
        .env("SMBDIRECT_BIN_DIR", smbd.parent().unwrap())
        .output()
        .unwrap();
    let said = text(&output);
    if let Some(reason) = said.strip_prefix("torture: skipped: ") {
        return skip::report(reason);
    }
    assert!(output.status.success(), "{said}");
    let counts = String::from_utf8_lossy(&output.stdout);
    let passed = counts.lines().last().and_then(|line| line.split_once(' '));
    let passed: Option<u32> = passed.and_then(|(number, _)| number.parse().ok());
    assert!(passed.is_some_and(|passed| passed > 80), "{said}");
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
