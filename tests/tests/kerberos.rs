//! Kerberos against a KDC and Debian's smbclient: whose ticket is good for what.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use proto::smb2::NtStatus;
use tests::client::{ClientError, Connection, Offer, Tcp};
use tests::lab::{Guest, LabError, skip};
use tests::realm::{HOST, REALM, Realm};
use tests::server::{OTHER_USER, PASSWORD, Server, ServerBuilder, USER};

/// An account of each Debian that the servers' user files do not name.
const UNLISTED: &str = "daemon";

fn realm() -> Option<Realm> {
    if !Path::new("/usr/bin/smbclient").exists() {
        skip::report("there is no smbclient; install smbclient");
        return None;
    }
    match Realm::start() {
        Ok(realm) => Some(realm),
        Err(LabError::Skip(reason)) => {
            skip::report(&reason);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn builder(realm: &Realm, keytab: &Path) -> ServerBuilder {
    Server::builder()
        .environment("KRB5_CONFIG", realm.config())
        .global("kerberos method = dedicated keytab")
        .global(&format!("dedicated keytab file = {}", keytab.display()))
        .global(&format!("realm = {REALM}"))
        .share("share", "    read only = no")
}

/// smbclient with a ticket for `user`, got with the usual password.
fn smbclient(realm: &Realm, server: &Server, share: &str, user: &str) -> Command {
    let mut command = Command::new("smbclient");
    command
        .arg(format!("//{HOST}/{share}"))
        .args(["-I", "127.0.0.1"])
        .args(["-p", &server.address().port().to_string()])
        .args(["-U", &format!("{user}@{REALM}%{PASSWORD}")])
        .args(["--use-kerberos=required", "--configfile=/dev/null"])
        .env("KRB5_CONFIG", realm.config());
    command
}

fn with_ticket(
    realm: &Realm,
    server: &Server,
    user: &str,
    more: &[&str],
    commands: &str,
) -> Output {
    smbclient(realm, server, "share", user)
        .args(more)
        .args(["-c", commands])
        .output()
        .expect("run smbclient")
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

#[test]
fn a_ticket_logs_its_user_on_signed_and_encrypted() {
    let Some(realm) = realm() else { return };
    let keytab = realm.add_service(&format!("cifs/{HOST}"), "keytab");
    for user in [USER, UNLISTED] {
        realm.add_user(user, PASSWORD, "");
    }
    let Some(server) = builder(&realm, &keytab).start_or_skip() else {
        return;
    };
    std::fs::write(realm.folder().join("sent"), b"by ticket").unwrap();
    // AES-256 keys are made of the ticket's whole key.
    let ciphers = "--option=client smb3 encryption algorithms=AES-256-GCM";
    for (user, name, more) in [
        (USER, "signed", vec!["--client-protection=sign"]),
        (USER, "sealed", vec!["--client-protection=encrypt"]),
        (
            USER,
            "sealed256",
            vec!["--client-protection=encrypt", ciphers],
        ),
        (UNLISTED, "unlisted", vec![]),
    ] {
        let commands = format!("lcd {}; put sent {name}; ls", realm.folder().display());
        let output = with_ticket(&realm, &server, user, &more, &commands);
        assert!(output.status.success(), "{name}: {}", text(&output));
        let path = server.share("share").join(name);
        assert_eq!(std::fs::read(&path).unwrap(), b"by ticket");
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).unwrap());
        let account = nix::unistd::User::from_name(user).unwrap().unwrap();
        assert_eq!(owner, account.uid.as_raw(), "{name}");
    }
    let log = server.log();
    let by_ticket = log
        .lines()
        .filter(|line| line.contains("logged on") && line.contains("mechanism=\"Kerberos\""));
    let named = by_ticket.filter(|line| line.contains(&format!("domain={REALM:?}")));
    assert_eq!(named.count(), 4, "{log}");
    // A password is as good as before.
    let mut connection = connect(&server);
    connection.log_on(USER, PASSWORD).unwrap();
}

fn connect(server: &Server) -> Connection {
    Connection::negotiate(Tcp::connect(server.address()).unwrap(), Offer::default()).unwrap()
}

#[test]
fn a_ticket_made_with_another_key_is_refused() {
    let Some(realm) = realm() else { return };
    let service = format!("cifs/{HOST}");
    let keytab = realm.add_service(&service, "old");
    realm.add_service(&service, "new");
    realm.add_user(USER, PASSWORD, "");
    let Some(server) = builder(&realm, &keytab).start_or_skip() else {
        return;
    };
    let output = with_ticket(&realm, &server, USER, &[], "ls");
    assert!(!output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("NT_STATUS_LOGON_FAILURE"),
        "{}",
        text(&output)
    );
    let log = server.log();
    assert!(log.contains("the ticket is refused"), "{log}");
}

/// root has to stand in the user file, a disabled user stays out, and so does who has no account.
#[test]
fn a_ticket_does_not_let_in_whom_this_server_does_not() {
    let Some(realm) = realm() else { return };
    let keytab = realm.add_service(&format!("cifs/{HOST}"), "keytab");
    for user in ["root", "nosuchaccount", OTHER_USER] {
        realm.add_user(user, PASSWORD, "");
    }
    let Some(server) = builder(&realm, &keytab).start_or_skip() else {
        return;
    };
    server.passwd(&["disable", OTHER_USER]);
    for (user, why) in [
        ("root", "is root"),
        ("nosuchaccount", "no Unix account"),
        (OTHER_USER, "is disabled"),
    ] {
        let output = with_ticket(&realm, &server, user, &[], "ls");
        let said = text(&output);
        assert!(said.contains("NT_STATUS_LOGON_FAILURE"), "{user}: {said}");
        let log = server.log();
        let mut lines = log.lines().filter(|line| line.contains("a logon failed"));
        assert!(
            lines.next_back().is_some_and(|line| line.contains(why)),
            "{log}"
        );
    }
}

#[test]
fn a_password_is_no_proof_where_only_tickets_are() {
    let Some(realm) = realm() else { return };
    let keytab = realm.add_service(&format!("cifs/{HOST}"), "keytab");
    realm.add_user(USER, PASSWORD, "");
    let server = builder(&realm, &keytab)
        .global("ntlm auth = disabled")
        .start_or_skip();
    let Some(server) = server else { return };
    let refused = connect(&server).log_on(USER, PASSWORD);
    assert!(
        matches!(refused, Err(ClientError::Status(NtStatus::NTLM_BLOCKED))),
        "{refused:?}"
    );
    let output = with_ticket(&realm, &server, USER, &[], "ls");
    assert!(output.status.success(), "{}", text(&output));
}

/// As SSSD or winbind would name them: by a module of the name service, and in no file of this machine.
#[test]
fn a_domains_users_and_groups_come_from_the_name_service() {
    const MODULE: &str = "libnss_extrausers.so.2";
    let folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/lib/x86_64-linux-gnu",
        "/usr/lib",
    ];
    if !folders.iter().any(|at| Path::new(at).join(MODULE).exists()) {
        return skip::report(
            "there is no module of the name service to test with; install libnss-extrausers",
        );
    }
    let Some(realm) = realm() else { return };
    let keytab = realm.add_service(&format!("cifs/{HOST}"), "keytab");
    for user in ["member", "outsider", "sssd", "winbind", "twice", "unknown"] {
        realm.add_user(user, PASSWORD, "");
    }
    let domain = realm.folder().join("domain");
    std::fs::create_dir(&domain).unwrap();
    // As SSSD writes whole names, as winbind does, and a bare one that is another's.
    let accounts = [
        ("member", 54321),
        ("outsider", 54322),
        ("sssd@TEST.EXAMPLE", 54323),
        ("OFFICE\\winbind", 54324),
        ("twice", 54325),
        ("twice@TEST.EXAMPLE", 54326),
    ]
    .map(|(name, uid)| format!("{name}:x:{uid}:54321::/:/bin/false\n"));
    std::fs::write(domain.join("passwd"), accounts.concat()).unwrap();
    std::fs::write(
        domain.join("group"),
        "domain:x:54321:\nstaff-of-domain:x:54400:member\nOFFICE\\staff:x:54401:OFFICE\\winbind\n",
    )
    .unwrap();
    let switch = realm.folder().join("nsswitch.conf");
    std::fs::write(
        &switch,
        "passwd: files extrausers\ngroup: files extrausers\n",
    )
    .unwrap();
    let server = builder(&realm, &keytab)
        .global("workgroup = OFFICE")
        .share(
            "office",
            "    read only = no\n    valid users = @\"OFFICE\\staff\", sssd@TEST.EXAMPLE",
        )
        .share(
            "theirs",
            "    read only = no\n    valid users = @staff-of-domain",
        )
        .bind(&domain, "/var/lib/extrausers")
        .bind(&switch, "/etc/nsswitch.conf")
        .start_or_skip();
    let Some(server) = server else { return };
    let put = |user: &str, share: &str| {
        std::fs::write(realm.folder().join("sent"), b"by a domain's user").unwrap();
        let mut client = smbclient(&realm, &server, share, user);
        let commands = format!("lcd {}; put sent {user}", realm.folder().display());
        text(
            &client
                .args(["-c", &commands])
                .output()
                .expect("run smbclient"),
        )
    };
    for (share, user, uid) in [
        ("share", "outsider", 54322),
        ("theirs", "member", 54321),
        ("share", "sssd", 54323),
        ("share", "winbind", 54324),
        ("share", "twice", 54326),
        ("office", "sssd", 54323),
        ("office", "winbind", 54324),
    ] {
        let said = put(user, share);
        let found = std::fs::metadata(server.share(share).join(user)).expect(&said);
        let owner = std::os::unix::fs::MetadataExt::uid(&found);
        assert_eq!(owner, uid, "{said}");
    }
    for (share, user) in [("theirs", "outsider"), ("office", "member")] {
        let said = put(user, share);
        assert!(said.contains("NT_STATUS_ACCESS_DENIED"), "{said}");
    }
    let said = put("unknown", "share");
    assert!(said.contains("NT_STATUS_LOGON_FAILURE"), "{said}");
    let log = server.log();
    let tried = "unknown@TEST.EXAMPLE, OFFICE\\unknown, unknown";
    assert!(log.contains(tried), "{log}");
}

/// MIT's library grants the clock's skew on top, which is a second in this realm.
#[test]
fn a_session_ends_with_its_ticket() {
    let Some(realm) = realm() else { return };
    let keytab = realm.add_service(&format!("cifs/{HOST}"), "keytab");
    realm.add_user(USER, PASSWORD, "-maxlife 6sec");
    let Some(server) = builder(&realm, &keytab).start_or_skip() else {
        return;
    };
    // A shell command is one only in what smbclient reads.
    let mut client = smbclient(&realm, &server, "share", USER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run smbclient");
    let mut input = client.stdin.take().expect("a pipe");
    input.write_all(b"ls\n!sleep 9\nls\n").unwrap();
    drop(input);
    let said = text(&client.wait_with_output().unwrap());
    assert!(said.contains("blocks of size"), "not even once: {said}");
    assert!(said.contains("NT_STATUS_NETWORK_SESSION_EXPIRED"), "{said}");
}

/// The kernel's client, over TCP and SMB Direct, in the lab.
#[test]
fn the_kernels_client_mounts_by_ticket() {
    let Some(guest) = Guest::of_our_server("kerberos.sh") else {
        return;
    };
    for program in [
        "/usr/sbin/krb5kdc",
        "/usr/bin/kinit",
        "/usr/sbin/cifs.upcall",
    ] {
        if !Path::new(program).exists() {
            return skip::report(&format!("there is no {program}; run ./x setup"));
        }
    }
    let Some(outcome) = guest.run_or_skip() else {
        return;
    };
    outcome.assert_succeeded();
    assert!(
        outcome.output.contains("kerberos: ok mounts=12"),
        "{}",
        outcome.output
    );
}
