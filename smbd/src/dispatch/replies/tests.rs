use proto::smb2::{Elements, HeaderFlags, MessageId, SessionId, TreeId};

use super::*;
use crate::channel::recording::RecordingChannel;
use crate::security::keys::Key128;
use crate::security::signing::SigningAlgorithm;

fn connection() -> (Rc<RecordingChannel>, Connection) {
    let channel = Rc::new(RecordingChannel::default());
    let connection = Connection::new(1, channel.clone());
    connection
        .window
        .borrow_mut()
        .take(MessageId(0), 1)
        .unwrap();
    connection.window.borrow_mut().widen(100);
    (channel, connection)
}

fn request(id: u64, credits: u16) -> Header {
    Header {
        credits,
        session_id: SessionId(5),
        ..Header::request(Command::Read, MessageId(id))
    }
}

fn key() -> Rc<SigningKey> {
    let key = Key128::from_bytes([3; 16]);
    Rc::new(SigningKey::new(SigningAlgorithm::AesCmac, &key))
}

fn signed() -> Signature {
    Signature {
        key: Some(key()),
        claimed: false,
    }
}

fn with_data(data: &[u8]) -> Result<Response, NtStatus> {
    Ok(Response {
        body: vec![17, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        data: Data::Bytes(data.to_vec().into()),
        ..Response::default()
    })
}

#[test]
fn a_compound_reply_is_padded_linked_signed_and_granted_credits_at_its_end() {
    let (channel, connection) = connection();
    let buffers = Buffers::default();
    let mut replies = Replies::new(&connection, &buffers, None);
    replies.add(&request(0, 3), with_data(b"abc"), None, signed(), None);
    replies.add(
        &request(1, 4),
        Err(NtStatus::END_OF_FILE),
        None,
        signed(),
        None,
    );
    replies.add(
        &request(2, 1),
        Ok(Response::of(vec![4, 0, 0, 0])),
        None,
        Signature::default(),
        None,
    );
    replies.send();
    let [message] = &channel.messages()[..] else {
        panic!("not one message");
    };
    let elements: Vec<_> = Elements::new(message).map(Result::unwrap).collect();
    assert_eq!(elements.len(), 3);
    let statuses: Vec<_> = elements.iter().map(|one| one.header.status).collect();
    assert_eq!(
        statuses,
        [NtStatus::SUCCESS, NtStatus::END_OF_FILE, NtStatus::SUCCESS]
    );
    assert_eq!(elements[0].bytes.len(), 88, "83 bytes, padded");
    assert_eq!(elements[1].bytes.len(), 80, "73 bytes, padded");
    assert_eq!(elements[2].bytes.len(), 68, "the last is not padded");
    for element in &elements[..2] {
        let (head, rest) = element.bytes.split_first_chunk().unwrap();
        assert!(key().verify(head, &[rest]), "padding included");
    }
    assert!(!elements[2].header.is_signed());
    let credits: Vec<_> = elements.iter().map(|one| one.header.credits).collect();
    assert_eq!(credits, [0, 0, 8]);
}

#[test]
fn a_reply_that_no_longer_fits_begins_another_message() {
    let (channel, connection) = connection();
    channel.max_send.set(300);
    let buffers = Buffers::default();
    let mut replies = Replies::new(&connection, &buffers, None);
    for id in 0..3 {
        replies.add(
            &request(id, 1),
            with_data(&[7; 100]),
            None,
            Signature::default(),
            None,
        );
    }
    replies.send();
    let messages = channel.messages();
    assert_eq!(messages.len(), 3);
    assert!(messages.iter().all(|message| message.len() == 180));

    let buffers = Buffers::default();
    let mut replies = Replies::new(&connection, &buffers, None);
    replies.add(
        &request(3, 1),
        with_data(&[7; 300]),
        None,
        Signature::default(),
        None,
    );
    replies.send();
    let header = Header::decode(&channel.messages()[0]).unwrap();
    assert_eq!(header.status, NtStatus::INSUFFICIENT_RESOURCES);
}

#[test]
fn an_interim_response_grants_the_credits_and_nothing_else() {
    let (channel, connection) = connection();
    let buffers = Buffers::default();
    let mut replies = Replies::new(&connection, &buffers, None);
    replies.add(&request(0, 1), with_data(b""), None, signed(), Some(9));
    replies.add_interim(&request(1, 5), AsyncId(77));
    replies.add(
        &request(1, 5),
        Err(NtStatus::CANCELLED),
        Some(AsyncId(77)),
        signed(),
        Some(8),
    );
    replies.send();
    let sent = channel.sent.take();
    let tokens: Vec<_> = sent.iter().map(|one| one.invalidate).collect();
    assert_eq!(tokens, [Some(9), None, Some(8)], "never with the interim");
    let headers: Vec<_> = sent
        .iter()
        .map(|one| Header::decode(&one.pieces.concat()).unwrap())
        .collect();
    assert_eq!(headers[1].status, NtStatus::PENDING);
    assert_eq!(headers[1].async_id(), Some(AsyncId(77)));
    assert!(!headers[1].is_signed());
    assert_eq!(headers[1].credits, 5);
    assert_eq!(headers[2].async_id(), Some(AsyncId(77)));
    assert!(headers[2].is_signed());
    assert_eq!(headers[2].credits, 0);
}

#[test]
fn a_set_up_response_names_what_it_set_up() {
    let (channel, connection) = connection();
    let buffers = Buffers::default();
    let mut replies = Replies::new(&connection, &buffers, None);
    let mut response = Response::of(vec![9, 0, 0, 0, 72, 0, 0, 0, 0]);
    response.header.session = Some(SessionId(42));
    response.header.signing_key = Some(key());
    replies.add(
        &request(0, 1),
        Ok(response),
        None,
        Signature::default(),
        None,
    );
    let mut response = Response::of(vec![16, 0]);
    response.header.tree = Some(TreeId(6));
    replies.add(
        &request(1, 1),
        Ok(response),
        None,
        Signature::default(),
        None,
    );
    replies.send();
    let message = &channel.messages()[0];
    let headers: Vec<_> = Elements::new(message)
        .map(|one| one.unwrap().header)
        .collect();
    assert_eq!(headers[0].session_id, SessionId(42));
    assert!(headers[0].flags.contains(HeaderFlags::SIGNED));
    assert_eq!(headers[1].tree_id(), Some(TreeId(6)));
}

#[test]
fn an_ended_connection_gets_no_reply() {
    let (channel, connection) = connection();
    let buffers = Buffers::default();
    let mut replies = Replies::new(&connection, &buffers, None);
    replies.add(
        &request(0, 1),
        with_data(b"x"),
        None,
        Signature::default(),
        None,
    );
    connection.end("test");
    replies.send();
    assert!(channel.messages().is_empty());
    assert!(channel.closed.get());
}
