//! Share modes and deletion across children.

use super::*;

fn granted(open: u64, other_opens: bool) -> FromBroker {
    let open = OpenId(open);
    let oplock = Oplock::None;
    FromBroker::Granted {
        open,
        other_opens,
        oplock,
    }
}

fn closed(child: u64, open: u64, delete: bool) -> Sent<FromBroker> {
    let open = OpenId(open);
    (child, FromBroker::Closed { open, delete }, None)
}

fn close(open: u64) -> ToBroker {
    ToBroker::Close { open: OpenId(open) }
}

/// MS-FSA 2.1.5.1.2.2, both directions, for every pair of accesses and sharings.
#[test]
fn every_pair_of_accesses_and_sharings_is_decided_as_specified() {
    let rights = [
        (AccessMask::READ_ATTRIBUTES, None),
        (AccessMask::READ_DATA, Some(ShareAccess::READ)),
        (AccessMask::EXECUTE, Some(ShareAccess::READ)),
        (AccessMask::WRITE_DATA, Some(ShareAccess::WRITE)),
        (AccessMask::APPEND_DATA, Some(ShareAccess::WRITE)),
        (AccessMask::DELETE, Some(ShareAccess::DELETE)),
    ];
    let mut refused = 0;
    for (first, first_needs) in rights {
        for (second, second_needs) in rights {
            for sharing in 0..64 {
                let first_share = ShareAccess::from_bits_retain(sharing & 7);
                let second_share = ShareAccess::from_bits_retain(sharing >> 3);
                let mut broker = Broker::with_children(2);
                assert_eq!(
                    broker.open(1, 1, mode(first, first_share)),
                    granted(1, false)
                );
                let answer = broker.open(2, 1, mode(second, second_share));
                let allowed = match (first_needs, second_needs) {
                    (Some(first_needs), Some(second_needs)) => {
                        first_share.contains(second_needs) && second_share.contains(first_needs)
                    }
                    _ => true,
                };
                let expected = match allowed {
                    true => granted(1, true),
                    false => denied(1, ShareDenied::SharingViolation),
                };
                refused += u32::from(!allowed);
                assert_eq!(
                    answer, expected,
                    "{first:?} {first_share:?} then {second:?} {second_share:?}"
                );
            }
        }
    }
    // 25 pairs of rights that concern sharing; of 64 sharings a quarter allows each.
    assert_eq!(refused, 25 * 48);
}

#[test]
fn a_closed_or_dead_open_is_in_nobodys_way() {
    let exclusive = mode(AccessMask::WRITE_DATA, ShareAccess::empty());
    let mut broker = Broker::with_children(3);
    broker.open(1, 1, exclusive);
    assert_eq!(broker.say(1, close(1)), [closed(1, 1, false)]);
    assert_eq!(broker.open(2, 1, exclusive), granted(1, false));
    broker.dies(2);
    assert_eq!(broker.open(3, 1, exclusive), granted(1, false));
    broker.dies(3);
    assert_eq!(broker.counts(), [0; 4]);
}

#[test]
fn the_last_to_close_a_delete_pending_file_deletes_it_and_nobody_opens_it_meanwhile() {
    let shared = mode(AccessMask::READ_DATA, ShareAccess::all());
    let mut broker = Broker::with_children(3);
    broker.open(1, 1, shared);
    broker.open(2, 7, shared);
    let told = |child, open, on| {
        let open = OpenId(open);
        (child, FromBroker::DeletePending { open, on }, None)
    };
    let open = OpenId(1);
    assert_eq!(
        broker.say(1, ToBroker::SetDeletePending { open, on: true }),
        [
            told(1, 1, true),
            told(2, 7, true),
            (1, FromBroker::DeletePendingSet { open }, None)
        ]
    );
    assert_eq!(
        broker.open(3, 1, shared),
        denied(1, ShareDenied::DeletePending)
    );
    assert_eq!(broker.say(1, close(1)), [closed(1, 1, false)]);
    assert_eq!(broker.say(2, close(7)), [closed(2, 7, true)]);
    assert_eq!(
        broker.open(3, 2, shared),
        denied(2, ShareDenied::DeletePending),
        "it is being deleted"
    );
    broker.say(2, ToBroker::Deleted { open: OpenId(7) });
    assert_eq!(broker.open(3, 3, shared), granted(3, false));
}

