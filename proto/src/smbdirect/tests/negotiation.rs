//! [MS-SMBD] 3.1.5.2, 3.1.5.6 and 3.1.5.7: who answers what, and when.

use super::super::messages::{NegotiateRequest, NegotiateResponse};
use super::super::{
    CloseReason, Connection, Parameters, PeerViolation, QueueError, Received, Role, State,
};
use super::super::{MessageKey, Outgoing};
use super::{Message, START, after, established_server, ordinary_request, post, waiting_server};

fn response_in(outgoing: &Outgoing) -> NegotiateResponse {
    NegotiateResponse::decode(outgoing.header.as_bytes()).expect("a negotiate response")
}

fn refused_silently(request: NegotiateRequest, violation: PeerViolation) {
    let mut server = waiting_server(Parameters::server());
    assert_eq!(
        server.handle_receive(START, &request.encode()),
        Err(violation)
    );
    assert_eq!(server.state(), State::Closed);
    assert_eq!(server.poll_send(START), None);
    assert_eq!(server.receives_to_post(), 0);
}

/// An active side that has sent its request.
fn asking_client() -> Connection {
    let mut client = Connection::new(Role::Active, Parameters::client(), START);
    client.handle_established(START);
    assert_eq!(
        client.poll_send(START),
        None,
        "no buffer for the answer yet"
    );
    assert_eq!(post(&mut client), 1);
    let request = client.poll_send(START).expect("the request");
    assert_eq!(
        NegotiateRequest::decode(request.header.as_bytes()),
        Ok(NegotiateRequest {
            max_fragmented_size: 1 << 20,
            ..ordinary_request()
        })
    );
    assert_eq!(request.header.as_bytes().len(), 20);
    assert_eq!(client.poll_send(START), None, "the request is sent once");
    client
}

fn ordinary_response() -> NegotiateResponse {
    NegotiateResponse {
        min_version: 0x0100,
        max_version: 0x0100,
        negotiated_version: 0x0100,
        credits_requested: 100,
        credits_granted: 10,
        status: 0,
        max_read_write_size: 1 << 20,
        preferred_send_size: 1000,
        max_receive_size: 1200,
        max_fragmented_size: 200_000,
    }
}

#[test]
fn passive_side_answers_with_the_smaller_sizes_and_what_it_posted() {
    let mut server = waiting_server(Parameters {
        max_receive_size: 8192,
        ..Parameters::server()
    });
    assert_eq!(server.receive_buffer_size(), 8192);
    let request = NegotiateRequest {
        credits_requested: 20,
        preferred_send_size: 4096,
        max_receive_size: 1024,
        max_fragmented_size: 140_000,
        ..ordinary_request()
    };
    assert_eq!(
        server.handle_receive(START, &request.encode()),
        Ok(Received::Negotiated)
    );
    assert_eq!(server.receive_buffer_size(), 4096);
    assert_eq!(server.poll_send(START), None, "nothing posted yet");
    assert_eq!(server.receives_to_post(), 20);
    server.handle_posted(7);
    let outgoing = server.poll_send(START).expect("the response");
    assert!(!outgoing.disconnect_after);
    assert_eq!(
        response_in(&outgoing),
        NegotiateResponse {
            min_version: 0x0100,
            max_version: 0x0100,
            negotiated_version: 0x0100,
            credits_requested: 255,
            credits_granted: 7,
            status: 0,
            max_read_write_size: 8 << 20,
            preferred_send_size: 1024,
            max_receive_size: 4096,
            max_fragmented_size: 1 << 20,
        }
    );
    assert_eq!(server.state(), State::Established);
    assert_eq!(server.max_send_payload(), 1000);
    assert_eq!(server.peer_max_fragmented_size(), 140_000);
}

#[test]
fn preferred_send_size_of_zero_and_of_the_maximum_are_accepted() {
    for (preferred, receive) in [(0, 128), (100, 128), (u32::MAX, 1364)] {
        let mut server = waiting_server(Parameters::server());
        let request = NegotiateRequest {
            preferred_send_size: preferred,
            ..ordinary_request()
        };
        assert_eq!(
            server.handle_receive(START, &request.encode()),
            Ok(Received::Negotiated)
        );
        assert_eq!(server.receive_buffer_size(), receive);
    }
}

#[test]
fn a_request_with_trailing_bytes_is_accepted() {
    let mut server = waiting_server(Parameters::server());
    let mut request = ordinary_request().encode().to_vec();
    request.resize(512, 0x5a);
    assert_eq!(
        server.handle_receive(START, &request),
        Ok(Received::Negotiated)
    );
}

