//! Encrypted sessions over TCP with smbclient: asked for by the client, or required by the server.

use std::path::Path;
use std::process::Command;

use tests::lab::skip;
use tests::server::{PASSWORD, Server, USER};

/// What smbclient said, and whether it succeeded.
fn smbclient(
    server: &Server,
    local: &Path,
    dialect: &str,
    protection: &str,
    commands: &str,
) -> Option<(bool, String)> {
    let output = Command::new("smbclient")
        .arg("//127.0.0.1/share")
        .args(["-p", &server.address().port().to_string()])
        .args(["-U", &format!("{USER}%{PASSWORD}")])
        .arg(format!("--max-protocol={dialect}"))
        .arg(format!("--option=client min protocol={dialect}"))
        .arg(format!("--client-protection={protection}"))
        .args(["-c", commands])
        .current_dir(local)
        .output();
    let Ok(output) = output else {
        skip::report("smbclient is not installed; run ./x setup");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), said))
}

#[test]
fn a_client_that_asks_for_encryption_gets_it_in_each_dialect_that_has_it() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let local = tempfile::tempdir().unwrap();
    let sent: Vec<u8> = (0..2_000_003u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    std::fs::write(local.path().join("sent"), &sent).unwrap();
    for dialect in ["SMB3_00", "SMB3_02", "SMB3_11"] {
        let commands = "put sent; get sent received; del sent";
        let Some((worked, said)) = smbclient(&server, local.path(), dialect, "encrypt", commands)
        else {
            return;
        };
        assert!(worked && !said.contains("NT_STATUS"), "{dialect}: {said}");
        assert_eq!(std::fs::read(local.path().join("received")).unwrap(), sent);
        std::fs::remove_file(local.path().join("received")).unwrap();
    }
}

/// smbclient is not asked to encrypt: the share says so, and the rest stays in the clear.
#[test]
fn a_share_that_must_be_encrypted_is_used_encrypted_by_who_can() {
    let Some(server) = Server::builder()
        .share("share", "    read only = no\n    smb encrypt = required")
        .start_or_skip()
    else {
        return;
    };
    let local = tempfile::tempdir().unwrap();
    std::fs::write(local.path().join("sent"), b"sealed").unwrap();
    for dialect in ["SMB3_00", "SMB3_02", "SMB3_11"] {
        let commands = "put sent; get sent received; del sent";
        let Some((worked, said)) = smbclient(&server, local.path(), dialect, "off", commands)
        else {
            return;
        };
        assert!(worked && !said.contains("NT_STATUS"), "{dialect}: {said}");
        assert_eq!(
            std::fs::read(local.path().join("received")).unwrap(),
            b"sealed"
        );
        std::fs::remove_file(local.path().join("received")).unwrap();
    }
    let refused = smbclient(&server, local.path(), "SMB2_10", "off", "ls");
    let (worked, said) = refused.expect("it ran before");
    assert!(
        !worked && said.contains("NT_STATUS_ACCESS_DENIED"),
        "{said}"
    );
}

#[test]
fn a_server_that_requires_encryption_refuses_a_dialect_without_it() {
    let Some(server) = Server::builder()
        .global("server smb encrypt = required")
        .share("share", "    read only = no")
        .start_or_skip()
    else {
        return;
    };
    let local = tempfile::tempdir().unwrap();
    let run = |dialect| smbclient(&server, local.path(), dialect, "sign", "ls");
    let Some((worked, said)) = run("SMB2_10") else {
        return;
    };
    assert!(
        !worked && said.contains("NT_STATUS_ACCESS_DENIED"),
        "{said}"
    );
    assert!(server.log().contains("can't encrypt"), "{}", server.log());
    let (worked, said) = run("SMB3_11").unwrap();
    assert!(worked, "told to encrypt, this client does: {said}");
}

#[test]
fn a_server_with_encryption_off_refuses_a_client_that_insists() {
    let Some(server) = Server::builder()
        .global("server smb encrypt = off")
        .share("share", "    read only = no")
        .start_or_skip()
    else {
        return;
    };
    let local = tempfile::tempdir().unwrap();
    let Some((worked, said)) = smbclient(&server, local.path(), "SMB3_11", "encrypt", "ls") else {
        return;
    };
    assert!(!worked, "{said}");
    let (worked, said) = smbclient(&server, local.path(), "SMB3_11", "sign", "ls").unwrap();
    assert!(worked, "{said}");
}