#[test]
fn delete_pending_can_be_taken_back() {
    let shared = mode(AccessMask::DELETE, ShareAccess::all());
    let mut broker = Broker::with_children(2);
    broker.open(1, 1, shared);
    broker.open(2, 1, shared);
    let open = OpenId(1);
    broker.say(1, ToBroker::SetDeletePending { open, on: true });
    broker.say(2, ToBroker::SetDeletePending { open, on: false });
    assert_eq!(broker.say(1, close(1)), [closed(1, 1, false)]);
    assert_eq!(broker.say(2, close(1)), [closed(2, 1, false)]);
}

#[test]
fn delete_on_close_marks_the_file_when_that_open_closes() {
    let shared = mode(AccessMask::READ_DATA, ShareAccess::all());
    let deleting = OpenMode {
        delete_on_close: true,
        ..mode(AccessMask::DELETE, ShareAccess::all())
    };
    let mut broker = Broker::with_children(3);
    broker.open(1, 1, deleting);
    assert_eq!(
        broker.open(2, 1, shared),
        granted(1, true),
        "not yet marked"
    );
    let marked = FromBroker::DeletePending {
        open: OpenId(1),
        on: true,
    };
    assert_eq!(
        broker.say(1, close(1)),
        [(2, marked, None), closed(1, 1, false)]
    );
    assert_eq!(
        broker.open(3, 1, shared),
        denied(1, ShareDenied::DeletePending)
    );
    assert_eq!(broker.say(2, close(1)), [closed(2, 1, true)]);
}

#[test]
fn a_child_that_dies_while_it_deletes_frees_the_file() {
    let deleting = OpenMode {
        delete_on_close: true,
        ..mode(AccessMask::DELETE, ShareAccess::all())
    };
    let mut broker = Broker::with_children(2);
    broker.open(1, 1, deleting);
    assert_eq!(broker.say(1, close(1)), [closed(1, 1, true)]);
    broker.dies(1);
    assert_eq!(broker.open(2, 1, deleting), granted(1, false));
}

#[test]
fn a_file_being_deleted_is_not_closed_or_marked_again() {
    let deleting = OpenMode {
        delete_on_close: true,
        ..mode(AccessMask::DELETE, ShareAccess::all())
    };
    for request in [
        close(1),
        ToBroker::SetDeletePending {
            open: OpenId(1),
            on: false,
        },
    ] {
        let mut broker = Broker::with_children(1);
        broker.open(1, 1, deleting);
        broker.say(1, close(1));
        broker.say(1, request);
        assert_eq!(broker.ended(), [1]);
    }
}

fn exclusive(oplock: Oplock) -> OpenMode {
    OpenMode {
        oplock,
        ..mode(AccessMask::WRITE_DATA, ShareAccess::empty())
    }
}

fn got(open: u64, oplock: Oplock) -> FromBroker {
    FromBroker::Granted {
        open: OpenId(open),
        other_opens: false,
        oplock,
    }
}

fn asked(child: u64, open: u64) -> Sent<FromBroker> {
    let open = OpenId(open);
    (child, FromBroker::BreakOplock { open }, None)
}

fn wants(child_open: u64, mode: OpenMode) -> ToBroker {
    ToBroker::Open {
        open: OpenId(child_open),
        file: FILE,
        mode,
    }
}

fn released(open: u64) -> ToBroker {
    ToBroker::OplockReleased { open: OpenId(open) }
}

