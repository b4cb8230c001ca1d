//! SMB Direct's rules that Microsoft's suite does not try: how connections begin, fragments and credits
//! at their edges, and what killed other servers.

use std::time::Duration;

use proto::smb2::{Channel, Command, Dialect, MessageId};
use proto::smbdirect::messages::{NegotiateRequest, NegotiateResponse, RESPONSE_REQUESTED};
use tests::client::{ClientError, read_body};
use tests::hazards::pattern;

use super::data_transfer::{arrives, ended};
use crate::endpoint::Endpoint;
use crate::scene::{Scene, WireClient};
use crate::table::{Case, Devices, Group, Settings};
use crate::wire::{BASIC, PROMPTLY, Piece, Terms, Wire};

const SMALL: usize = 500;
const MODERATE: usize = 60_000;

/// The simulated device hands out a connection's first message before it says that it is up, and the
/// end of a send after the answer to it.
const OVERTAKING: Settings = Settings {
    environment: &[(
        "SMBDIRECT_FABRIC_HAZARDS",
        "receive-before-established,late-send-completions",
    )],
    ..crate::table::PLAIN
};
/// The simulated device is an iWARP one.
const IWARP: Settings = Settings {
    environment: &[("SMBDIRECT_FABRIC_DEVICES", "simulated0=10.9.0.1/iwarp")],
    iwarp: true,
    ..crate::table::PLAIN
};
const NO_IWARP: &str = "soft-RoCE is no iWARP: the numbers are the connection manager's";
const IN_ORDER: &str = "a soft device tells things in their order";

#[rustfmt::skip]
pub fn cases<E: Endpoint>() -> Vec<Case<E>> {
    let case = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::Beyond, name, section, rule, play);
    vec![
        case("Begin_NegotiateBeforeEstablished", "MS-SMBD 3.1.7.2",
            "a request that overtakes ESTABLISHED is answered after it", overtaking).with(&OVERTAKING)
            .without(Devices::Rxe, IN_ORDER).without(Devices::Siw, IN_ORDER),
        case("Begin_Burst", "MS-SMBD 3.1.7.2",
            "connections that come all at once are all served", burst),
        case("Begin_DataBeforeNegotiate", "MS-SMBD 3.1.5.5",
            "who begins with data is let go", data_before_negotiate),
        case("Begin_NegotiateTwice", "MS-SMBD 3.1.5.5",
            "who negotiates twice is let go", negotiate_twice),
        case("Begin_ServerWaits", "MS-SMBD 3.1.5.1",
            "a server says nothing before it was granted a credit", server_waits),
        case("Begin_OtherPort", "MS-SMBD 2.1",
            "445 is for InfiniBand and RoCE, 5445 for iWARP", other_port),
        case("Begin_LegacyIwarp", "RFC 6581 1, 9",
            "READ depths in private data, as old iWARP has them, are answered so", legacy_iwarp).with(&IWARP)
            .without(Devices::Rxe, NO_IWARP),
        case("Begin_LegacyIwarpWithoutReads", "RFC 6581 1, 9",
            "an iWARP peer that allows no READ is refused", |scene| {
                for data in [[0; 8], [0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0, 0]] {
                    assert!(E::connect_saying(scene.rdma, &data).is_err(), "{data:?}");
                }
            }).with(&IWARP).without(Devices::Rxe, NO_IWARP),
        case("Begin_PrivateDataIgnored", "MS-SMBD 3.1.7.2",
            "private data means nothing but with iWARP, and then only as two numbers", |scene| {
                let of_no_meaning: &[u8] = match scene.devices {
                    Devices::Siw => &[0; 24],
                    Devices::Simulated | Devices::Rxe => &[0; 8],
                };
                let (endpoint, answered) = E::connect_saying(scene.rdma, of_no_meaning).expect("a connection");
                assert!(answered.iter().all(|byte| *byte == 0), "{answered:?}");
                Wire::negotiate(endpoint, Terms::BASIC).expect("SMB Direct's negotiation");
            }),
        case("Fragments_AnnouncingLess", "MS-SMBD 3.1.5.8",
            "a fragment that announces less than is due ends the connection", |scene| {
                ended(scene, MODERATE, |pieces| pieces[1].remaining -= 1);
                ended(scene, MODERATE, |pieces| {
                    let last = pieces.len() - 1;
                    pieces[last].remaining = 1;
                });
            }),
        case("Fragments_EmptyContradicting", "MS-SMBD 3.1.5.8",
            "an empty message that announces something else ends the connection", |scene| {
                ended(scene, MODERATE, |pieces| {
                    let remaining = pieces[0].remaining - 1;
                    pieces.insert(1, Piece { remaining, ..Piece::empty() });
                });
            }),
        case("Fragments_EmptyBetween", "MS-SMBD 3.1.5.8",
            "an empty message between fragments disturbs nothing", |scene| {
                arrives(scene, MODERATE, |message| {
                    let pieces = Piece::cut(message, [1000]).into_iter();
                    pieces.flat_map(|piece| [Piece::empty(), piece]).collect()
                });
            }),
        case("Fragments_NoEmptyBetween", "MS-SMBD 3.1.5.1",
            "a server asked for signs of life keeps the fragments of its replies together", no_empty_between),
        case("Fragments_LaterDataOffset", "MS-SMBD 2.2.3",
            "payload may begin at any multiple of 8", |scene| {
                arrives(scene, SMALL, |message| later(message, 32));
                arrives(scene, SMALL, |message| later(message, 256));
            }),
        case("Fragments_ReservedIgnored", "MS-SMBD 2.2.3",
            "reserved fields, unknown flags and padding are ignored", reserved_ignored),
        case("Fragments_Smallest", "MS-SMBD 3.1.5.6",
            "a client that sends and takes 128 bytes at a time is served", smallest),
        case("Fragments_ReplyTooLong", "MS-SMBD 3.1.4.2",
            "a reply longer than the client reassembles becomes an error", reply_too_long),
        case("Credits_LastGrants", "MS-SMBD 3.1.5.1",
            "the last credit is spent on a message that grants one", last_grants),
        case("Credits_Absolute", "MS-SMBD 2.2.3",
            "CreditsRequested is how many to hold, not how many more", absolute),
        case("Credits_Lowered", "MS-SMBD 2.2.3",
            "a client that asks for fewer credits gets no more than that", lowered),
        case("Credits_Overflow", "MS-SMBD 3.1.5.8",
            "more credits granted than a counter holds end the connection", overflow),
        case("End_NothingLeft", "MS-SMBD 3.1.7.3",
            "of clients that are gone, however they went, nothing is left", Scene::expect_nothing_left).behind_all(),
    ]
}

