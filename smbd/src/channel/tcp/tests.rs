use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

/// A channel and the client's end of it.
fn connected() -> (TcpChannel, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (
        TcpChannel::new(server.into(), 1 << 20, Buffers::default()).unwrap(),
        client,
    )
}

/// Receives until `count` messages or an error came.
fn receive(channel: &TcpChannel, count: usize) -> (Vec<Vec<u8>>, Result<(), ChannelError>) {
    let mut messages = Vec::new();
    for _ in 0..200 {
        let outcome = channel.receive(&mut |message| messages.push(message));
        if outcome.is_err() || messages.len() >= count {
            return (messages, outcome);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    (messages, Ok(()))
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

#[test]
fn one_message_is_read_and_what_follows_is_left_in_the_socket() {
    let (channel, mut client) = connected();
    client
        .write_all(&[frame(b"first"), frame(b"second")].concat())
        .unwrap();
    let (messages, _) = receive(&channel, 1);
    assert_eq!(messages, [b"first"]);
    assert!(!channel.wants_read());
    assert_eq!(channel.preface(), b"first");
    let mut left = [0; 10];
    let mut duplicate = channel.socket.try_clone().unwrap();
    duplicate.read_exact(&mut left).unwrap();
    assert_eq!(left.to_vec(), frame(b"second"));
}

#[test]
fn messages_arrive_whole_however_they_are_cut() {
    let (channel, mut client) = connected();
    channel.read_on(Reading::Freely);
    channel.authenticated();
    let long = vec![7u8; 300_000];
    let bytes = [frame(b"a"), frame(&long), frame(b"b")].concat();
    let writer = std::thread::spawn(move || {
        for part in bytes.chunks(50_001) {
            client.write_all(part).unwrap();
        }
        client
    });
    let (messages, outcome) = receive(&channel, 3);
    assert_eq!(outcome, Ok(()));
    assert_eq!(messages, [b"a".to_vec(), long, b"b".to_vec()]);
    assert_eq!(channel.partial_since(), None);
    drop(writer.join().unwrap());
    assert_eq!(receive(&channel, 1).1, Err(ChannelError::Closed));
}

#[test]
fn a_message_that_began_is_timed() {
    let (channel, mut client) = connected();
    channel.read_on(Reading::Freely);
    client.write_all(&frame(b"whole")[..6]).unwrap();
    let (messages, _) = receive(&channel, 1);
    assert!(messages.is_empty());
    assert!(channel.partial_since().is_some());
}

#[test]
fn an_empty_or_oversized_frame_is_a_violation_before_anything_is_allocated() {
    for (length, authenticated) in [
        (0u32, true),
        ((1 << 20) + 1, true),
        (80_000, false),
        (u32::MAX, true),
    ] {
        let (channel, mut client) = connected();
        channel.read_on(Reading::Freely);
        if authenticated {
            channel.authenticated();
        }
        client.write_all(&length.to_be_bytes()).unwrap();
        let (messages, outcome) = receive(&channel, 1);
        assert!(messages.is_empty());
        assert!(
            matches!(outcome, Err(ChannelError::Violation(_))),
            "{length:#x}"
        );
    }
}

#[test]
fn a_reply_of_several_pieces_is_one_frame() {
    let (channel, mut client) = connected();
    channel.send(Outgoing {
        pieces: vec![b"head".to_vec().into(), b"data".to_vec().into()],
        ..Outgoing::default()
    });
    assert_eq!(channel.flush(), Ok(true));
    let mut received = [0; 12];
    client.read_exact(&mut received).unwrap();
    assert_eq!(received.to_vec(), frame(b"headdata"));
}

#[test]
fn a_client_that_does_not_read_is_not_read_either() {
    let (channel, mut client) = connected();
    channel.read_on(Reading::Freely);
    let reply = vec![1u8; 1 << 20];
    for _ in 0..40 {
        channel.send(Outgoing {
            pieces: vec![reply.clone().into()],
            ..Outgoing::default()
        });
    }
    assert_eq!(channel.flush(), Ok(false));
    assert!(!channel.wants_read());
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; 40 * ((1 << 20) + 4)];
        client.read_exact(&mut received).unwrap();
        received
    });
    while channel.flush() != Ok(true) {
        std::thread::yield_now();
    }
    assert!(channel.wants_read());
    assert!(
        reader
            .join()
            .unwrap()
            .chunks((1 << 20) + 4)
            .all(|part| part == frame(&reply))
    );
}

#[test]
fn a_long_message_of_an_authenticated_client_has_time_while_it_goes_on() {
    for authenticated in [true, false] {
        let (channel, mut client) = connected();
        channel.read_on(Reading::Freely);
        if authenticated {
            channel.authenticated();
        }
        let mut send = |bytes: &[u8]| {
            client.write_all(bytes).unwrap();
            receive(&channel, 1).1.unwrap();
            channel.partial_since().unwrap()
        };
        let began = send(&frame(&[7; 60_000])[..20_000]);
        let went_on = send(&[7; 20_000]);
        assert_eq!(went_on > began, authenticated);
        receive(&channel, 1).1.unwrap();
        assert_eq!(channel.partial_since(), Some(went_on), "nothing came since");
    }
}

#[test]
fn a_turn_ends_with_a_long_message_and_the_next_one_gets_its_buffer() {
    let (channel, mut client) = connected();
    channel.read_on(Reading::Freely);
    channel.authenticated();
    let long = vec![7; LONG];
    let sent = [frame(b"first"), frame(&long), frame(&long)].concat();
    let sender = std::thread::spawn(move || client.write_all(&sent).map(|()| client));
    let (mut messages, _) = receive(&channel, 2);
    let _client = sender.join().unwrap().unwrap();
    assert_eq!(messages.len(), 2);
    let buffer = messages.pop().unwrap();
    assert_eq!(buffer, long);
    let place = buffer.as_ptr();
    channel.buffers.put(buffer);
    let (messages, _) = receive(&channel, 1);
    assert_eq!(messages[0].as_ptr(), place);
}