#[test]
fn the_only_open_of_a_file_gets_the_oplock_it_asks_for() {
    let shared = |oplock| OpenMode {
        oplock,
        ..mode(AccessMask::READ_DATA, ShareAccess::all())
    };
    let mut broker = Broker::with_children(2);
    assert_eq!(broker.open(1, 1, shared(Oplock::None)), granted(1, false));
    assert_eq!(broker.open(2, 1, shared(Oplock::Batch)), granted(1, true));
    broker.say(1, close(1));
    broker.say(2, close(1));
    for oplock in [Oplock::Exclusive, Oplock::Batch] {
        assert_eq!(broker.open(2, 2, shared(oplock)), got(2, oplock));
        broker.say(2, close(2));
    }
}

#[test]
fn an_open_waits_until_the_oplock_in_its_way_is_released() {
    let shared = OpenMode {
        oplock: Oplock::Exclusive,
        ..mode(AccessMask::READ_DATA, ShareAccess::all())
    };
    let mut broker = Broker::with_children(3);
    broker.open(1, 1, shared);
    assert_eq!(broker.say(2, wants(1, shared)), [asked(1, 1)]);
    assert_eq!(broker.say(3, wants(1, shared)), [], "asked once");
    assert_eq!(
        broker.say(1, released(1)),
        [(2, granted(1, true), None), (3, granted(1, true), None)]
    );
}

#[test]
fn a_batch_oplock_is_broken_before_share_modes_are_looked_at_and_an_exclusive_one_after() {
    let other = mode(AccessMask::READ_DATA, ShareAccess::all());
    let violation = denied(1, ShareDenied::SharingViolation);
    let mut broker = Broker::with_children(2);
    broker.open(1, 1, exclusive(Oplock::Batch));
    assert_eq!(broker.say(2, wants(1, other)), [asked(1, 1)]);
    assert_eq!(
        broker.say(1, released(1)),
        [(2, violation.clone(), None)],
        "its holder still has it open"
    );
    let mut broker = Broker::with_children(2);
    broker.open(1, 1, exclusive(Oplock::Batch));
    broker.say(2, wants(1, other));
    assert_eq!(
        broker.say(1, close(1)),
        [closed(1, 1, false), (2, granted(1, false), None)]
    );
    let mut broker = Broker::with_children(2);
    broker.open(1, 1, exclusive(Oplock::Exclusive));
    assert_eq!(broker.open(2, 1, other), violation);
}

#[test]
fn an_open_for_attributes_breaks_no_oplock() {
    let attributes = mode(AccessMask::READ_ATTRIBUTES, ShareAccess::empty());
    let mut broker = Broker::with_children(2);
    broker.open(1, 1, exclusive(Oplock::Batch));
    assert_eq!(broker.open(2, 1, attributes), granted(1, true));
}

#[test]
fn a_holder_that_dies_releases_its_oplock_and_a_waiter_that_dies_waits_no_more() {
    let mut broker = Broker::with_children(3);
    broker.open(1, 1, exclusive(Oplock::Batch));
    broker.say(2, wants(1, exclusive(Oplock::Batch)));
    broker.say(3, wants(1, exclusive(Oplock::Batch)));
    assert_eq!(broker.dies(2), []);
    assert_eq!(broker.dies(1), [(3, got(1, Oplock::Batch), None)]);
    broker.say(3, close(1));
    assert_eq!(broker.counts(), [0; 4]);
}

#[test]
fn an_open_that_waits_is_told_that_the_file_is_deleted_instead() {
    let deleting = OpenMode {
        access: AccessMask::DELETE.bits(),
        delete_on_close: true,
        ..exclusive(Oplock::Batch)
    };
    let mut broker = Broker::with_children(2);
    broker.open(1, 1, deleting);
    broker.say(2, wants(1, exclusive(Oplock::None)));
    assert_eq!(
        broker.say(1, close(1)),
        [
            closed(1, 1, true),
            (2, denied(1, ShareDenied::DeletePending), None)
        ]
    );
}
