//! Channels of one child that attach to its region, one behind the other, while smbdirectd or a
//! connection ends.

use super::*;

fn log_on(channel: &RelayChannel) {
    channel.read_on(Reading::Freely);
    receive(channel).unwrap();
    channel.authenticated();
}

fn answer() -> Outgoing {
    Outgoing {
        pieces: vec![b"logged on".to_vec().into()],
        writes: Vec::new(),
        invalidate: None,
    }
}

#[test]
fn a_second_channel_sends_the_region_along_and_waits_for_the_first_answer() {
    let region = Rc::default();
    let (first, mut first_gateway) = relay_of(&region);
    let (second, mut second_gateway) = relay_of(&region);
    for channel in [&first, &second] {
        log_on(channel);
        channel.flush().unwrap();
    }
    assert_eq!(first_gateway.seen(), [Seen::Attach(0)]);
    assert_eq!(second_gateway.seen(), []);
    first_gateway.attached(1, true);
    receive(&first).unwrap();
    second.flush().unwrap();
    assert_eq!(second_gateway.seen(), [Seen::Attach(1)]);
    second_gateway.attached(1, false);
    receive(&second).unwrap();
    second.flush().unwrap();
    assert_eq!(second_gateway.seen(), [Seen::Mapped]);
}

#[test]
fn no_answer_overtakes_an_attach_that_waits_for_another_channels() {
    let region = Rc::default();
    let (first, mut first_gateway) = relay_of(&region);
    let (second, mut second_gateway) = relay_of(&region);
    for channel in [&first, &second] {
        log_on(channel);
        channel.send(answer());
        channel.flush().unwrap();
    }
    assert!(matches!(
        first_gateway.seen()[..],
        [Seen::Attach(0), Seen::Reply { .. }]
    ));
    assert_eq!(second_gateway.seen(), []);
    first_gateway.attached(1, true);
    receive(&first).unwrap();
    second.flush().unwrap();
    assert!(matches!(
        second_gateway.seen()[..],
        [Seen::Attach(1), Seen::Reply { .. }]
    ));
}

#[test]
fn a_channel_that_closes_while_it_waits_to_attach_says_its_last_words() {
    let region = Rc::default();
    let (first, _first_gateway) = relay_of(&region);
    let (second, mut second_gateway) = relay_of(&region);
    for channel in [&first, &second] {
        log_on(channel);
        channel.flush().unwrap();
    }
    second.send(answer());
    second.close();
    second.flush().unwrap();
    assert!(matches!(
        second_gateway.seen()[..],
        [Seen::Reply { .. }, Seen::Close]
    ));
}

#[test]
fn a_relay_that_ends_without_drained_poisons_the_region() {
    let region: Rc<SharedRegion> = Rc::default();
    let (channel, gateway) = attached(&region);
    let payload = LocalPool::new().run_until(channel.payload(4096)).unwrap();
    drop(gateway);
    assert_eq!(receive(&channel), Err(ChannelError::Closed));
    assert!(channel.is_drained());
    assert!(payload.slice().address().is_ok(), "still mapped");
    let (next, mut next_gateway) = relay_of(&region);
    log_on(&next);
    next.flush().unwrap();
    assert_eq!(next_gateway.seen(), [Seen::Attach(0)], "a new region");
}

#[test]
fn what_a_dead_smbdirectd_has_is_used_no_more_and_unmapped_with_its_last_channel() {
    let region: Rc<SharedRegion> = Rc::default();
    let (channel, mut gateway) = attached(&region);
    let mut pool = LocalPool::new();
    let lost = channel.fetch(vec![descriptor()], PART);
    let lost = pool.spawner().spawn_local_with_handle(lost).unwrap();
    pool.run_until_stalled();
    channel.flush().unwrap();
    assert!(matches!(gateway.seen()[..], [Seen::Read(..)]));
    let area = match &channel.state.borrow().attach {
        Attach::Mapped { area, .. } => Rc::clone(area),
        _ => panic!("not mapped"),
    };
    drop(gateway);
    assert_eq!(receive(&channel), Err(ChannelError::Closed));
    assert!(pool.run_until(lost).is_err());
    assert_eq!(
        area.extents.borrow().in_use(),
        u64::from(PART),
        "a NIC may still write there"
    );
    let area = {
        let weak = Rc::downgrade(&area);
        drop(area);
        weak
    };
    assert!(area.upgrade().is_some(), "the channel has it");
    drop((channel, region));
    assert!(area.upgrade().is_none(), "it stays mapped for ever");
}

#[test]
fn a_connection_that_ends_before_its_attach_is_answered_leaves_the_region_to_the_next() {
    let region = Rc::default();
    let (first, mut first_gateway) = relay_of(&region);
    let (second, mut second_gateway) = relay_of(&region);
    for channel in [&first, &second] {
        log_on(channel);
        channel.flush().unwrap();
    }
    first_gateway.say(&ToChild::Closed {
        reason: CloseReason::PeerDisconnected,
    });
    first_gateway.say(&ToChild::Drained);
    while receive(&first).is_ok() || !first.is_drained() {}
    second.flush().unwrap();
    assert_eq!(second_gateway.seen(), [Seen::Attach(0)]);
}

#[test]
fn a_new_smbdirectds_region_is_taken_although_the_dead_ones_was_given_up_meanwhile() {
    let region = Rc::default();
    let (old, gateway) = attached(&region);
    let (next, mut next_gateway) = relay_of(&region);
    log_on(&next);
    next.flush().unwrap();
    assert_eq!(next_gateway.seen(), [Seen::Attach(1)]);
    drop(gateway);
    assert_eq!(receive(&old), Err(ChannelError::Closed));
    next_gateway.attached(1, true);
    receive(&next).unwrap();
    next.flush().unwrap();
    assert_eq!(next_gateway.seen(), [Seen::Mapped]);
}

#[test]
fn an_answer_of_the_dead_smbdirectd_does_not_name_the_new_ones_region() {
    let region = Rc::default();
    let (_old, _gateway) = attached(&region);
    let (late, mut late_gateway) = relay_of(&region);
    let (next, mut next_gateway) = relay_of(&region);
    for channel in [&late, &next] {
        log_on(channel);
        channel.flush().unwrap();
    }
    // Nothing unread is left behind, or its end would be heard before its last words.
    assert_eq!(late_gateway.seen(), [Seen::Attach(1)]);
    late_gateway.attached(1, false);
    drop(late_gateway);
    next_gateway.attached(1, true);
    receive(&next).unwrap();
    while receive(&late).is_ok() {}
    let (third, mut third_gateway) = relay_of(&region);
    log_on(&third);
    third.flush().unwrap();
    assert_eq!(third_gateway.seen(), [Seen::Attach(1)], "it is still good");
}
