//! [MS-SMBD] 3.1.6, and the time a sender has to finish a message.

use std::time::Duration;

use super::super::messages::RESPONSE_REQUESTED;
use super::super::{CloseReason, Connection, MessageKey, Parameters, State};
use super::pair::{Pair, Who};
use super::{Message, START, after, established_server, header_of, post};

fn server_holding(credits: u16) -> Connection {
    let mut server = established_server(Parameters::server(), 255);
    server
        .handle_receive(START, &Message::empty(credits).bytes())
        .unwrap();
    post(&mut server);
    server
}

#[test]
fn an_idle_peer_is_asked_for_a_sign_of_life() {
    let mut server = server_holding(5);
    assert_eq!(server.deadline(), Some(after(120)));
    server.handle_timeout(after(119));
    assert_eq!(server.poll_send(after(119)), None);
    server.handle_timeout(after(120));
    let request = server.poll_send(after(120)).expect("the request");
    assert_eq!(header_of(&request).flags, RESPONSE_REQUESTED);
    assert_eq!(request.payload, None);
    assert_eq!(server.poll_send(after(120)), None, "asked once");
}

#[test]
fn a_silent_peer_is_dropped_after_the_reply_timeout() {
    let mut server = server_holding(5);
    server.handle_timeout(after(120));
    server.poll_send(after(120)).expect("the request");
    server.handle_timeout(after(124));
    assert_eq!(server.state(), State::Established);
    server.handle_timeout(after(125));
    assert_eq!(server.close_reason(), Some(CloseReason::KeepaliveTimeout));
}

#[test]
fn the_reply_timer_starts_when_the_request_is_sent() {
    let mut server = server_holding(5);
    server.handle_timeout(after(120));
    server.poll_send(after(123)).expect("the request");
    assert_eq!(server.deadline(), Some(after(128)));
    server.handle_timeout(after(127));
    assert_eq!(server.state(), State::Established);
}

#[test]
fn every_received_message_restarts_the_idle_timer() {
    let mut server = server_holding(5);
    server
        .handle_receive(after(100), &Message::empty(0).bytes())
        .unwrap();
    assert_eq!(server.deadline(), Some(after(220)));
    server
        .handle_receive(after(101), &Message::data(b"a", 0).bytes())
        .unwrap();
    assert_eq!(server.deadline(), Some(after(221)));
}

#[test]
fn any_message_answers_the_request() {
    let mut server = server_holding(5);
    server.handle_timeout(after(120));
    server.poll_send(after(120)).expect("the request");
    server
        .handle_receive(after(124), &Message::data(b"a", 0).bytes())
        .unwrap();
    server.handle_timeout(after(125));
    assert_eq!(server.state(), State::Established);
    assert_eq!(server.deadline(), Some(after(244)));
}

#[test]
fn a_queued_message_carries_the_request() {
    let mut server = server_holding(5);
    server.handle_timeout(after(120));
    server.queue_message(MessageKey(1), 10, None).unwrap();
    let outgoing = server.poll_send(after(120)).unwrap();
    assert!(outgoing.payload.is_some());
    assert_eq!(header_of(&outgoing).flags, RESPONSE_REQUESTED);
    assert_eq!(server.poll_send(after(120)), None);
}

#[test]
fn a_request_is_answered_without_asking_back() {
    let mut server = server_holding(5);
    server
        .handle_receive(after(1), &Message::empty(0).asking_for_a_response().bytes())
        .unwrap();
    let answer = server.poll_send(after(1)).expect("the answer");
    assert_eq!(header_of(&answer).flags, 0);
    assert_eq!(answer.payload, None);
    assert_eq!(server.poll_send(after(1)), None, "answered once");
}

#[test]
fn a_request_that_cannot_be_sent_ends_the_connection_too() {
    let mut server = established_server(Parameters::server(), 255);
    assert_eq!(server.credits().held, 0);
    server.handle_timeout(after(120));
    assert_eq!(server.poll_send(after(120)), None, "no credit to ask with");
    assert_eq!(server.deadline(), Some(after(125)));
    server.handle_timeout(after(125));
    assert_eq!(server.close_reason(), Some(CloseReason::KeepaliveTimeout));
}

