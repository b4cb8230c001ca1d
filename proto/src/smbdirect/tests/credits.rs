//! [MS-SMBD] 3.1.5.9: what is granted, when, and on which message.

use super::super::{Connection, MessageKey, Parameters, PeerViolation, Received};
use super::pair::{Pair, Who};
use super::{Message, START, established_server, header_of, post};

fn receive(server: &mut Connection, message: &Message) {
    server
        .handle_receive(START, &message.bytes())
        .expect("a legal message");
}

/// Sends everything there is; the credits granted by each message.
fn grants(server: &mut Connection) -> Vec<u16> {
    let mut grants = Vec::new();
    while let Some(outgoing) = server.poll_send(START) {
        grants.push(header_of(&outgoing).credits_granted);
    }
    grants
}

fn limited(receive_credit_max: u16) -> Parameters {
    Parameters {
        receive_credit_max,
        ..Parameters::server()
    }
}

#[test]
fn the_passive_side_cannot_send_before_it_was_granted_a_credit() {
    let mut server = established_server(Parameters::server(), 10);
    server.queue_message(MessageKey(1), 100, None).unwrap();
    assert_eq!(server.poll_send(START), None);
    receive(&mut server, &Message::empty(2));
    assert!(server.poll_send(START).is_some());
}

#[test]
fn posted_granted_and_available_are_counted_apart() {
    let mut server = established_server(Parameters::server(), 10);
    let read = |server: &Connection| {
        let credits = server.credits();
        (credits.posted, credits.granted, credits.available)
    };
    assert_eq!(read(&server), (10, 10, 0));
    receive(
        &mut server,
        &Message::data(b"abc", 0).granting(5).requesting(10),
    );
    assert_eq!(read(&server), (9, 9, 0));
    assert_eq!(post(&mut server), 1);
    assert_eq!(read(&server), (10, 9, 1));
    server.queue_message(MessageKey(1), 100, None).unwrap();
    assert_eq!(grants(&mut server), [1]);
    assert_eq!(read(&server), (10, 10, 0));
}

#[test]
fn a_consumed_buffer_that_is_not_posted_again_is_not_granted() {
    let mut server = established_server(Parameters::server(), 4);
    for _ in 0..4 {
        receive(
            &mut server,
            &Message::data(b"abc", 0).granting(2).requesting(4),
        );
    }
    server.queue_message(MessageKey(1), 100, None).unwrap();
    assert_eq!(
        grants(&mut server),
        [0],
        "all four buffers are still held above"
    );
    assert_eq!(server.receives_to_post(), 4);
    server.handle_posted(3);
    assert_eq!(grants(&mut server), [3]);
}

#[test]
fn the_last_credit_waits_for_something_to_grant() {
    let mut server = established_server(Parameters::server(), 4);
    receive(
        &mut server,
        &Message::data(b"abc", 0).granting(1).requesting(4),
    );
    server.queue_message(MessageKey(1), 100, None).unwrap();
    assert_eq!(
        server.poll_send(START),
        None,
        "one credit, nothing to grant"
    );
    server.handle_posted(1);
    assert_eq!(grants(&mut server), [1]);
    assert_eq!(server.credits().held, 0);
}

#[test]
fn the_last_credit_is_not_lost_when_the_peer_holds_all_it_asked_for() {
    // The peer grants one credit and holds its full share: without a receive beyond the target
    // this side could never speak first.
    let mut server = established_server(limited(4), 4);
    receive(&mut server, &Message::empty(1).requesting(4));
    assert_eq!(post(&mut server), 1);
    server.limit_receive_credits(3);
    assert_eq!(server.credits().available, 1);
    server.queue_message(MessageKey(1), 100, None).unwrap();
    assert_eq!(grants(&mut server), [1]);

    let mut server = established_server(limited(4), 4);
    receive(&mut server, &Message::empty(2).requesting(4));
    assert_eq!(post(&mut server), 1);
    server.queue_message(MessageKey(1), 100, None).unwrap();
    assert_eq!(grants(&mut server), [1]);
    server.queue_message(MessageKey(2), 100, None).unwrap();
    assert_eq!(server.poll_send(START), None);
    assert_eq!(post(&mut server), 1, "one beyond the four of the target");
    assert_eq!(grants(&mut server), [1]);
    assert_eq!(server.credits().granted, 5);
    assert_eq!(server.counters().last_credit_grants, 1);
    assert_eq!(
        server.credits().posted,
        server.parameters().receive_queue_depth()
    );
}