#[test]
fn an_incomplete_request_is_dropped_without_an_answer() {
    let mut server = waiting_server(Parameters::server());
    let request = ordinary_request().encode();
    let violation = server.handle_receive(START, &request[..19]).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "received a negotiate request of 19 bytes, expected at least 20"
    );
    assert_eq!(server.poll_send(START), None);
}

#[test]
fn requests_below_the_minimum_are_dropped_without_an_answer() {
    refused_silently(
        NegotiateRequest {
            credits_requested: 0,
            ..ordinary_request()
        },
        PeerViolation::NoCreditsRequested,
    );
    refused_silently(
        NegotiateRequest {
            max_receive_size: 127,
            ..ordinary_request()
        },
        PeerViolation::MaxReceiveSize { received: 127 },
    );
    refused_silently(
        NegotiateRequest {
            max_fragmented_size: 131_071,
            ..ordinary_request()
        },
        PeerViolation::MaxFragmentedSize { received: 131_071 },
    );
}

#[test]
fn a_version_range_that_covers_the_only_version_is_accepted() {
    for (min_version, max_version) in [(0, 0x0100), (0x0100, 0xffff), (0x00ff, 0x0101)] {
        let mut server = waiting_server(Parameters::server());
        let request = NegotiateRequest {
            min_version,
            max_version,
            ..ordinary_request()
        };
        assert_eq!(
            server.handle_receive(START, &request.encode()),
            Ok(Received::Negotiated)
        );
    }
}

#[test]
fn an_unknown_version_is_answered_not_supported_and_then_closed() {
    // The version is looked at first: the zero credits of this request change nothing.
    for (min_version, max_version) in [(0x0101, 0x0200), (0, 0x00ff), (0x0200, 0x0001)] {
        let mut server = waiting_server(Parameters::server());
        let request = NegotiateRequest {
            min_version,
            max_version,
            credits_requested: 0,
            ..ordinary_request()
        };
        assert_eq!(
            server.handle_receive(START, &request.encode()),
            Ok(Received::Refused {
                status: 0xC000_00BB
            })
        );
        assert_eq!(server.receives_to_post(), 0);
        let outgoing = server.poll_send(START).expect("the refusal");
        assert!(outgoing.disconnect_after);
        assert_eq!(
            response_in(&outgoing),
            NegotiateResponse::refusal(0xC000_00BB)
        );
        assert_eq!(outgoing.header.as_bytes().len(), 32);
        assert_eq!(
            server.close_reason(),
            Some(CloseReason::VersionNotSupported)
        );
        assert_eq!(server.poll_send(START), None);
        assert_eq!(
            server.handle_receive(START, &[]),
            Err(PeerViolation::AfterClose)
        );
    }
}

#[test]
fn a_request_before_establishment_is_answered_after_it() {
    let mut server = Connection::new(Role::Passive, Parameters::server(), START);
    assert_eq!(post(&mut server), 1);
    assert_eq!(
        server.handle_receive(START, &ordinary_request().encode()),
        Ok(Received::Negotiated)
    );
    assert_eq!(server.state(), State::AwaitingEstablished);
    assert_eq!(post(&mut server), 255);
    assert_eq!(server.poll_send(START), None);
    server.handle_established(START);
    assert_eq!(
        response_in(&server.poll_send(START).unwrap()).credits_granted,
        255
    );
    assert_eq!(server.state(), State::Established);
}

#[test]
fn a_message_between_request_and_response_is_refused() {
    let mut server = waiting_server(Parameters::server());
    server
        .handle_receive(START, &ordinary_request().encode())
        .unwrap();
    post(&mut server);
    assert_eq!(
        server.handle_receive(START, &Message::empty(1).bytes()),
        Err(PeerViolation::UnexpectedMessage {
            state: "answering the negotiate request"
        })
    );
    assert_eq!(server.poll_send(START), None, "no answer after an error");
}

#[test]
fn the_passive_negotiation_timer_is_five_seconds() {
    let mut server = waiting_server(Parameters::server());
    assert_eq!(server.deadline(), Some(after(5)));
    server.handle_timeout(after(4));
    assert_eq!(server.state(), State::AwaitingRequest);
    server.handle_timeout(after(5));
    assert_eq!(server.close_reason(), Some(CloseReason::NegotiateTimeout));
    assert_eq!(server.deadline(), None);
}

#[test]
fn the_active_negotiation_timer_is_two_minutes() {
    let mut client = asking_client();
    assert_eq!(client.deadline(), Some(after(120)));
    client.handle_timeout(after(120));
    assert_eq!(client.close_reason(), Some(CloseReason::NegotiateTimeout));
}