#[test]
fn a_peer_without_a_buffer_to_send_into_is_not_blamed_for_silence() {
    let mut server = established_server(Parameters::server(), 2);
    for _ in 0..2 {
        server
            .handle_receive(START, &Message::data(b"a", 1).granting(5).bytes())
            .map_or_else(|violation| panic!("{violation}"), drop);
        if server.credits().posted > 0 {
            server
                .handle_receive(START, &Message::data(b"b", 0).granting(5).bytes())
                .unwrap();
            break;
        }
    }
    assert_eq!(server.credits().posted, 0);
    for second in [120, 125, 240, 600] {
        server.handle_timeout(after(second));
        assert_eq!(server.state(), State::Established);
    }
    // Posted again at 700 s: from here the silence is the peer's.
    server.handle_posted(2);
    while server.poll_send(after(700)).is_some() {}
    server.handle_timeout(after(819));
    assert_eq!(server.poll_send(after(819)), None);
    server.handle_timeout(after(820));
    assert!(server.poll_send(after(820)).is_some());
    server.handle_timeout(after(825));
    assert_eq!(server.close_reason(), Some(CloseReason::KeepaliveTimeout));
}

#[test]
fn a_message_left_incomplete_ends_the_connection() {
    let mut server = server_holding(5);
    server
        .handle_receive(after(1), &Message::data(b"a", 5).bytes())
        .unwrap();
    assert_eq!(server.deadline(), Some(after(11)));
    // More of it buys next to no time.
    server
        .handle_receive(after(10), &Message::data(b"b", 4).bytes())
        .unwrap();
    server.handle_timeout(after(11).saturating_add(Duration::from_millis(1)));
    assert_eq!(
        server.close_reason(),
        Some(CloseReason::PartialMessageTimeout)
    );
}

#[test]
fn a_message_that_keeps_coming_in_small_fragments_gets_the_time_it_takes() {
    const LENGTH: u32 = 128 << 10;
    let mut server = server_holding(5);
    let mut spent = 0;
    for sent in 1..=LENGTH {
        // Five in four milliseconds: 105 s for all of it.
        let now = START.saturating_add(Duration::from_micros(u64::from(sent) * 800));
        server.handle_timeout(now);
        let message = Message::data(b"a", LENGTH - sent).granting(spent);
        server.handle_receive(now, &message.bytes()).unwrap();
        post(&mut server);
        spent = 0;
        while server.poll_send(now).is_some() {
            server.handle_send_complete(now, 1);
            spent += 1;
        }
    }
    assert_eq!(server.state(), State::Established);
}

#[test]
fn a_completed_message_is_timed_no_longer() {
    let mut server = server_holding(5);
    server
        .handle_receive(after(1), &Message::data(b"a", 1).bytes())
        .unwrap();
    server
        .handle_receive(after(2), &Message::data(b"b", 0).bytes())
        .unwrap();
    assert_eq!(server.deadline(), Some(after(122)));
}

#[test]
fn time_without_receives_does_not_count_against_an_incomplete_message() {
    let mut server = established_server(Parameters::server(), 1);
    server
        .handle_receive(after(1), &Message::data(b"a", 1).granting(5).bytes())
        .unwrap();
    server.handle_timeout(after(11));
    assert_eq!(server.state(), State::Established);
    server.handle_timeout(after(100));
    server.handle_posted(1);
    server.handle_timeout(after(101));
    assert_eq!(server.state(), State::Established);
    server.handle_timeout(after(111));
    assert_eq!(
        server.close_reason(),
        Some(CloseReason::PartialMessageTimeout)
    );
}

#[test]
fn two_idle_sides_keep_each_other_alive() {
    let mut pair = Pair::established(Parameters::client(), Parameters::server());
    pair.queue(Who::Client, 100);
    pair.settle();
    let sent_before = pair.client.sent + pair.server.sent;
    pair.advance(Duration::from_secs(3600));
    assert_eq!(pair.client.machine.state(), State::Established);
    assert_eq!(pair.server.machine.state(), State::Established);
    let sent = pair.client.sent + pair.server.sent - sent_before;
    assert!(
        (58..=200).contains(&sent),
        "{sent} messages in an hour of keepalives"
    );
}

#[test]
fn an_early_timeout_call_does_nothing() {
    let mut server = server_holding(5);
    let deadline = server.deadline();
    server.handle_timeout(after(3));
    assert_eq!(server.deadline(), deadline);
    assert_eq!(server.poll_send(after(3)), None);
}

#[test]
fn waiting_for_a_receive_is_excused_message_by_message() {
    let mut server = established_server(Parameters::server(), 1);
    for (fragment, remaining) in [3_u32, 2, 1].into_iter().enumerate() {
        // Each receive is posted, granted and used nine seconds after the one before.
        let now = after(1 + 9 * fragment as u64);
        if fragment > 0 {
            server.handle_posted(1);
            server.poll_send(now).expect("the grant");
        }
        server
            .handle_receive(now, &Message::data(b"a", remaining).granting(5).bytes())
            .unwrap();
    }
    server.handle_timeout(after(27));
    assert_eq!(server.state(), State::Established);
}