#[test]
fn an_empty_grant_goes_out_when_a_quarter_is_left() {
    let mut server = established_server(Parameters::server(), 16);
    for left in (5..16).rev() {
        receive(
            &mut server,
            &Message::data(b"a", 0).granting(1).requesting(16),
        );
        assert_eq!(post(&mut server), 1);
        assert_eq!(server.poll_send(START), None, "the peer still holds {left}");
    }
    receive(
        &mut server,
        &Message::data(b"a", 0).granting(1).requesting(16),
    );
    post(&mut server);
    assert_eq!(grants(&mut server), [12]);
}

#[test]
fn a_risen_target_is_granted_at_once() {
    let mut server = established_server(Parameters::server(), 10);
    receive(&mut server, &Message::empty(5).requesting(20));
    assert_eq!(post(&mut server), 11);
    assert_eq!(grants(&mut server), [11]);
    assert_eq!(server.poll_send(START), None);
}

#[test]
fn credits_requested_is_absolute() {
    let mut server = established_server(Parameters::server(), 10);
    for _ in 0..3 {
        receive(&mut server, &Message::empty(5).requesting(12));
    }
    post(&mut server);
    assert_eq!(server.credits().posted, 12);
    receive(&mut server, &Message::empty(5).requesting(3));
    assert_eq!(server.receives_to_post(), 0);
    assert_eq!(server.credits().target, 3);
}

#[test]
fn the_target_is_capped_by_the_own_maximum() {
    let server = established_server(limited(20), 255);
    assert_eq!(server.credits().posted, 20);
    assert_eq!(server.credits().granted, 20);
    assert_eq!(server.receives_to_post(), 0);
}

#[test]
fn a_limit_holds_until_it_is_raised() {
    let mut server = super::waiting_server(Parameters::server());
    server.limit_receive_credits(10);
    server
        .handle_receive(START, &super::ordinary_request().encode())
        .unwrap();
    assert_eq!(post(&mut server), 10);
    server.poll_send(START).expect("the response");
    receive(&mut server, &Message::data(b"a", 0).granting(10));
    assert_eq!(post(&mut server), 1);
    assert_eq!(grants(&mut server), [0_u16; 0]);
    server.limit_receive_credits(255);
    assert_eq!(post(&mut server), 245);
    assert_eq!(grants(&mut server), [246]);
}

#[test]
fn one_missing_buffer_is_no_reason_for_an_empty_message() {
    let mut server = established_server(Parameters::server(), 10);
    receive(&mut server, &Message::empty(5).requesting(10));
    assert_eq!(post(&mut server), 1);
    assert_eq!(server.poll_send(START), None);
    // Not even when it is missing because the target rose.
    receive(&mut server, &Message::empty(0).requesting(5));
    receive(&mut server, &Message::empty(0).requesting(8));
    assert_eq!(server.credits().granted, 7);
    assert_eq!(server.credits().available, 1);
    assert_eq!(server.poll_send(START), None);
}

#[test]
fn a_peer_that_spent_all_but_one_credit_on_data_is_granted_more() {
    // It may hold a message behind its last credit, with nothing to grant in turn.
    for credits in [2, 3] {
        let mut server = established_server(Parameters::server(), credits);
        for _ in 1..credits {
            receive(
                &mut server,
                &Message::data(b"a", 0).granting(5).requesting(credits),
            );
        }
        assert_eq!(post(&mut server), credits - 1);
        assert_eq!(grants(&mut server), [credits - 1]);

        let mut server = established_server(Parameters::server(), credits);
        for _ in 1..credits {
            receive(&mut server, &Message::empty(5).requesting(credits));
        }
        post(&mut server);
        assert_eq!(server.credits().granted, 1);
        assert_eq!(
            grants(&mut server),
            [0_u16; 0],
            "an empty message is not answered"
        );
    }
}

#[test]
fn a_peer_living_on_one_credit_is_granted_it_back_at_once() {
    let mut server = established_server(Parameters::server(), 1);
    receive(
        &mut server,
        &Message::data(b"a", 0).granting(5).requesting(1),
    );
    assert_eq!(post(&mut server), 1);
    assert_eq!(grants(&mut server), [1]);
}

#[test]
fn idle_sides_fall_silent_whatever_their_credits() {
    for client_credits in [2, 3, 4, 5, 255] {
        for server_credits in [1, 2, 3, 4, 255] {
            let mut pair = Pair::established(
                Parameters {
                    send_credit_target: server_credits,
                    receive_credit_max: client_credits,
                    ..Parameters::client()
                },
                Parameters {
                    send_credit_target: client_credits,
                    receive_credit_max: server_credits,
                    ..Parameters::server()
                },
            );
            pair.queue(Who::Client, 5_000);
            pair.queue(Who::Server, 5_000);
            pair.settle();
            assert_eq!(pair.server.delivered.len(), 1);
            assert_eq!(pair.client.delivered.len(), 1);
        }
    }
}

