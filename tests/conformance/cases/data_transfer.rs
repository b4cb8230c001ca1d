//! Data Transfer messages and what ends a connection, MS-SMBD 3.1.5.8 and 3.1.6.2: the suite's 18
//! cases. What is moved is a WRITE's message, so that whatever arrives ends up in a file.

use std::time::{Duration, Instant};

use proto::smbdirect::messages::{NegotiateRequest, RESPONSE_REQUESTED};
use tests::client::ClientError;
use tests::hazards::pattern;

use crate::endpoint::Endpoint;
use crate::scene::{Scene, WireClient};
use crate::table::{Case, Group};
use crate::wire::{BASIC, Piece, Terms};

/// Fits one message.
const SMALL: usize = 500;
/// Needs several.
const MODERATE: usize = 60_000;
/// MS-SMBD 3.1.6.2, as Windows waits for a sign of life.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// What a timer may be late on a busy machine.
const LATE: Duration = Duration::from_secs(10);

#[rustfmt::skip]
pub fn cases<E: Endpoint>() -> Vec<Case<E>> {
    let case = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::DataTransfer, name, section, rule, play);
    vec![
        case("BVT_SmbdDataTransfer_Basic_SendSmallBytesOfData", "MS-SMBD 3.1.5.8",
            "a message in one fragment arrives", |scene| arrives(scene, SMALL, |message| Piece::cut(message, [1000]))),
        case("BVT_SmbdDataTransfer_Basic_SendModerateBytesData", "MS-SMBD 3.1.5.8",
            "a message in full fragments arrives", |scene| arrives(scene, MODERATE, |message| Piece::cut(message, [1000]))),
        case("SmbdDataTransfer_VariableLengthSegment", "MS-SMBD 3.1.5.8",
            "fragments of any length, empty ones among them, are one message", variable_length),
        case("SmbdDataTransfer_SmallLengthSegment", "MS-SMBD 3.1.5.8",
            "a message in fragments of one byte arrives",
            |scene| arrives(scene, MODERATE, |message| Piece::cut(message, [1]))).waiting(),
        case("SmbdDataTransfer_Redundancy", "MS-SMBD 3.1.5.8",
            "bytes behind the payload are ignored", redundancy),
        case("SmbdDataTransfer_ReceiveMaxReceiveSize", "MS-SMBD 3.1.5.1",
            "no fragment is longer than the client's MaxReceiveSize", receive_max_receive_size),
        case("SmbdDataTransfer_UncompletedMessage", "MS-SMBD 3.1.5.8",
            "a message shorter than 20 bytes ends the connection", uncompleted),
        case("SmbdDataTransfer_NegativeParameter_DataOffset_Against8ByteAligned", "MS-SMBD 3.1.5.8",
            "a DataOffset that is no multiple of 8 ends the connection", |scene| {
                ended(scene, SMALL, |pieces| pieces[0].place(23));
                ended(scene, SMALL, |pieces| pieces[0].place(25));
            }),
        case("SmbdDataTransfer_NegativeParameter_DataOffset_AgainstMessageLength", "MS-SMBD 3.1.5.8",
            "payload that begins too late ends the connection", |scene| {
                ended(scene, SMALL, |pieces| pieces[0].data_offset = 32);
                ended(scene, SMALL, |pieces| pieces[0].data_offset = u32::MAX - 7);
                ended(scene, SMALL, |pieces| pieces[0].data_offset = u32::MAX);
            }),
        case("SmbdDataTransfer_NegativeParameter_DataLength_AgainstMessageLength", "MS-SMBD 3.1.5.8",
            "payload longer than the message ends the connection", |scene| {
                ended(scene, SMALL, |pieces| pieces[0].data_length += 1);
                ended(scene, SMALL, |pieces| pieces[0].data_length = 1024);
                ended(scene, SMALL, |pieces| pieces[0].data_length = u32::MAX);
            }),
        case("SmbdDataTransfer_NegativeParameter_DataLength_AgainstMaxReceiveSize", "MS-SMBD 3.1.5.5",
            "a message longer than MaxReceiveSize ends the connection", longer_than_max_receive_size),
        case("SmbdDataTransfer_NegativeParameter_AgainstMaxFragmentedSize", "MS-SMBD 3.1.5.8",
            "a message longer than MaxFragmentedSize ends the connection", against_max_fragmented_size),
        case("SmbdDataTransfer_NegativeParameter_RemainingDataLength_AgainstMaxFragmentedSize", "MS-SMBD 3.1.5.8",
            "announcing more than MaxFragmentedSize ends the connection", remaining_against_max_fragmented_size),
        case("SmbdDataTransfer_NegativeParameter_RemainingDataLength_Zero", "MS-SMBD 3.1.5.8",
            "a last fragment that comes too early ends the connection", |scene| {
                ended(scene, MODERATE, |pieces| pieces[1].remaining = 0);
                ended(scene, MODERATE, |pieces| {
                    let before_last = pieces.len() - 2;
                    pieces[before_last].remaining = 0;
                });
            }),
        case("SmbdDataTransfer_NegativeParameter_RemainingDataLength_AgainstFragmentReassemblyRemaining", "MS-SMBD 3.1.5.8",
            "a fragment that announces more than is due ends the connection", |scene| {
                ended(scene, MODERATE, |pieces| pieces[1].remaining += 1);
                ended(scene, MODERATE, |pieces| pieces[1].remaining = u32::MAX);
            }),
        case("SmbdDataTransfer_IdleConnection_Client", "MS-SMBD 3.1.5.8",
            "who asks for a sign of life gets one", idle_client),
        case("SmbdDataTransfer_IdleConnection_Server", "MS-SMBD 3.1.6.2",
            "an idle client is asked for a sign of life, and lives if it gives one", idle_server).waiting(),
        case("SmbdDataTransfer_IdleConnection_Server_Timeout", "MS-SMBD 3.1.6.2",
            "a client that gives no sign of life is let go", idle_server_timeout).waiting(),
    ]
}