fn overtaking<E: Endpoint>(scene: &Scene<E>) {
    for _ in 0..10 {
        let mut client = scene.client(Terms::BASIC);
        let data = pattern(MODERATE, 1);
        client.write(&data).expect("WRITE");
        assert!(client.read(MODERATE).expect("READ") == data);
        client.leave_with(&data);
    }
}

fn burst<E: Endpoint>(scene: &Scene<E>) {
    let mut endpoints: Vec<E> = (0..40).map(|_| scene.endpoint()).collect();
    for endpoint in &mut endpoints {
        endpoint.send(&BASIC.encode()).expect("send the request");
    }
    for endpoint in &mut endpoints {
        let answer = endpoint.receive(PROMPTLY).expect("an answer");
        let response = NegotiateResponse::decode(&answer).expect("a response");
        assert_eq!(response.status, 0, "{response:?}");
    }
}

fn data_before_negotiate<E: Endpoint>(scene: &Scene<E>) {
    let mut endpoint = scene.endpoint();
    let data = Piece::data(b"\xfeSMB and so on", 0);
    endpoint.send(&data.bytes(10, 10)).expect("send");
    loop {
        match endpoint.receive(PROMPTLY) {
            // What is taken for a request of another version may be answered so.
            Ok(answer) => {
                let response = NegotiateResponse::decode(&answer).expect("a response");
                assert_ne!(response.status, 0, "{response:?}");
            }
            Err(ClientError::Closed) => return,
            Err(error) => panic!("not let go: {error}"),
        }
    }
}

fn negotiate_twice<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    client.line.wire().send_raw(&BASIC.encode()).expect("send");
    client.expect_end();
}

fn server_waits<E: Endpoint>(scene: &Scene<E>) {
    let mut wire = scene.wire(Terms::BASIC);
    wire.grants = false;
    let silence = wire.hear(Duration::from_millis(500));
    assert!(
        matches!(silence, Err(ClientError::Silence(_))),
        "{silence:?}"
    );
}

fn other_port<E: Endpoint>(scene: &Scene<E>) {
    let mut other = scene.rdma;
    other.set_port(if scene.rdma.port() == 445 { 5445 } else { 445 });
    assert!(E::connect(other).is_err(), "somebody listens at {other}");
}

/// It serves four READs at a time and wants two: the server has no use for more than four, and serves one.
fn legacy_iwarp<E: Endpoint>(scene: &Scene<E>) {
    let asked = [0, 0, 0, 4, 0, 0, 0, 2];
    let connected = E::connect_saying(scene.rdma, &asked);
    let (endpoint, answered) = connected.expect("a connection");
    assert_eq!(answered, [0, 0, 0, 1, 0, 0, 0, 4]);
    let wire = Wire::negotiate(endpoint, Terms::BASIC).expect("SMB Direct's negotiation");
    let mut client = scene.client_on(wire, Dialect::Smb302);
    let (tree, file) = (client.tree, client.file);
    let data = pattern(1 << 20, 8);
    let written = client
        .connection
        .write_rdma(tree, file, 0, &data, Channel::RdmaV1, 16);
    assert_eq!(written.expect("WRITE"), 1 << 20);
    client.leave_with(&data);
}