#[test]
fn grants_beyond_sixteen_bits_are_a_violation() {
    let mut server = established_server(Parameters::server(), 10);
    receive(&mut server, &Message::empty(65_535));
    assert_eq!(server.credits().held, 65_535);
    assert_eq!(
        server.handle_receive(START, &Message::empty(1).bytes()),
        Err(PeerViolation::TooManyCreditsGranted {
            received: 1,
            held: 65_535
        })
    );
}

#[test]
fn a_message_without_a_credit_is_a_violation() {
    let mut server = established_server(Parameters::server(), 1);
    receive(&mut server, &Message::data(b"a", 0).requesting(255));
    post(&mut server);
    assert!(
        server.credits().posted > 0,
        "a buffer is there, a credit is not"
    );
    assert_eq!(
        server.handle_receive(START, &Message::empty(1).bytes()),
        Err(PeerViolation::NoCreditHeld)
    );
}

#[test]
fn a_peer_that_never_grants_again_only_stalls_its_own_connection() {
    let mut server = established_server(Parameters::server(), 255);
    receive(&mut server, &Message::empty(10));
    server.queue_message(MessageKey(1), 131_072, None).unwrap();
    let mut sent = 0;
    for _ in 0..100 {
        post(&mut server);
        sent += grants(&mut server).len();
    }
    assert_eq!(sent, 10);
    assert_eq!(server.queued_messages(), 1);
}

#[test]
fn a_received_grant_restarts_the_queue() {
    let mut server = established_server(Parameters::server(), 255);
    receive(&mut server, &Message::empty(3));
    server.queue_message(MessageKey(1), 13_400, None).unwrap();
    assert_eq!(grants(&mut server).len(), 2);
    assert_eq!(
        server.handle_receive(START, &Message::empty(4).bytes()),
        Ok(Received::Empty)
    );
    assert_eq!(grants(&mut server).len(), 4);
}

#[test]
fn a_driver_that_parks_every_buffer_only_pauses_the_peer() {
    let mut pair = Pair::established(Parameters::client(), Parameters::server());
    pair.server.parked = true;
    for _ in 0..3 {
        pair.queue(Who::Client, 300_000);
    }
    pair.settle();
    assert!(pair.server.delivered.len() < 3);
    assert_eq!(pair.server.machine.credits().posted, 0);
    assert_eq!(pair.server.machine.credits().granted, 0);
    pair.server.parked = false;
    pair.settle();
    assert_eq!(pair.server.delivered.len(), 3);
}

#[test]
fn messages_pass_both_ways_on_one_credit_each() {
    let one = |parameters: Parameters| Parameters {
        receive_credit_max: 1,
        send_credit_target: 1,
        ..parameters
    };
    let mut pair = Pair::established(one(Parameters::client()), one(Parameters::server()));
    for _ in 0..5 {
        pair.queue(Who::Client, 4_000);
        pair.queue(Who::Server, 9_000);
    }
    pair.run_until_delivered();
}

#[test]
fn a_peer_that_grants_one_credit_receives_a_long_message() {
    let stingy = Parameters {
        receive_credit_max: 1,
        ..Parameters::client()
    };
    let mut pair = Pair::established(stingy, Parameters::server());
    pair.queue(Who::Server, 1 << 20);
    pair.run_until_delivered();
    assert_eq!(pair.client.delivered.len(), 1);
}

#[test]
fn a_message_of_128_kib_arrives_in_fragments_of_one_byte() {
    let mut server = established_server(Parameters::server(), 255);
    let length = 131_072;
    for offset in 0..length {
        let byte = [u8::try_from(offset % 251).unwrap()];
        let spent = u16::from(server.credits().held < 10);
        let message = Message::data(&byte, length - offset - 1).granting(spent);
        let received = server.handle_receive(START, &message.bytes()).unwrap();
        assert_eq!(
            received,
            Received::Fragment {
                data: 24..25,
                message_length: length,
                offset_in_message: offset,
                last: offset + 1 == length,
            }
        );
        post(&mut server);
        let sent = u16::try_from(grants(&mut server).len()).unwrap();
        server.handle_send_complete(START, sent);
        assert!(server.credits().granted > 0, "the peer can go on");
    }
    assert_eq!(server.counters().messages_received, 1);
}