/// A WRITE of so much, cut so, ends up in the file.
#[track_caller]
pub fn arrives<E: Endpoint>(scene: &Scene<E>, length: usize, cut: fn(&[u8]) -> Vec<Piece>) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(length, 1);
    client.line.wire().cut_next(cut);
    assert_eq!(client.write(&data).expect("WRITE"), length as u32);
    client.leave_with(&data);
}

/// A WRITE of so much, in fragments that were spoilt so, ends the connection and writes nothing.
#[track_caller]
pub fn ended<E: Endpoint>(
    scene: &Scene<E>,
    length: usize,
    spoil: impl Fn(&mut Vec<Piece>) + 'static,
) {
    let mut client = scene.client(Terms::BASIC);
    refused(&mut client, length, spoil);
}

#[track_caller]
fn refused<E: Endpoint>(
    client: &mut WireClient<E>,
    length: usize,
    spoil: impl Fn(&mut Vec<Piece>) + 'static,
) {
    let room = client.line.wire().room();
    client.line.wire().cut_next(move |message| {
        let mut pieces = Piece::cut(message, [room]);
        spoil(&mut pieces);
        pieces
    });
    let answer = client.write(&pattern(length, 2));
    assert!(
        matches!(answer, Err(ClientError::Closed)),
        "not ended but {answer:?}"
    );
    client.expect_end();
}

/// 128 bytes, 127, … 1, none, 1, … 128, and again; before them one that only announces.
fn variable_length<E: Endpoint>(scene: &Scene<E>) {
    arrives(scene, MODERATE, |message| {
        let wave = (0..=128).rev().chain(1..=128).cycle();
        Piece::cut(message, [0].into_iter().chain(wave))
    });
}

fn redundancy<E: Endpoint>(scene: &Scene<E>) {
    arrives(scene, SMALL, |message| {
        let mut pieces = Piece::cut(message, [1000]);
        pieces[0].tail.resize(1024 - 20, 0x5a);
        pieces
    });
}

fn receive_max_receive_size<E: Endpoint>(scene: &Scene<E>) {
    for max_receive_size in [128, 1000, 1024] {
        let terms = Terms {
            request: NegotiateRequest {
                max_receive_size,
                ..BASIC
            },
            ..Terms::BASIC
        };
        let mut client = scene.client(terms);
        let data = pattern(SMALL, 3);
        client.write(&data).expect("WRITE");
        // The reply fills one message: 24 bytes of header, then 80 and the data.
        let fits = (max_receive_size as usize)
            .saturating_sub(24 + 80)
            .min(SMALL);
        let before = client.line.wire().ledger.heard.len();
        let read = client.read(fits.max(1)).expect("READ");
        assert!(read == data[..fits.max(1)]);
        let heard = client.line.wire().ledger.heard[before..].to_vec();
        let with_data: Vec<_> = heard.iter().filter(|one| one.data_length > 0).collect();
        assert_eq!(with_data.len(), 1, "{heard:?}");
        let only = with_data[0];
        assert_eq!((only.remaining_data_length, only.data_offset), (0, 24));
        assert_eq!(only.data_length as usize, 80 + fits);
        // One byte more does not fit.
        let read = client.read(SMALL).expect("READ");
        assert!(read == data);
        client.leave_with(&data);
    }
}

