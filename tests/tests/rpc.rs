//! The pipes of IPC$ against clients that people use: smbclient's list of shares, rpcclient's calls.

use std::process::{Command, Output};

use tests::lab::skip;
use tests::server::{PASSWORD, Server, USER};

const DIALECTS: [&str; 4] = ["SMB2_10", "SMB3_00", "SMB3_02", "SMB3_11"];

fn server() -> Option<Server> {
    Server::builder()
        .global("server string = the test server")
        .global("netbios name = PIPES")
        .global("workgroup = OFFICE")
        .share(
            "share",
            "    comment = files for everybody\n    read only = no",
        )
        .share("Größe", "    comment = names beyond ASCII")
        .share(
            "hidden",
            "    comment = seen by nobody\n    browseable = no",
        )
        .share("admin$", "    comment = administrative")
        .start_or_skip()
}

#[test]
fn smbclient_lists_shares_and_their_comments_in_each_dialect() {
    if !have("smbclient") {
        return;
    }
    let Some(server) = server() else { return };
    for dialect in DIALECTS {
        let table = list(&server, dialect, &[]);
        let row = |words: &[&str]| {
            table
                .lines()
                .any(|line| line.split_whitespace().eq(words.iter().copied()))
        };
        assert!(
            row(&["share", "Disk", "files", "for", "everybody"]),
            "{dialect}:\n{table}"
        );
        assert!(
            row(&["Größe", "Disk", "names", "beyond", "ASCII"]),
            "{table}"
        );
        assert!(
            row(&["IPC$", "IPC", "IPC", "Service", "(the", "test", "server)"]),
            "{table}"
        );
        assert!(!table.contains("hidden"), "{dialect}:\n{table}");
    }
}

#[test]
fn smbclient_lists_shares_for_scripts() {
    if !have("smbclient") {
        return;
    }
    let Some(server) = server() else { return };
    let lines = list(&server, "SMB3_11", &["-g"]);
    for line in [
        "Disk|share|files for everybody",
        "Disk|Größe|names beyond ASCII",
        "Disk|admin$|administrative",
        "IPC|IPC$|IPC Service (the test server)",
    ] {
        assert!(lines.lines().any(|found| found == line), "{line}:\n{lines}");
    }
    assert!(!lines.contains("hidden"), "{lines}");
}

/// Enough shares that the answer takes several fragments.
#[test]
fn a_long_list_arrives_whole() {
    if !have("smbclient") {
        return;
    }
    let comment = "x".repeat(48);
    let mut builder = Server::builder();
    for number in 0..150 {
        builder = builder.share(
            &format!("share{number}"),
            &format!("    comment = {comment}"),
        );
    }
    let Some(server) = builder.start_or_skip() else {
        return;
    };
    let lines = list(&server, "SMB3_11", &["-g"]);
    for number in 0..150 {
        let line = format!("Disk|share{number}|{comment}");
        assert!(lines.lines().any(|found| found == line), "{line}:\n{lines}");
    }
}

#[test]
fn rpcclient_is_told_of_shares_and_the_server() {
    if !have("rpcclient") {
        return;
    }
    let Some(server) = server() else { return };
    let said = rpcclient(
        &server,
        "netshareenumall; netsharegetinfo share; netsharegetinfo hidden; srvinfo; netremotetod",
    );
    for expected in [
        "netname: share",
        "remark:\tfiles for everybody",
        "netname: admin$",
        "remark:\tseen by nobody",
        "the test server",
        "platform_id     :\t500",
    ] {
        assert!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
    let (list, rest) = said.split_once("seen by nobody").unwrap();
    assert!(!list.contains("seen by nobody") && !rest.contains("seen by nobody"));
}

#[test]
fn each_level_of_share_information_is_understood() {
    if !have("rpcclient") {
        return;
    }
    let Some(server) = server() else { return };
    for level in ["1", "2", "502"] {
        let said = rpcclient(&server, &format!("netshareenumall {level}"));
        assert!(said.contains("netname: share"), "{level}: {said}");
        let said = rpcclient(&server, &format!("netsharegetinfo share {level}"));
        assert!(said.contains("files for everybody"), "{level}: {said}");
    }
    for level in ["101", "102"] {
        let said = rpcclient(&server, &format!("srvinfo {level}"));
        assert!(said.contains("platform_id"), "{level}: {said}");
    }
}

#[test]
fn rpcclient_is_told_of_the_workstation_and_refused_what_is_not_served() {
    if !have("rpcclient") {
        return;
    }
    let Some(server) = server() else { return };
    // It prints no more than a failure.
    rpcclient(&server, "wkssvc_wkstagetinfo 100");
    for (command, status) in [
        ("wkssvc_wkstagetinfo 102", "WERR_ACCESS_DENIED"),
        ("netsessenum", "WERR_ACCESS_DENIED"),
        ("netsharegetinfo absent", "WERR_NERR_NETNAMENOTFOUND"),
        // RPC_S_PROCNUM_OUT_OF_RANGE, as rpcclient prints it.
        ("netfileenum", "DOS CODE 0X0000002E"),
        ("lsaquery", "NT_STATUS_RPC_PROCNUM_OUT_OF_RANGE"),
        ("enumdomusers", "NT_STATUS_OBJECT_NAME_NOT_FOUND"),
    ] {
        let said = text(&rpcclient_output(&server, command));
        assert!(
            said.to_uppercase().contains(status),
            "{command}: not {status} but:\n{said}\nthe server logged:\n{}",
            server.log()
        );
    }
}

fn list(server: &Server, dialect: &str, options: &[&str]) -> String {
    let output = Command::new("smbclient")
        .args(["-L", "//127.0.0.1"])
        .args(["-p", &server.address().port().to_string()])
        .args(["-U", &format!("{USER}%{PASSWORD}")])
        .arg(format!("--max-protocol={dialect}"))
        .arg(format!("--option=client min protocol={dialect}"))
        .args(options)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let said = text(&output);
    assert!(
        output.status.success() && !said.contains("NT_STATUS"),
        "{dialect}:\n{said}\nthe server logged:\n{}",
        server.log()
    );
    said
}

fn rpcclient(server: &Server, commands: &str) -> String {
    let output = rpcclient_output(server, commands);
    let said = text(&output);
    assert!(
        output.status.success() && !said.contains("NT_STATUS") && !said.contains("WERR"),
        "{commands}:\n{said}\nthe server logged:\n{}",
        server.log()
    );
    said
}

fn rpcclient_output(server: &Server, commands: &str) -> Output {
    Command::new("rpcclient")
        .arg("127.0.0.1")
        .args(["-p", &server.address().port().to_string()])
        .args(["-U", &format!("{USER}%{PASSWORD}"), "-c", commands])
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
