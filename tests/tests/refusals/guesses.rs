//! Who guesses passwords waits, alone: `failed logon delay`, over whatever connections the guesses
//! come, and what the log says of them.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use proto::smb2::NtStatus;
use smbd::security::ntlm::NtHash;
use tests::client::{Connection, Offer, OpenOptions, Tcp};
use tests::server::{PASSWORD, Server, USER};

use super::scene::{Client, connect, status};

const GUESS: &str = "Guessed-1";

fn server(delay: u32) -> Option<Server> {
    Server::builder()
        .global(&format!("failed logon delay = {delay}"))
        .share("share", "    read only = no")
        .start_or_skip()
}

/// Guesses at once, each over a connection with this offer; the answers as they come, with the time
/// since all of them began.
fn guess(server: &Server, user: &str, offers: Vec<Offer>) -> mpsc::Receiver<(NtStatus, Duration)> {
    let (answered, answers) = mpsc::channel();
    let (address, began) = (server.address(), Instant::now());
    for offer in offers {
        let (answered, user) = (answered.clone(), user.to_owned());
        thread::spawn(move || {
            let mut connection =
                Connection::negotiate(Tcp::connect(address).unwrap(), offer).unwrap();
            let outcome = connection.log_on(&user, GUESS);
            let _ = answered.send((status(outcome), began.elapsed()));
        });
    }
    answers
}

#[test]
fn guesses_over_several_connections_are_judged_one_after_the_other() {
    let Some(server) = server(3) else { return };
    // Each has a ClientGuid of its own, and so a process.
    let answers = guess(&server, USER, vec![Offer::default(), Offer::default()]);
    let (first, after) = answers.recv().unwrap();
    assert_eq!(first, NtStatus::LOGON_FAILURE);
    assert!(after >= Duration::from_secs(3), "{after:?}");
    let (second, after) = answers.recv().unwrap();
    assert_eq!(second, NtStatus::LOGON_FAILURE);
    assert!(after >= Duration::from_secs(6), "{after:?}");
}

#[test]
fn neither_another_user_nor_a_session_of_the_same_process_waits_for_a_guess() {
    let Some(server) = server(8) else { return };
    let offer = Offer::default();
    let mut connection = connect(&server, offer.clone()).unwrap();
    let session = connection.log_on(USER, PASSWORD).unwrap();
    let tree = connection.tree_connect(session, "share").unwrap();
    let file = connection
        .open(tree, "work", OpenOptions::read_write())
        .unwrap();
    let answers = guess(&server, "stranger", vec![offer]);
    for round in 0..50u8 {
        let data = vec![round; 10_000];
        connection.write(tree, file, 0, &data).unwrap();
        assert!(connection.read(tree, file, 0, 10_000).unwrap() == data);
    }
    Client::of(&server, "share");
    assert!(answers.try_recv().is_err(), "the guess was answered first");
    let (answer, after) = answers.recv().unwrap();
    assert_eq!(answer, NtStatus::LOGON_FAILURE);
    assert!(after >= Duration::from_secs(8), "{after:?}");
}

#[test]
fn a_guess_that_would_wait_too_long_is_refused_unseen() {
    let Some(server) = server(11) else { return };
    let answers = guess(&server, USER, vec![Offer::default(), Offer::default()]);
    let (answer, after) = answers.recv().unwrap();
    assert_eq!(answer, NtStatus::ACCOUNT_LOCKED_OUT);
    assert!(after < Duration::from_secs(11), "{after:?}");
    // The password would have been right; but nobody looks at it.
    let mut connection = connect(&server, Offer::default()).unwrap();
    let refused = connection.log_on(USER, PASSWORD);
    assert_eq!(status(refused), NtStatus::ACCOUNT_LOCKED_OUT);
}

#[test]
fn each_attempt_leaves_one_line_and_no_secret_in_the_log() {
    let Some(server) = server(1) else { return };
    let mut connection = connect(&server, Offer::default()).unwrap();
    let refused = connection.log_on(USER, GUESS);
    assert_eq!(status(refused), NtStatus::LOGON_FAILURE);
    connection.log_on(USER, PASSWORD).unwrap();
    let log = server.log();
    let lines = |what: &str| -> Vec<String> {
        let named = log.lines().filter(|line| line.contains(what));
        named.map(str::to_owned).collect()
    };
    let [failed] = &lines("a logon failed")[..] else {
        panic!("{log}");
    };
    let [logged_on] = &lines("logged on")[..] else {
        panic!("{log}");
    };
    for line in [failed, logged_on] {
        for part in [
            "peer=127.0.0.1:",
            "mechanism=\"NTLM\"",
            "purpose=\"session\"",
            &format!("user={USER:?}"),
            "workstation=\"TESTCLIENT\"",
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
    assert!(failed.contains("why=wrong password"), "{failed}");
    let hash = |password: &str| -> String {
        let hash = NtHash::of_password(password);
        hash.as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    for secret in [GUESS.into(), PASSWORD.into(), hash(GUESS), hash(PASSWORD)] {
        assert!(!log.contains(&secret), "{log}");
    }
}