fn uncompleted<E: Endpoint>(scene: &Scene<E>) {
    for length in [19, 1] {
        let mut client = scene.client(Terms::BASIC);
        client.line.wire().send_raw(&vec![1; length]).expect("send");
        client.expect_end();
    }
}

fn longer_than_max_receive_size<E: Endpoint>(scene: &Scene<E>) {
    let terms = Terms {
        request: NegotiateRequest {
            preferred_send_size: u32::MAX,
            max_receive_size: u32::MAX,
            max_fragmented_size: u32::MAX,
            ..BASIC
        },
        ..Terms::BASIC
    };
    let mut client = scene.client(terms);
    refused(&mut client, 4000, |pieces| {
        pieces[0].tail.push(0);
        pieces[0].data_length += 1;
        pieces[0].remaining -= 1;
    });
    // Exactly as long is right.
    let mut client = scene.client(terms);
    let data = pattern(4000, 5);
    client.write(&data).expect("WRITE");
    client.leave_with(&data);
}

/// Bytes of a WRITE's message before its data.
const WRITE_HEADERS: usize = 64 + 48;

fn against_max_fragmented_size<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let most = client.line.wire().response.max_fragmented_size as usize;
    let longer = pattern(most - WRITE_HEADERS + 1, 6);
    let answer = client.write(&longer);
    assert!(
        matches!(answer, Err(ClientError::Closed)),
        "not ended but {answer:?}"
    );
    client.expect_end();
    // Exactly as long is right.
    let mut client = scene.client(Terms::BASIC);
    (0..16).for_each(|_| client.connection.echo().expect("echo"));
    let data = pattern(most - WRITE_HEADERS, 7);
    client.write(&data).expect("WRITE");
    client.leave_with(&data);
}

fn remaining_against_max_fragmented_size<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let most = client.line.wire().response.max_fragmented_size;
    refused(&mut client, SMALL, move |pieces| {
        pieces[0].remaining = most + 1 - pieces[0].data_length;
    });
    ended(scene, SMALL, |pieces| pieces[0].remaining = u32::MAX);
    // Without payload too.
    ended(scene, SMALL, move |pieces| {
        *pieces = vec![Piece {
            remaining: most + 1,
            ..Piece::empty()
        }];
    });
}

fn idle_client<E: Endpoint>(scene: &Scene<E>) {
    let client = scene.client(Terms::BASIC);
    let mut wire = client.line.wire();
    let before = wire.ledger.heard.len();
    wire.send(Piece {
        flags: RESPONSE_REQUESTED,
        ..Piece::empty()
    })
    .expect("send");
    wire.hear_until("a sign of life", REPLY_TIMEOUT, |wire| {
        wire.ledger.heard.len() > before
    });
    let sign = wire.ledger.heard[before];
    assert_eq!((sign.data_length, sign.flags), (0, 0), "{sign:?}");
    assert!(sign.credits_granted > 0, "{sign:?}");
}

fn idle_server<E: Endpoint>(scene: &Scene<E>) {
    let client = scene.client(Terms::BASIC);
    let mut wire = client.line.wire();
    let mut started = Instant::now();
    for _ in 0..2 {
        let before = wire.ledger.heard.len();
        wire.hear_until(
            "the server's asking",
            scene.keepalive_interval + LATE,
            |wire| wire.ledger.heard.len() > before,
        );
        let waited = started.elapsed();
        let asked = wire.ledger.heard[before];
        assert_eq!((asked.data_length, asked.flags), (0, RESPONSE_REQUESTED));
        assert!(
            waited > scene.keepalive_interval - Duration::from_millis(500),
            "asked after {waited:?} already"
        );
        // The wire has answered, and the timer starts anew.
        started = Instant::now();
    }
    drop(wire);
    client.leave_with(b"");
}

fn idle_server_timeout<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    client.line.wire().answers = false;
    let started = Instant::now();
    let all = scene.keepalive_interval + REPLY_TIMEOUT;
    client.line.wire().expect_end(all + LATE);
    let waited = started.elapsed();
    assert!(
        waited > all - Duration::from_millis(500),
        "ended after {waited:?} already"
    );
    assert!(client.connection.echo().is_err());
}