fn later(message: &[u8], offset: u32) -> Vec<Piece> {
    let mut pieces = Piece::cut(message, [SMALL]);
    pieces.iter_mut().for_each(|piece| piece.place(offset));
    pieces
}

fn reserved_ignored<E: Endpoint>(scene: &Scene<E>) {
    arrives(scene, MODERATE, |message| {
        let mut pieces = Piece::cut(message, [1000]);
        for piece in &mut pieces {
            piece.reserved = u16::MAX;
            piece.flags = !RESPONSE_REQUESTED;
            piece.tail[..4].fill(0x5a);
        }
        pieces
    });
    let mut request = BASIC.encode();
    request[4..6].fill(0xff);
    let mut endpoint = scene.endpoint();
    endpoint.send(&request).expect("send the request");
    let answer = endpoint.receive(PROMPTLY).expect("an answer");
    let response = NegotiateResponse::decode(&answer).expect("a response");
    assert_eq!(response.status, 0, "{response:?}");
}

fn smallest<E: Endpoint>(scene: &Scene<E>) {
    let terms = Terms {
        request: NegotiateRequest {
            preferred_send_size: 128,
            max_receive_size: 128,
            ..BASIC
        },
        ..Terms::BASIC
    };
    let mut client = scene.client(terms);
    assert_eq!(client.line.wire().room(), 128 - 24);
    let data = pattern(MODERATE, 2);
    client.write(&data).expect("WRITE");
    assert!(client.read(MODERATE).expect("READ") == data);
    client.leave_with(&data);
}

fn reply_too_long<E: Endpoint>(scene: &Scene<E>) {
    const LONG: usize = 200_000;
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(LONG, 3);
    std::fs::write(&client.path, &data).expect("fill the file");
    let refused = client.read(LONG).expect_err("more than it reassembles");
    assert!(refused.status().is_some(), "{refused}");
    assert!(client.read(MODERATE).expect("READ") == data[..MODERATE]);
    client.leave_with(&data);
}

/// Many long replies at once, and all the while the server is asked for signs of life. That none of
/// these comes between two fragments the ledger asks of each.
fn no_empty_between<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::credits(60));
    let data = pattern(MODERATE, 4);
    client.write(&data).expect("WRITE");
    let messages: Vec<MessageId> = (0..12).map(|_| submit_read(&mut client)).collect();
    for _ in 0..40 {
        let asking = Piece {
            flags: RESPONSE_REQUESTED,
            ..Piece::empty()
        };
        client.line.wire().send(asking).expect("send");
    }
    for message in messages {
        let reply = client.connection.wait(message).expect("a reply");
        let reply = reply.check().expect("READ");
        let response = proto::smb2::read::ReadResponse::decode(&reply.element);
        assert!(response.expect("READ").data == data);
    }
    let heard = client.line.wire().ledger.heard.len();
    assert!(heard > 12 * MODERATE / 1000, "{heard} messages");
    client.leave_with(&data);
}

fn submit_read<E: Endpoint>(client: &mut WireClient<E>) -> MessageId {
    let body = read_body(client.file, 0, MODERATE as u32, Channel::None, &[]);
    let header = client
        .connection
        .payload_header(Command::Read, client.tree, MODERATE as u32);
    client.connection.submit(header, &body).expect("READ")
}

/// The client holds every credit it asked for, so that nothing is owed to it; the server holds few, and
/// each time its last one must bring another all the same, which the ledger asks of each.
fn last_grants<E: Endpoint>(scene: &Scene<E>) {
    for grants in [1, 2, 3] {
        let terms = Terms {
            grants,
            ..Terms::BASIC
        };
        let mut client = scene.client(terms);
        let data = pattern(MODERATE, 5);
        std::fs::write(&client.path, &data).expect("fill the file");
        assert!(client.read(MODERATE).expect("READ") == data);
        client.leave_with(&data);
    }
}

fn absolute<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(MODERATE, 6);
    for _ in 0..10 {
        client.write(&data).expect("WRITE");
    }
    // That it never holds more is asked of every message of every case.
    assert!(client.line.wire().ledger.held <= 11);
    client.leave_with(&data);
}

fn lowered<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    client.line.wire().set_target(2);
    let data = pattern(MODERATE, 7);
    client.write(&data).expect("WRITE");
    assert!(client.line.wire().ledger.held <= 3);
    client.line.wire().set_target(10);
    client.write(&data).expect("WRITE");
    client.leave_with(&data);
}

fn overflow<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    for _ in 0..2 {
        let generous = Piece {
            credits_granted: Some(u16::MAX),
            ..Piece::empty()
        };
        // The second may find the connection over already.
        let _ = client.line.wire().send(generous);
    }
    client.expect_end();
}
