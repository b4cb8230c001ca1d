//! Compressed messages over TCP, with a client of our own: smbclient, smbprotocol and the kernel's
//! client have none of the algorithms spoken here.

use std::time::Duration;

use proto::smb2::compression::{ChainedPayload, Unchained, encode_chain};
use proto::smb2::negotiate_context::compression::{LZ4, LZ77, LZ77_HUFFMAN, LZNT1, PATTERN_V1};
use proto::smb2::tree_connect::ShareFlags;
use proto::smb2::{Command, FileId, Header, MessageId, TreeId};
use smbd::security::encryption::Cipher;
use tests::client::{Connection, Offer, OpenOptions, Session, Tcp, Tree};
use tests::server::{PASSWORD, Server, USER};

const PATIENCE: Duration = Duration::from_secs(10);

fn offer(chained: bool) -> Offer {
    Offer {
        compression: vec![LZNT1, PATTERN_V1, LZ77, LZ77_HUFFMAN, LZ4],
        chained_compression: chained,
        ciphers: vec![Cipher::Aes128Gcm],
        ..Offer::default()
    }
}

struct Client {
    connection: Connection,
    session: Session,
    tree: Tree,
    file: FileId,
}

impl Client {
    fn of(server: &Server, share: &str, offer: Offer) -> Client {
        let mut connection = negotiated(server, offer);
        let session = connection.log_on(USER, PASSWORD).unwrap();
        let tree = connection.tree_connect(session, share).unwrap();
        let file = connection
            .open(tree, "file", OpenOptions::read_write())
            .unwrap();
        connection.compression.is_on = true;
        Client {
            connection,
            session,
            tree,
            file,
        }
    }

    /// Writes and reads back; how many messages went compressed each way.
    fn both_ways(&mut self, data: &[u8]) -> (u32, u32) {
        let seen = |connection: &Connection| {
            (connection.compression.sent, connection.compression.received)
        };
        let before = seen(&self.connection);
        let length = data.len() as u32;
        let written = self.connection.write(self.tree, self.file, 0, data);
        assert_eq!(written.unwrap(), length);
        let read = self.connection.read(self.tree, self.file, 0, length);
        assert!(read.unwrap() == data, "other bytes");
        let after = seen(&self.connection);
        (after.0 - before.0, after.1 - before.1)
    }
}

fn negotiated(server: &Server, offer: Offer) -> Connection {
    Connection::negotiate(Tcp::connect(server.address()).unwrap(), offer).unwrap()
}

fn text(length: usize) -> Vec<u8> {
    let words = b"what is said again and again ".iter().copied().cycle();
    words.take(length).collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn data_travels_compressed_both_ways_chained_and_unchained() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    for chained in [false, true] {
        let mut client = Client::of(&server, "share", offer(chained));
        let answered = client.connection.negotiated().compression.clone();
        let expected = match chained {
            true => (vec![PATTERN_V1, LZ4], true),
            false => (vec![LZ4], false),
        };
        assert_eq!(answered, Some(expected));
        for data in [text(100_000), vec![0; 1 << 20], text(1_000_003)] {
            assert_eq!(client.both_ways(&data), (1, 1), "{}", data.len());
        }
        assert_eq!(client.both_ways(&noise(100_000)), (0, 0));
        assert_eq!(client.both_ways(&text(1000)), (0, 0), "too short");
        // Nobody asked: the answer stays as it is.
        client.connection.compression.is_on = false;
        assert_eq!(client.both_ways(&text(100_000)), (0, 0));
    }
}

/// Signed, then compressed, then encrypted (MS-SMB2 3.3.4.1): the test's client undoes it in that
/// order's reverse, looks for the signature of the plain message, and takes no bare answer.
#[test]
fn compression_stands_between_signing_and_encryption() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut client = Client::of(&server, "share", offer(true));
    assert_eq!(client.both_ways(&text(200_000)), (1, 1), "signed");
    client.connection.encrypt(client.session).unwrap();
    assert_eq!(client.both_ways(&text(200_000)), (1, 1), "encrypted");
}

#[test]
fn a_share_says_whether_it_is_compressed() {
    let Some(server) = Server::builder()
        .share("never", "    read only = no\n    smb3 compression = off")
        .share(
            "always",
            "    read only = no\n    smb3 compression = desired",
        )
        .share("asked", "    read only = no")
        .start_or_skip()
    else {
        return;
    };
    for (share, told, answered) in [
        ("never", false, 0),
        ("always", true, 1),
        ("asked", false, 1),
    ] {
        let mut client = Client::of(&server, share, offer(true));
        let flags = client.tree.response.share_flags;
        assert_eq!(flags.contains(ShareFlags::COMPRESS_DATA), told, "{share}");
        assert_eq!(client.both_ways(&text(100_000)), (1, answered), "{share}");
    }
    let mut without = Offer::default();
    without.compression.clear();
    let client = Client::of(&server, "always", without);
    let flags = client.tree.response.share_flags;
    assert!(!flags.contains(ShareFlags::COMPRESS_DATA));
}

