//! Sessions that other processes' clients name.

use super::*;

const SESSION: u64 = 0x5E55;

fn state() -> BindingConnection {
    BindingConnection {
        negotiate: vec![1],
        preauth: vec![2; 64],
        request: vec![3],
        window_end: 4,
    }
}

impl Broker {
    /// A connection, told by the claimant's number, wants to be a channel of [`SESSION`].
    fn bind(&mut self, child: u64) -> Vec<Sent<FromBroker>> {
        let bind = ToBroker::Bind {
            claim: ClaimId(child),
            session: SESSION,
            connection: state(),
        };
        self.say_with(child, bind, Some(child as u32))
    }
}

fn opened() -> ToBroker {
    ToBroker::SessionOpened { session: SESSION }
}

fn no_session(child: u64) -> Sent<FromBroker> {
    let refused = FromBroker::Refused {
        claim: ClaimId(child),
        reason: Refusal::NoSession,
    };
    (child, refused, None)
}

fn end_previous(child: u64) -> ToBroker {
    ToBroker::EndPrevious {
        claim: ClaimId(child),
        session: SESSION,
        user: "alice".into(),
        uid: 1000,
    }
}

fn previous_ended(child: u64) -> Sent<FromBroker> {
    let claim = ClaimId(child);
    (child, FromBroker::PreviousEnded { claim }, None)
}

#[test]
fn a_connection_goes_to_the_child_that_has_the_session_and_its_claimant_is_told() {
    let mut broker = Broker::with_children(2);
    broker.say(1, opened());
    let passed = FromBroker::PassBinding {
        claim: key(2),
        connection: state(),
    };
    assert_eq!(broker.bind(2), [(1, passed, Some(2))]);
    let handed_over = FromBroker::HandedOver { claim: ClaimId(2) };
    assert_eq!(
        broker.answer(1, 2, PassAnswer::Accepted),
        [(2, handed_over, None)]
    );
    assert_eq!(broker.machine.totals().clients, 0, "nobody's ClientGuid");
}

#[test]
fn a_session_that_is_not_there_or_over_or_the_claimants_own_is_none() {
    let mut broker = Broker::with_children(2);
    assert_eq!(broker.bind(2), [no_session(2)]);
    broker.say(1, opened());
    broker.say(1, ToBroker::SessionClosed { session: SESSION });
    assert_eq!(broker.bind(2), [no_session(2)]);
    broker.say(2, opened());
    assert_eq!(broker.bind(2), [no_session(2)]);
    assert!(broker.ended().is_empty());
}

#[test]
fn nobody_else_can_take_a_session_or_say_that_it_is_over() {
    let mut broker = Broker::with_children(3);
    broker.say(1, opened());
    broker.say(2, opened());
    broker.say(2, ToBroker::SessionClosed { session: SESSION });
    assert!(matches!(
        broker.bind(3)[..],
        [(1, FromBroker::PassBinding { .. }, Some(3))]
    ));
    broker.answer(2, 3, PassAnswer::Accepted);
    assert_eq!(broker.ended(), [2], "nothing was passed to it");
}

#[test]
fn whoever_waits_for_a_child_that_dies_is_answered() {
    let mut broker = Broker::with_children(3);
    broker.say(1, opened());
    broker.bind(2);
    broker.say(3, end_previous(3));
    let mut answers = broker.dies(1);
    answers.sort_by_key(|(child, ..)| *child);
    assert_eq!(answers, [no_session(2), previous_ended(3)]);
    assert_eq!(broker.bind(2), [no_session(2)]);
}

#[test]
fn a_lost_session_is_ended_by_its_child_and_an_unknown_one_at_once() {
    let mut broker = Broker::with_children(2);
    assert_eq!(broker.say(2, end_previous(2)), [previous_ended(2)]);
    broker.say(1, opened());
    let end = FromBroker::EndSession {
        claim: key(2),
        session: SESSION,
        user: "alice".into(),
        uid: 1000,
    };
    assert_eq!(broker.say(2, end_previous(2)), [(1, end, None)]);
    let ended = ToBroker::SessionEnded { claim: key(2) };
    assert_eq!(broker.say(1, ended.clone()), [previous_ended(2)]);
    assert_eq!(broker.say(1, ended), [], "a late answer harms nobody");
    assert!(broker.ended().is_empty());
}
