//! Bytes that are no message, messages that are no request, and clients that are suddenly gone.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use proto::smb2::change_notify::{ChangeNotifyFlags, ChangeNotifyRequest, CompletionFilter};
use proto::smb2::{Channel, Command, CreateOptions, Header, MessageId, ShareAccess, TreeId};
use tests::client::{ClientError, Connection, OpenOptions, Tcp, Transport, read_body};
use tests::server::Server;

use super::scene::{Client, Scene};

const PATIENCE: Duration = Duration::from_secs(8);

/// Sends bytes on a connection of their own, and waits for the server to close it.
fn send_bytes(server: &Server, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server keeps the connection: {error}"),
    }
}

#[test]
fn a_frame_of_no_allowed_length_ends_the_connection() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    for prefix in [
        [0u8, 0, 0, 0],
        [0, 1, 0x11, 0],
        [0, 0xff, 0xff, 0xff],
        [0x85, 0, 0, 4],
        *b"GET ",
    ] {
        scene.refused("MS-SMB2 2.1", |server| send_bytes(server, &prefix));
    }
}

#[test]
fn a_longer_message_than_negotiated_ends_an_authenticated_connection() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    scene.refused("MS-SMB2 2.1", |server| {
        let mut client = Client::of(server, "share");
        let header = client.connection.header(Command::Echo, None, TreeId(0));
        let mut message = Vec::new();
        header.encode(&mut message);
        message.resize(9 << 20, 0);
        // It may be gone before all of it was sent.
        let _ = client.connection.send_raw(&message);
        client.connection.wait_closed(PATIENCE).unwrap();
    });
}

#[test]
fn a_message_that_is_no_request_ends_the_connection() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    let mut response = Header::request(Command::Echo, MessageId(0));
    response.flags |= proto::smb2::HeaderFlags::SERVER_TO_REDIR;
    let mut chain = Header::request(Command::Negotiate, MessageId(0));
    chain.next_command = 4096;
    let early = Header::request(Command::TreeConnect, MessageId(0));
    let late = Header::request(Command::Negotiate, MessageId(77));
    let encoded = |header: Header, body: usize| {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes.resize(64 + body, 0);
        bytes
    };
    for (what, message) in [
        ("no protocol id", b"nonsense nonsense nonsense".to_vec()),
        ("half a header", encoded(early, 0)[..40].to_vec()),
        ("a response", encoded(response, 4)),
        ("a chain that leads outside", encoded(chain, 36)),
        ("a request before NEGOTIATE", encoded(early, 9)),
        ("a MessageId out of the window", encoded(late, 36)),
    ] {
        scene.refused("connection ended", |server| {
            let mut tcp = Tcp::connect(server.address()).unwrap();
            tcp.send(&message).unwrap();
            loop {
                match tcp.receive(PATIENCE) {
                    Ok(_) => {}
                    Err(ClientError::Closed) => break,
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        });
    }
}

#[test]
fn a_message_that_never_becomes_whole_is_not_waited_for() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    scene.refused("no NEGOTIATE within 5 s", |server| {
        send_bytes(server, &[0, 0, 0, 200, 0xfe, b'S', b'M', b'B', 64, 0]);
    });
}

/// Half a frame, and the client is gone.
#[test]
fn a_client_that_vanishes_in_a_frame_leaves_nothing() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    scene.refused("closed by the other end", |server| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(&[0, 0, 0, 200, 0xfe, b'S']).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
}

/// With a file open, READs under way and unread answers, and a directory watched.
#[test]
fn a_client_that_vanishes_with_requests_under_way_leaves_nothing() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    scene.put("file", &vec![7; 4 << 20]);
    scene.refused("connection ended", |server| {
        let mut client = Client::of(server, "share");
        let alone = OpenOptions {
            share: ShareAccess::empty(),
            ..OpenOptions::read_write()
        };
        let file = client.open("file", alone).unwrap();
        let directory = OpenOptions {
            options: CreateOptions::DIRECTORY_FILE,
            ..OpenOptions::read()
        };
        let root = client.open("", directory).unwrap();
        let mut body = Vec::new();
        ChangeNotifyRequest {
            flags: ChangeNotifyFlags::empty(),
            output_buffer_length: 4096,
            file_id: root,
            completion_filter: CompletionFilter::all(),
        }
        .encode(&mut body);
        submit(&mut client, Command::ChangeNotify, &body, 4096);
        for _ in 0..8 {
            let body = read_body(file, 0, 4 << 20, Channel::None, &[]);
            submit(&mut client, Command::Read, &body, 4 << 20);
        }
    });
    // Its exclusive open is gone with it.
    let mut next = Client::of(&scene.server, "share");
    next.open("file", OpenOptions::read_write()).unwrap();
}

fn submit(client: &mut Client, command: Command, body: &[u8], length: u32) {
    let tree = client.tree;
    let connection: &mut Connection = &mut client.connection;
    let header = connection.payload_header(command, tree, length);
    connection.submit(header, body).unwrap();
}
