//! [MS-SMBD] 3.1.5.1 and 3.1.5.8: cutting messages, putting them together, and the must-terminate
//! list.

use super::super::{
    CloseReason, Connection, MessageKey, Parameters, PeerViolation, QueueError, Received, State,
};
use super::{Message, START, established_server, header_of};

/// Ready to send and receive: the peer granted `credits`.
fn server_holding(credits: u16) -> Connection {
    let mut server = established_server(Parameters::server(), 255);
    server
        .handle_receive(START, &Message::empty(credits).bytes())
        .expect("an empty message");
    server
}

fn violation_of(message: &Message) -> PeerViolation {
    let mut server = server_holding(1);
    let violation = server
        .handle_receive(START, &message.bytes())
        .expect_err("the message breaks a rule");
    assert_eq!(server.state(), State::Closed);
    assert_eq!(
        server.close_reason(),
        Some(CloseReason::Violation(violation))
    );
    violation
}

#[test]
fn a_message_in_one_fragment_is_found_behind_its_header() {
    let mut server = server_holding(1);
    assert_eq!(
        server.handle_receive(START, &Message::data(b"abc", 0).bytes()),
        Ok(Received::Fragment {
            data: 24..27,
            message_length: 3,
            offset_in_message: 0,
            last: true,
        })
    );
}

