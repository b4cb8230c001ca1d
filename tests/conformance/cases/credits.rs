//! Credits, MS-SMBD 3.1.5.1, 3.1.5.8 and 3.1.5.9: the suite's 6 cases. That nothing is sent without a
//! credit, and the last one only with a grant, the wire asks of every message of every case.

use std::time::{Duration, Instant};

use tests::client::ClientError;
use tests::hazards::pattern;

use crate::endpoint::Endpoint;
use crate::scene::Scene;
use crate::table::{Case, Group};
use crate::wire::{PROMPTLY, Piece, Terms};

const MODERATE: usize = 60_000;
/// MS-SMBD 3.1.6.2, as Windows waits for a sign of life.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(10);

#[rustfmt::skip]
pub fn cases<E: Endpoint>() -> Vec<Case<E>> {
    let case = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::Credits, name, section, rule, play);
    vec![
        case("BVT_SmbdCreditMgmt_OperationWithMinimumCredits", "MS-SMBD 3.1.5.9",
            "one credit each way suffices", |scene| operation(scene, 1)),
        case("SmbdCreditMgmt_OperationWithLimitedCredits", "MS-SMBD 3.1.5.9",
            "ten credits each way suffice", |scene| operation(scene, 10)),
        case("SmbdCreditMgmt_ConsumeAllSendCredits", "MS-SMBD 3.1.5.8",
            "a client without credits is granted some, on an empty message", consume_all_send_credits),
        case("SmbdCreditMgmt_ConsumeAllReceiveCredits", "MS-SMBD 3.1.5.1",
            "a server without credits waits until it is granted more", consume_all_receive_credits),
        case("SmbdCreditMgmt_ConsumeAllCreditServer_Timeout", "MS-SMBD 3.1.6.2",
            "a client that never grants again is let go", never_granted_again).waiting(),
        case("SmbdCreditMgmt_NegativeParameter_CreditRequested", "MS-SMBD 3.1.5.8",
            "CreditsRequested of 0 ends the connection", no_credits_requested),
    ]
}

fn operation<E: Endpoint>(scene: &Scene<E>, credits: u16) {
    let mut client = scene.client(Terms::credits(credits));
    let data = pattern(MODERATE, 1);
    assert_eq!(client.write(&data).expect("WRITE"), MODERATE as u32);
    assert!(client.read(MODERATE).expect("READ") == data);
    client.leave_with(&data);
}

fn consume_all_send_credits<E: Endpoint>(scene: &Scene<E>) {
    let mut wire = scene.wire(Terms::BASIC);
    let all = wire.ledger.held;
    assert_eq!(all, 10, "granted by the response");
    while wire.ledger.held > 0 {
        let piece = Piece {
            credits_granted: Some(1),
            ..Piece::empty()
        };
        wire.send_now(piece).expect("send");
    }
    let before = wire.ledger.heard.len();
    wire.hear_until("a grant", PROMPTLY, |wire| wire.ledger.held > 0);
    let grant = wire.ledger.heard[before];
    assert_eq!(grant.data_length, 0, "{grant:?}");
    assert!(grant.credits_granted > 0, "{grant:?}");
}

/// A READ's reply needs six times the credits there are.
fn consume_all_receive_credits<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::credits(10));
    let data = pattern(MODERATE, 2);
    client.write(&data).expect("WRITE");
    let (tree, file) = (client.tree, client.file);
    client.line.wire().grants = false;
    let silence = {
        let body =
            tests::client::read_body(file, 0, MODERATE as u32, proto::smb2::Channel::None, &[]);
        let header =
            client
                .connection
                .payload_header(proto::smb2::Command::Read, tree, MODERATE as u32);
        let message = client.connection.submit(header, &body).expect("READ");
        let waited = client
            .connection
            .wait_for(message, Duration::from_millis(700));
        (message, waited)
    };
    let (message, waited) = silence;
    assert!(matches!(waited, Err(ClientError::Silence(_))), "{waited:?}");
    assert_eq!(client.line.wire().ledger.granted, 0, "it uses them up");
    client.line.wire().grant(10).expect("grant");
    let reply = client.connection.wait(message).expect("the reply");
    let reply = reply.check().expect("READ");
    let response = proto::smb2::read::ReadResponse::decode(&reply.element).expect("READ");
    assert!(response.data == data);
    client.leave_with(&data);
}

fn never_granted_again<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::credits(10));
    client.write(&pattern(MODERATE, 3)).expect("WRITE");
    let (tree, file) = (client.tree, client.file);
    {
        let mut wire = client.line.wire();
        wire.grants = false;
        wire.answers = false;
    }
    let started = Instant::now();
    let body = tests::client::read_body(file, 0, MODERATE as u32, proto::smb2::Channel::None, &[]);
    let header =
        client
            .connection
            .payload_header(proto::smb2::Command::Read, tree, MODERATE as u32);
    client.connection.submit(header, &body).expect("READ");
    let all = scene.keepalive_interval + REPLY_TIMEOUT;
    client.line.wire().expect_end(all + LATE);
    let waited = started.elapsed();
    assert!(
        waited > scene.keepalive_interval - Duration::from_millis(500),
        "ended after {waited:?} already"
    );
}

fn no_credits_requested<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::credits(10));
    let piece = Piece {
        credits_requested: Some(0),
        ..Piece::empty()
    };
    client.line.wire().send(piece).expect("send");
    client.expect_end();
    // Nor in the first one behind the negotiation.
    let mut wire = scene.wire(Terms::credits(10));
    let piece = Piece {
        credits_requested: Some(0),
        ..Piece::empty()
    };
    wire.send(piece).expect("send");
    wire.expect_end(PROMPTLY);
}
