//! Dialects and how a client arrives at them: SMB2 NEGOTIATE, and the SMB1 NEGOTIATE of clients that
//! would speak SMB1 too (MS-SMB2 3.3.5.3). Frames of our own client, then smbclient's.

use std::process::Command;
use std::time::Duration;

use proto::smb2::multi_protocol::MultiProtocolNegotiate;
use proto::smb2::negotiate::Capabilities;
use proto::smb2::{Command as Smb2Command, Dialect, MessageId, TreeId};
use tests::client::{ClientError, Connection, Offer, OpenOptions, Tcp, Transport};
use tests::lab::skip;
use tests::server::{PASSWORD, Server, USER};

const PATIENCE: Duration = Duration::from_secs(10);

fn connection(server: &Server) -> Connection {
    Connection::new(Tcp::connect(server.address()).unwrap())
}

/// Logs on, writes more than one request's worth, and reads it back.
fn work(connection: &mut Connection, name: &str) {
    let session = connection.log_on(USER, PASSWORD).unwrap();
    let tree = connection.tree_connect(session, "share").unwrap();
    let file = connection
        .open(tree, name, OpenOptions::read_write())
        .unwrap();
    let piece = 65_536;
    for round in 0..3u32 {
        let data = vec![round as u8 + 1; piece as usize];
        let offset = u64::from(round * piece);
        assert_eq!(connection.write(tree, file, offset, &data).unwrap(), piece);
        assert_eq!(connection.read(tree, file, offset, piece).unwrap(), data);
    }
}

/// Sends bytes as the first message, and expects the connection closed without an answer.
#[track_caller]
fn closed_without_a_word(server: &Server, message: &[u8]) {
    let mut tcp = Tcp::connect(server.address()).unwrap();
    tcp.send(message).unwrap();
    let answer = tcp.receive(PATIENCE);
    assert!(matches!(answer, Err(ClientError::Closed)), "{answer:?}");
}

#[test]
fn dialect_2_0_2_moves_64_kib_a_request_and_no_more() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut connection = connection(&server);
    connection
        .exchange_negotiate(Offer::only(Dialect::Smb202))
        .unwrap();
    let negotiated = connection.negotiated();
    assert_eq!(negotiated.capabilities, Capabilities::empty());
    assert_eq!(
        (
            negotiated.max_read_size,
            negotiated.max_write_size,
            negotiated.max_transact_size
        ),
        (65_536, 65_536, 65_536)
    );
    work(&mut connection, "file");
    let session = connection.log_on(USER, PASSWORD).unwrap();
    let tree = connection.tree_connect(session, "share").unwrap();
    let file = connection.open(tree, "file", OpenOptions::read()).unwrap();
    let beyond = connection.read(tree, file, 0, 65_537).unwrap_err();
    assert_eq!(
        beyond.status(),
        Some(proto::smb2::NtStatus::INVALID_PARAMETER)
    );
}

#[test]
fn an_smb1_negotiate_with_the_wildcard_leads_to_any_dialect() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    for dialect in [
        Dialect::Smb202,
        Dialect::Smb210,
        Dialect::Smb302,
        Dialect::Smb311,
    ] {
        let mut connection = connection(&server);
        let answered = connection
            .exchange_multi_protocol(&[
                "PC NETWORK PROGRAM 1.0",
                "NT LM 0.12",
                "SMB 2.002",
                "SMB 2.???",
            ])
            .unwrap();
        assert_eq!(answered, Dialect::Wildcard);
        connection.exchange_negotiate(Offer::only(dialect)).unwrap();
        assert_eq!(connection.negotiated().dialect, dialect);
        work(&mut connection, "file");
    }
}

#[test]
fn an_smb1_negotiate_with_2_002_alone_settles_on_2_0_2() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut connection = connection(&server);
    let answered = connection
        .exchange_multi_protocol(&["NT LM 0.12", "SMB 2.002"])
        .unwrap();
    assert_eq!(answered, Dialect::Smb202);
    assert!(!connection.negotiated().security_buffer.is_empty());
    work(&mut connection, "file");
    // What is settled is not negotiated again (MS-SMB2 3.3.5.4).
    let again = connection.exchange_negotiate(Offer::only(Dialect::Smb202));
    assert!(matches!(again, Err(ClientError::Closed)), "{again:?}");
}