#[test]
fn fragments_are_placed_one_after_the_other() {
    let mut server = server_holding(1);
    let mut places = Vec::new();
    for message in [
        Message::data(&[1; 10], 25),
        Message::data(&[2; 20], 5),
        Message::data(&[3; 5], 0),
        Message::data(&[4; 7], 0),
    ] {
        match server.handle_receive(START, &message.bytes()) {
            Ok(Received::Fragment {
                message_length,
                offset_in_message,
                last,
                ..
            }) => places.push((message_length, offset_in_message, last)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        places,
        [
            (35, 0, false),
            (35, 10, false),
            (35, 30, true),
            (7, 0, true)
        ]
    );
    assert_eq!(server.counters().messages_received, 2);
    assert_eq!(server.counters().bytes_received, 42);
}

#[test]
fn a_short_message_is_a_violation() {
    let mut server = server_holding(1);
    let violation = server
        .handle_receive(START, &Message::empty(1).bytes()[..19])
        .unwrap_err();
    assert_eq!(
        violation.to_string(),
        "received a data transfer message of 19 bytes, expected at least 20"
    );
}

#[test]
fn requesting_no_credits_is_a_violation() {
    assert_eq!(
        violation_of(&Message::data(b"abc", 0).requesting(0)),
        PeerViolation::NoCreditsRequested
    );
}

#[test]
fn a_data_offset_that_is_not_a_multiple_of_eight_is_a_violation() {
    for data_offset in [20, 23, 25, 28] {
        let mut message = Message::data(&[0; 64], 0);
        message.header.data_offset = data_offset;
        message.header.data_length = 1;
        assert_eq!(
            violation_of(&message),
            PeerViolation::DataOffsetAlignment {
                received: data_offset
            }
        );
    }
}

#[test]
fn data_beyond_the_received_message_is_a_violation() {
    for (data_offset, data_length) in [
        (24, 4),
        (32, 1),
        (0x1_0000, 0),
        (u32::MAX - 7, 8),
        (24, 100_000),
    ] {
        let mut message = Message::data(b"abc", 0);
        message.header.data_offset = data_offset;
        message.header.data_length = data_length;
        assert_eq!(
            violation_of(&message),
            PeerViolation::DataOutsideMessage {
                data_offset,
                data_length,
                message_length: 27,
            }
        );
    }
}

#[test]
fn a_message_longer_than_announced_limits_is_a_violation() {
    let maximum = Parameters::server().max_fragmented_receive_size;
    for remaining in [maximum - 2, u32::MAX - 2, u32::MAX] {
        assert_eq!(
            violation_of(&Message::data(b"abc", remaining)),
            PeerViolation::MessageTooLong {
                data_length: 3,
                remaining,
                maximum
            }
        );
    }
    let mut server = server_holding(1);
    assert!(
        server
            .handle_receive(START, &Message::data(b"abc", maximum - 3).bytes())
            .is_ok()
    );
}

#[test]
fn a_fragment_that_does_not_continue_the_message_is_a_violation() {
    // Ends early, leaves a gap, repeats itself, runs over.
    for (payload, remaining) in [(10, 0), (10, 14), (10, 25), (26, 0)] {
        let mut server = server_holding(1);
        server
            .handle_receive(START, &Message::data(&[1; 10], 25).bytes())
            .unwrap();
        let message = Message::data(&vec![2; payload], remaining);
        assert_eq!(
            server.handle_receive(START, &message.bytes()),
            Err(PeerViolation::FragmentLength {
                data_length: u32::try_from(payload).unwrap(),
                remaining,
                due: 25,
            })
        );
    }
}

#[test]
fn an_empty_message_between_fragments_is_received_as_empty() {
    for remaining in [0, 25] {
        let mut server = server_holding(1);
        server
            .handle_receive(START, &Message::data(&[1; 10], 25).bytes())
            .unwrap();
        let mut empty = Message::empty(1);
        empty.header.remaining_data_length = remaining;
        assert_eq!(
            server.handle_receive(START, &empty.bytes()),
            Ok(Received::Empty)
        );
        assert!(matches!(
            server.handle_receive(START, &Message::data(&[2; 25], 0).bytes()),
            Ok(Received::Fragment { last: true, .. })
        ));
    }
}

#[test]
fn an_empty_message_may_announce_the_message_that_follows() {
    let mut announcing = Message::empty(1);
    announcing.header.remaining_data_length = 4;
    let mut server = server_holding(1);
    assert_eq!(
        server.handle_receive(START, &announcing.bytes()),
        Ok(Received::Empty)
    );
    assert_eq!(
        server.handle_receive(START, &Message::data(b"abcd", 0).bytes()),
        Ok(Received::Fragment {
            data: 24..28,
            message_length: 4,
            offset_in_message: 0,
            last: true,
        })
    );
}

#[test]
fn an_empty_message_must_not_contradict_the_message_under_way() {
    let mut announcing = Message::empty(1);
    announcing.header.remaining_data_length = 4;
    for first in [Message::data(&[1; 10], 25), {
        let mut empty = Message::empty(1);
        empty.header.remaining_data_length = 25;
        empty
    }] {
        let mut server = server_holding(1);
        server.handle_receive(START, &first.bytes()).unwrap();
        assert_eq!(
            server.handle_receive(START, &announcing.bytes()),
            Err(PeerViolation::FragmentLength {
                data_length: 0,
                remaining: 4,
                due: 25
            })
        );
    }
}

#[test]
fn data_may_overlap_the_header() {
    for data_offset in [0, 8, 16] {
        let mut server = server_holding(1);
        let mut message = Message::data(b"abc", 0);
        message.header.data_offset = data_offset;
        let start = data_offset as usize;
        assert!(matches!(
            server.handle_receive(START, &message.bytes()),
            Ok(Received::Fragment { data, .. }) if data == (start..start + 3)
        ));
    }
}

#[test]
fn bytes_after_the_data_are_ignored() {
    let mut server = server_holding(1);
    let mut bytes = Message::data(b"abc", 0).bytes();
    bytes.extend([0xee; 500]);
    assert!(matches!(
        server.handle_receive(START, &bytes),
        Ok(Received::Fragment { data, last: true, .. }) if data == (24..27)
    ));
}

#[test]
fn unknown_flags_and_reserved_bytes_are_ignored() {
    let mut server = server_holding(1);
    let mut message = Message::empty(1);
    message.header.flags = 0xfffe;
    let mut bytes = message.bytes();
    bytes[6] = 0xff;
    assert_eq!(server.handle_receive(START, &bytes), Ok(Received::Empty));
    assert_eq!(server.counters().keepalives_received, 0);
}

#[test]
fn a_long_message_is_cut_into_full_fragments_and_a_rest() {
    let mut server = server_holding(10);
    server
        .queue_message(MessageKey(7), 3000, Some(0xabcd))
        .unwrap();
    let mut fragments = Vec::new();
    while let Some(outgoing) = server.poll_send(START) {
        let header = header_of(&outgoing);
        let payload = outgoing.payload.expect("data is queued");
        assert_eq!(payload.message, MessageKey(7));
        assert_eq!(outgoing.header.as_bytes().len(), 24);
        assert_eq!(outgoing.header.as_bytes()[20..], [0; 4]);
        assert_eq!(header.data_offset, 24);
        fragments.push((
            payload.range,
            header.data_length,
            header.remaining_data_length,
            outgoing.last_of_message,
            outgoing.invalidate,
        ));
    }
    assert_eq!(
        fragments,
        [
            (0..1340, 1340, 1660, false, None),
            (1340..2680, 1340, 320, false, None),
            (2680..3000, 320, 0, true, Some(0xabcd)),
        ]
    );
}

#[test]
fn an_empty_message_is_twenty_bytes() {
    let mut server = established_server(Parameters::server(), 255);
    server
        .handle_receive(START, &Message::empty(2).asking_for_a_response().bytes())
        .unwrap();
    let outgoing = server.poll_send(START).expect("the sign of life");
    assert_eq!(outgoing.header.as_bytes().len(), 20);
    assert_eq!(outgoing.payload, None);
    assert_eq!(header_of(&outgoing).data_offset, 0);
}

#[test]
fn a_message_the_peer_cannot_reassemble_is_not_queued() {
    let mut server = server_holding(10);
    assert_eq!(
        server.queue_message(MessageKey(1), 131_073, None),
        Err(QueueError::TooLong {
            length: 131_073,
            maximum: 131_072
        })
    );
    assert_eq!(
        server.queue_message(MessageKey(1), 0, None),
        Err(QueueError::Empty)
    );
    assert_eq!(server.queue_message(MessageKey(1), 131_072, None), Ok(()));
    assert_eq!(server.queued_messages(), 1);
}

#[test]
fn nothing_is_sent_between_the_fragments_of_a_message() {
    let mut server = server_holding(3);
    server.queue_message(MessageKey(1), 5000, None).unwrap();
    assert!(server.poll_send(START).unwrap().payload.is_some());
    // A sign of life becomes due in mid-message: the next fragment is one.
    server
        .handle_receive(START, &Message::empty(1).asking_for_a_response().bytes())
        .unwrap();
    let mut ranges = Vec::new();
    while let Some(outgoing) = server.poll_send(START) {
        ranges.push(outgoing.payload.expect("no empty message in between").range);
    }
    assert_eq!(ranges.first(), Some(&(1340..2680)));
}

#[test]
fn the_local_limit_on_outstanding_sends_holds() {
    let parameters = Parameters {
        max_outstanding_sends: 2,
        ..Parameters::server()
    };
    let mut server = established_server(parameters, 255);
    server
        .handle_receive(START, &Message::empty(100).bytes())
        .unwrap();
    server.queue_message(MessageKey(1), 5000, None).unwrap();
    assert!(server.poll_send(START).is_some());
    assert!(server.poll_send(START).is_some());
    assert_eq!(server.poll_send(START), None);
    assert_eq!(server.credits().outstanding, 2);
    server.handle_send_complete(START, 1);
    assert!(server.poll_send(START).is_some());
    assert_eq!(server.poll_send(START), None);
}