#[test]
fn a_request_no_receive_could_be_posted_for_is_answered_with_an_error() {
    let mut server = waiting_server(Parameters::server());
    server
        .handle_receive(START, &ordinary_request().encode())
        .unwrap();
    server.handle_timeout(after(5));
    let outgoing = server.poll_send(after(5)).expect("the refusal");
    assert_eq!(
        response_in(&outgoing),
        NegotiateResponse::refusal(0xC000_009A)
    );
    assert!(outgoing.disconnect_after);
    assert_eq!(server.close_reason(), Some(CloseReason::NoReceiveBuffers));
}

#[test]
fn active_side_takes_over_what_the_response_says() {
    let mut client = asking_client();
    assert_eq!(
        client.handle_receive(START, &ordinary_response().encode()),
        Ok(Received::Negotiated)
    );
    assert_eq!(client.state(), State::Established);
    assert_eq!(client.credits().held, 10);
    assert_eq!(client.receives_to_post(), 100);
    assert_eq!(client.max_send_payload(), 1176);
    assert_eq!(client.receive_buffer_size(), 1000);
    assert_eq!(client.peer_max_fragmented_size(), 200_000);
    assert_eq!(client.max_read_write_size(), 1 << 20);
}

#[test]
fn active_side_drops_each_wrong_response() {
    let good = ordinary_response;
    let wrong = [
        (
            NegotiateResponse::refusal(0xC000_00BB),
            PeerViolation::NegotiateRefused {
                status: 0xC000_00BB,
            },
        ),
        (
            NegotiateResponse {
                negotiated_version: 0x0101,
                ..good()
            },
            PeerViolation::NegotiatedVersion { received: 0x0101 },
        ),
        (
            NegotiateResponse {
                max_receive_size: 127,
                ..good()
            },
            PeerViolation::MaxReceiveSize { received: 127 },
        ),
        (
            NegotiateResponse {
                max_fragmented_size: 131_071,
                ..good()
            },
            PeerViolation::MaxFragmentedSize { received: 131_071 },
        ),
        (
            NegotiateResponse {
                credits_requested: 0,
                ..good()
            },
            PeerViolation::NoCreditsRequested,
        ),
        (
            NegotiateResponse {
                credits_granted: 0,
                ..good()
            },
            PeerViolation::NoCreditsGranted,
        ),
        (
            NegotiateResponse {
                preferred_send_size: 1365,
                ..good()
            },
            PeerViolation::PreferredSendSize {
                received: 1365,
                maximum: 1364,
            },
        ),
    ];
    for (response, violation) in wrong {
        let mut client = asking_client();
        assert_eq!(
            client.handle_receive(START, &response.encode()),
            Err(violation)
        );
        assert_eq!(
            client.close_reason(),
            Some(CloseReason::Violation(violation))
        );
    }
    let mut client = asking_client();
    let truncated = &ordinary_response().encode()[..31];
    assert!(matches!(
        client.handle_receive(START, truncated),
        Err(PeerViolation::TooShort(_))
    ));
}

#[test]
fn a_response_before_the_request_is_refused() {
    let mut client = Connection::new(Role::Active, Parameters::client(), START);
    post(&mut client);
    assert!(matches!(
        client.handle_receive(START, &ordinary_response().encode()),
        Err(PeerViolation::UnexpectedMessage { .. })
    ));
}

#[test]
fn nothing_is_queued_before_establishment_or_after_the_end() {
    let mut server = waiting_server(Parameters::server());
    let queue = |server: &mut Connection| server.queue_message(MessageKey(1), 100, None);
    assert_eq!(queue(&mut server), Err(QueueError::NotEstablished));
    let mut server = established_server(Parameters::server(), 10);
    assert_eq!(queue(&mut server), Ok(()));
    server.close(CloseReason::Local);
    assert_eq!(queue(&mut server), Err(QueueError::NotEstablished));
}

#[test]
fn the_first_error_stays() {
    let mut server = waiting_server(Parameters::server());
    server.close(CloseReason::PeerDisconnected);
    server.close(CloseReason::TransportError);
    server.handle_timeout(after(1000));
    assert_eq!(server.close_reason(), Some(CloseReason::PeerDisconnected));

    let mut server = established_server(Parameters::server(), 10);
    let zero = Message::empty(1).requesting(0).bytes();
    let misaligned = {
        let mut message = Message::data(b"abc", 0);
        message.header.data_offset = 20;
        message.bytes()
    };
    let first = server.handle_receive(START, &zero);
    assert_eq!(first, Err(PeerViolation::NoCreditsRequested));
    assert_eq!(server.handle_receive(START, &misaligned), first);
}

#[test]
fn the_connection_manager_may_repeat_itself() {
    let mut server = established_server(Parameters::server(), 10);
    server.handle_established(START);
    assert_eq!(server.state(), State::Established);
    server.close(CloseReason::Local);
    server.handle_established(START);
    assert_eq!(server.state(), State::Closed);
}