#[test]
fn an_smb1_negotiate_that_offers_nothing_spoken_here_is_not_answered() {
    let Some(server) = Server::builder()
        .global("server min protocol = SMB2_10")
        .share("share", "    read only = no")
        .start_or_skip()
    else {
        return;
    };
    let offering = |dialects: &[&str]| MultiProtocolNegotiate::request(dialects);
    closed_without_a_word(&server, &offering(&["NT LM 0.12"]));
    closed_without_a_word(&server, &offering(&[]));
    closed_without_a_word(&server, &offering(&["NT LM 0.12", "SMB 2.002"]));
    closed_without_a_word(&server, &offering(&["SMB 2.????", "XSMB 2.???"]));
    assert!(server.log().contains("server min protocol"));
}

#[test]
fn a_hostile_smb1_message_is_not_answered() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let sound = MultiProtocolNegotiate::request(&["SMB 2.???"]);
    for length in [4, 5, 32, 33, 34, sound.len() - 1] {
        closed_without_a_word(&server, &sound[..length]);
    }
    let changed = |at: usize, to: u8| {
        let mut message = sound.clone();
        message[at] = to;
        message
    };
    // Another command, parameter words, a longer ByteCount, another buffer format.
    for (at, to) in [(4, 0x73), (32, 1), (34, 0xff), (35, 4)] {
        closed_without_a_word(&server, &changed(at, to));
    }
    // The server is there for the next one.
    let mut next = connection(&server);
    next.exchange_multi_protocol(&["SMB 2.???"]).unwrap();
}

#[test]
fn only_an_smb2_negotiate_may_follow_the_wildcard() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let wildcard = || {
        let mut connection = connection(&server);
        connection.exchange_multi_protocol(&["SMB 2.???"]).unwrap();
        connection
    };
    let mut twice = wildcard();
    twice
        .send_raw(&MultiProtocolNegotiate::request(&["SMB 2.???"]))
        .unwrap();
    twice.wait_closed(PATIENCE).unwrap();
    let mut early = wildcard();
    let header = early.header(Smb2Command::Echo, None, TreeId(0));
    assert_eq!(header.message_id, MessageId(1));
    early.submit(header, &[4, 0, 0, 0]).unwrap();
    early.wait_closed(PATIENCE).unwrap();
    let mut late = wildcard();
    late.exchange_negotiate(Offer::only(Dialect::Smb300))
        .unwrap();
    late.send_raw(&MultiProtocolNegotiate::request(&["SMB 2.002"]))
        .unwrap();
    late.wait_closed(PATIENCE).unwrap();
}

/// A 2.0.2 client has no ClientGuid: what stands in its field leads to nobody's process.
#[test]
fn a_connection_of_2_0_2_is_not_handed_over_by_its_client_guid() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let offer = Offer::default();
    let mut owner = Connection::negotiate(Tcp::connect(server.address()).unwrap(), offer.clone());
    let owner = owner.as_mut().unwrap();
    work(owner, "owner");
    let mut same_owner = connection(&server);
    same_owner.exchange_negotiate(offer.clone()).unwrap();
    work(&mut same_owner, "same owner");
    let mut other = connection(&server);
    other
        .exchange_negotiate(Offer {
            dialects: vec![Dialect::Smb202.into()],
            ..offer
        })
        .unwrap();
    work(&mut other, "other");
    let status = server.status();
    assert_eq!(
        status.matches("\"client_guid\"").count(),
        2,
        "processes in {status}"
    );
}

/// smbclient that would speak SMB1 begins with an SMB1 NEGOTIATE; the least it then agrees to is
/// what it was told.
#[test]
fn smbclient_that_begins_in_smb1_ends_in_smb2() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let local = tempfile::tempdir().unwrap();
    let sent: Vec<u8> = (0..60_001u32).flat_map(|i| (i * 7).to_le_bytes()).collect();
    std::fs::write(local.path().join("sent"), &sent).unwrap();
    for least in ["CORE", "NT1"] {
        for most in ["SMB2_02", "SMB2_10", "SMB3_00", "SMB3_11"] {
            let output = Command::new("smbclient")
                .arg("//127.0.0.1/share")
                .args(["-p", &server.address().port().to_string()])
                .args(["-U", &format!("{USER}%{PASSWORD}")])
                .arg(format!("--option=client max protocol={most}"))
                .arg(format!("--option=client min protocol={least}"))
                .args(["--client-protection=sign", "-c"])
                .arg("put sent; get sent received; del sent")
                .current_dir(local.path())
                .output();
            let Ok(output) = output else {
                return skip::report("smbclient is not installed; run ./x setup");
            };
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && !said.contains("NT_STATUS"),
                "{least} to {most}: {said}"
            );
            let received = local.path().join("received");
            assert_eq!(std::fs::read(&received).unwrap(), sent, "{least} {most}");
            std::fs::remove_file(received).unwrap();
        }
    }
}
