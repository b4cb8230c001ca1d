//! A restarted broker: whom it hears first, and what it believes.

use super::*;

fn owner_state(channels: u32) -> ToBroker {
    ToBroker::OwnerState {
        client_guid: GUID,
        dialect: 0x0311,
        channels,
    }
}

#[test]
fn a_restarted_broker_answers_once_everybody_has_told_its_state() {
    let mut broker = Broker::restarted(2);
    broker.machine.child(ChildId(3), false);
    assert!(
        broker.claim(3, GUID, 0x0311).is_empty(),
        "it may be somebody's"
    );
    broker.say(1, owner_state(1));
    assert!(broker.say(1, ToBroker::Restored).is_empty());
    assert_eq!(broker.say(2, ToBroker::Restored), [passed(1, 3, 0x0311)]);
}

#[test]
fn a_child_that_dies_or_hangs_does_not_hold_a_restarted_broker_up() {
    let mut broker = Broker::restarted(1);
    broker.machine.child(ChildId(3), false);
    broker.claim(3, GUID, 0x0311);
    assert_eq!(broker.dies(1), [claimed(3)]);

    let mut broker = Broker::restarted(1);
    broker.machine.child(ChildId(3), false);
    broker.claim(3, GUID, 0x0311);
    assert_eq!(broker.machine.next_tick(), Some(NOW + RESTORE_LIMIT));
    broker.machine.tick(NOW + RESTORE_LIMIT);
    assert_eq!(broker.sent(), [claimed(3)]);
    broker.say(1, owner_state(1));
    broker.say(1, ToBroker::Restored);
    assert_eq!(broker.ended(), [] as [u64; 0], "late is not wrong");
}

#[test]
fn a_child_that_hangs_through_a_restart_is_ended_and_one_that_was_late_is_not() {
    let mut broker = Broker::restarted(2);
    broker.machine.tick(NOW + RESTORE_LIMIT);
    broker.say(2, ToBroker::Restored);
    assert_eq!(broker.machine.next_tick(), Some(NOW + SILENT));
    broker.machine.tick(NOW + SILENT);
    assert_eq!(broker.ended(), [1]);
    assert_eq!(broker.machine.next_tick(), None);
    broker.machine.tick(NOW + SILENT * 2);
    assert_eq!(broker.ended(), [1], "once");
}

#[test]
fn a_child_whose_client_went_to_another_meanwhile_may_lose_its_channels_in_peace() {
    let mut broker = Broker::restarted(2);
    broker.machine.child(ChildId(3), false);
    broker.say(2, ToBroker::Restored);
    broker.claim(3, GUID, 0x0311);
    broker.machine.tick(NOW + RESTORE_LIMIT);
    assert_eq!(broker.sent(), [claimed(3)]);
    broker.say(1, owner_state(1));
    broker.say(1, ToBroker::Restored);
    broker.say(1, ToBroker::ChannelClosed);
    assert_eq!(broker.ended(), [] as [u64; 0], "it only came late");
    broker.say(2, ToBroker::ChannelClosed);
    assert_eq!(broker.ended(), [2], "it never had one");
}

#[test]
fn opens_told_to_a_restarted_broker_count() {
    let mut broker = Broker::restarted(2);
    let exclusive = mode(AccessMask::READ_DATA, ShareAccess::empty());
    broker.say(
        1,
        ToBroker::OpenState {
            open: OpenId(1),
            file: FILE,
            mode: exclusive,
            delete_pending: false,
        },
    );
    broker.say(1, ToBroker::Restored);
    broker.say(2, ToBroker::Restored);
    assert_eq!(
        broker.open(2, 1, exclusive),
        denied(1, ShareDenied::SharingViolation)
    );
}

#[test]
fn delete_pending_comes_back_only_if_all_opens_agree() {
    for (first, second, pending) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
    ] {
        let mut broker = Broker::restarted(2);
        let shared = mode(AccessMask::READ_DATA, ShareAccess::all());
        for (child, delete_pending) in [(1, first), (2, second)] {
            broker.say(
                child,
                ToBroker::OpenState {
                    open: OpenId(1),
                    file: FILE,
                    mode: shared,
                    delete_pending,
                },
            );
            broker.say(child, ToBroker::Restored);
        }
        let refused = broker.open(1, 2, shared) == denied(2, ShareDenied::DeletePending);
        assert_eq!(refused, pending, "{first} {second}");
    }
}