#[test]
fn compression_that_is_off_for_every_share_is_not_negotiated() {
    let Some(server) = Server::builder()
        .global("smb3 compression = off")
        .share("share", "    read only = no")
        .start_or_skip()
    else {
        return;
    };
    let connection = negotiated(&server, offer(true));
    assert_eq!(connection.negotiated().compression, None);
}

/// What a compressed message must not be, each on a connection of its own: it ends, and the log says
/// why; the server is there for the next one.
#[test]
fn bombs_and_damaged_messages_end_their_connection() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut echo = Vec::new();
    Header::request(Command::Echo, MessageId(0)).encode(&mut echo);
    echo.extend([4, 0, 0, 0]);
    let offered = negotiated(&server, offer(true));
    let sizes = offered.negotiated();
    let largest = sizes
        .max_read_size
        .max(sizes.max_write_size)
        .max(sizes.max_transact_size);
    let chain = |size: u32, payloads: &[ChainedPayload<'_>]| {
        let mut message = Vec::new();
        encode_chain(size, payloads, &mut message);
        message
    };
    let single = |original_size, algorithm, compressed: &[u8]| {
        let mut message = Vec::new();
        Unchained {
            original_size,
            algorithm,
            leading: &echo,
            compressed,
        }
        .encode(&mut message);
        message
    };
    let zeros = |repetitions| ChainedPayload::Pattern {
        byte: 0,
        repetitions,
    };
    let nested = chain(
        (8 + 8 + echo.len()) as u32,
        &[ChainedPayload::Plain(&chain(
            echo.len() as u32,
            &[ChainedPayload::Plain(&echo)],
        ))],
    );
    let cases = [
        ("3.3.5.2.1.2", single(u32::MAX, LZ4, &[0])),
        ("3.3.5.2.1.2", chain(u32::MAX, &[zeros(u32::MAX)])),
        ("3.3.5.2.1.2", chain(largest, &[zeros(largest), zeros(1)])),
        ("3.3.5.2.1.2", single(100, LZNT1, &[0; 50])),
        ("3.3.5.2.1.2", single(100, 0x55, &[0; 50])),
        ("3.1.5.3", single(100, LZ4, &[0xff; 50])),
        ("3.1.5.3", chain(largest, &[zeros(largest - 1)])),
        ("2.2.42", chain(9, &[])),
        ("payloads", chain(9, &[ChainedPayload::Plain(&[]); 300])),
        ("3.3.5.2)", nested),
        ("3.3.5.2)", chain(400, &[zeros(400)])),
    ];
    for (cause, message) in &cases {
        let mut connection = negotiated(&server, offer(true));
        let session = connection.log_on(USER, PASSWORD).unwrap();
        connection.tree_connect(session, "share").unwrap();
        let logged = server.log().len();
        connection.send_raw(message).unwrap();
        connection.wait_closed(PATIENCE).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while !server.log()[logged..].contains(cause) {
            assert!(
                std::time::Instant::now() < deadline,
                "no {cause} in {}",
                &server.log()[logged..]
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let mut next = Client::of(&server, "share", offer(true));
    assert_eq!(next.both_ways(&text(100_000)), (1, 1));
}

/// Who has not logged on may send a SESSION_SETUP's worth, compressed or not.
#[test]
fn a_client_that_has_not_logged_on_gets_64_kib_and_no_more() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let zeros = |repetitions| {
        let mut message = Vec::new();
        let pattern = ChainedPayload::Pattern {
            byte: 0,
            repetitions,
        };
        encode_chain(repetitions, &[pattern], &mut message);
        message
    };
    let mut connection = negotiated(&server, offer(true));
    connection.send_raw(&zeros(1 << 20)).unwrap();
    connection.wait_closed(PATIENCE).unwrap();
    assert!(
        server.log().contains("allowed are 65808"),
        "{}",
        server.log()
    );
    // A compressed ECHO, which needs no session, is answered.
    let mut connection = negotiated(&server, offer(true));
    let header = connection.header(Command::Echo, None, TreeId(0));
    let mut echo = Vec::new();
    header.encode(&mut echo);
    echo.extend([4, 0, 0, 0]);
    let mut message = Vec::new();
    encode_chain(
        echo.len() as u32,
        &[ChainedPayload::Plain(&echo)],
        &mut message,
    );
    connection.send_raw(&message).unwrap();
    connection.wait(header.message_id).unwrap().check().unwrap();
}

#[test]
fn a_compressed_message_without_negotiation_ends_the_connection() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut message = Vec::new();
    encode_chain(4, &[ChainedPayload::Plain(b"\xFESMB")], &mut message);
    let mut connection = negotiated(&server, Offer::default());
    connection.send_raw(&message).unwrap();
    connection.wait_closed(PATIENCE).unwrap();
    let mut first = Connection::new(Tcp::connect(server.address()).unwrap());
    first.send_raw(&message).unwrap();
    first.wait_closed(PATIENCE).unwrap();
}
