//! Payloads that come ahead of their requests.

use super::*;

fn outline(value: u32) -> Outline {
    Outline {
        words: vec![proto::relay::Word {
            at: 0,
            mask: u32::MAX,
            value,
        }],
        length_at: 4,
        descriptors_at: 8,
        descriptors: 1,
    }
}

/// What a task does that answers this message.
fn answering<T>(channel: &RelayChannel, message: u64, act: impl FnOnce() -> T) -> T {
    let task = followed::Followed::new(channel, message, async { act() });
    task.now_or_never().unwrap()
}

/// A WRITE that is like others; the future of its payload.
fn write_of(
    channel: &RelayChannel,
    message: u64,
    like: u32,
) -> LocalBoxFuture<'static, Result<Payload, NtStatus>> {
    answering(channel, message, || {
        channel.expect(4096, &|| Some(outline(like)));
        channel.fetch(vec![descriptor()], 4096)
    })
}

/// A relay on which WRITEs are expected, and what it lends.
fn lending(region: &Rc<SharedRegion>) -> (RelayChannel, Gateway, Vec<(OperationId, RegionRange)>) {
    let (channel, mut gateway) = attached_with(region, hello_of(100));
    let mut reads = Vec::new();
    for number in 1..=2 {
        gateway.say(&message(number, b"WRITE"));
        receive(&channel).unwrap();
        reads.push(write_of(&channel, number, 7));
        assert!(reads.last_mut().unwrap().now_or_never().is_none());
    }
    channel.flush().unwrap();
    let seen = gateway.seen();
    assert!(seen.contains(&Seen::Expect(outline(7))), "{seen:?}");
    let lent: Vec<_> = seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Lend(operation, range) => Some((*operation, *range)),
            _ => None,
        })
        .collect();
    assert_eq!(lent.len(), 4, "{seen:?}");
    for read in seen {
        if let Seen::Read(operation, _) = read {
            let outcome = Outcome::Done;
            gateway.say(&ToChild::PayloadReady { operation, outcome });
        }
    }
    receive(&channel).unwrap();
    for read in reads {
        drop(read.now_or_never().unwrap().unwrap());
    }
    (channel, gateway, lent)
}

fn in_use(channel: &RelayChannel) -> u64 {
    match &channel.state.borrow().attach {
        Attach::Mapped { area, .. } => area.extents.borrow().in_use(),
        _ => panic!("not mapped"),
    }
}

#[test]
fn a_payload_that_came_ahead_is_its_own_messages_and_is_lent_again_with_the_reply() {
    let (channel, mut gateway, lent) = lending(&Rc::default());
    let (operation, range) = lent[3];
    let ahead = |length| ToChild::Ahead { operation, length };
    gateway.say(&ahead(4096));
    gateway.say(&message(3, b"WRITE"));
    gateway.say(&message(4, b"WRITE"));
    receive(&channel).unwrap();
    let other = write_of(&channel, 4, 7);
    let own = write_of(&channel, 3, 7);
    let outcome = Outcome::Done;
    gateway.say(&ToChild::PayloadReady { operation, outcome });
    receive(&channel).unwrap();
    let payload = own.now_or_never().unwrap().unwrap();
    assert_eq!(payload.extent().offset, range.offset);
    assert!(other.now_or_never().is_none(), "it asks for its own");
    drop(payload);
    answering(&channel, 3, || channel.send(reply(b"written")));
    channel.flush().unwrap();
    let seen = gateway.seen();
    assert!(seen.iter().any(|seen| matches!(seen, Seen::Reply { .. })));
    let again = seen.iter().filter(|seen| matches!(seen, Seen::Lend(..)));
    assert_eq!(again.count(), 1, "{seen:?}");
    let expected = seen.iter().any(|seen| matches!(seen, Seen::Expect(_)));
    assert!(!expected, "it is known already: {seen:?}");
}

#[test]
fn what_came_ahead_for_a_request_that_is_refused_or_says_otherwise_is_given_back() {
    let (channel, mut gateway, lent) = lending(&Rc::default());
    let before = in_use(&channel);
    for (number, (operation, _)) in (3..).zip(&lent[..2]) {
        let operation = *operation;
        gateway.say(&ToChild::Ahead {
            operation,
            length: 512,
        });
        gateway.say(&message(number, b"WRITE"));
        let outcome = Outcome::Done;
        gateway.say(&ToChild::PayloadReady { operation, outcome });
    }
    receive(&channel).unwrap();
    assert_eq!(in_use(&channel), before);
    answering(&channel, 3, || channel.send(reply(b"refused")));
    assert_eq!(in_use(&channel), before - 65_536);
    let own = write_of(&channel, 4, 7);
    assert_eq!(in_use(&channel), before - 2 * 65_536);
    assert!(own.now_or_never().is_none(), "it asks for 4096 bytes");
}

#[test]
fn a_refusal_waits_for_the_payload_since_the_client_takes_its_memory_back_with_it() {
    let (channel, mut gateway, lent) = lending(&Rc::default());
    let (operation, _) = lent[3];
    gateway.say(&ToChild::Ahead {
        operation,
        length: 4096,
    });
    gateway.say(&message(3, b"WRITE"));
    receive(&channel).unwrap();
    let before = in_use(&channel);
    answering(&channel, 3, || channel.send(reply(b"refused")));
    channel.flush().unwrap();
    let replied = |seen: &[Seen]| seen.iter().any(|seen| matches!(seen, Seen::Reply { .. }));
    assert!(!replied(&gateway.seen()));
    let outcome = Outcome::Done;
    gateway.say(&ToChild::PayloadReady { operation, outcome });
    receive(&channel).unwrap();
    channel.flush().unwrap();
    assert!(replied(&gateway.seen()));
    // Given back, and lent again.
    assert_eq!(in_use(&channel), before);
}

#[test]
fn requests_unlike_each_other_are_not_expected() {
    let (channel, mut gateway) = attached_with(&Rc::default(), hello_of(100));
    for number in 1..=6 {
        gateway.say(&message(number, b"WRITE"));
        receive(&channel).unwrap();
        drop(write_of(&channel, number, number as u32));
    }
    channel.flush().unwrap();
    let seen = gateway.seen();
    let lends = |seen: &Seen| matches!(seen, Seen::Expect(_) | Seen::Lend(..));
    assert!(!seen.iter().any(lends), "{seen:?}");
}

#[test]
fn what_is_lent_is_recalled_before_more_memory_is_asked_for() {
    let (channel, mut gateway, lent) = lending(&Rc::default());
    let mut pool = LocalPool::new();
    let whole = pool
        .spawner()
        .spawn_local_with_handle(channel.payload(PART))
        .unwrap();
    pool.run_until_stalled();
    channel.flush().unwrap();
    assert_eq!(gateway.seen(), [Seen::Recall]);
    for (operation, _) in lent {
        gateway.say(&ToChild::Returned { operation });
    }
    receive(&channel).unwrap();
    assert_eq!(pool.run_until(whole).unwrap().extent().length, PART);
    channel.flush().unwrap();
    assert_eq!(
        gateway.seen(),
        [],
        "nothing is lent while nothing is expected"
    );
}

#[test]
fn a_channel_recalls_what_another_one_waits_for() {
    let region = Rc::default();
    let (channel, mut gateway, _) = lending(&region);
    let (other, mut other_gateway) = relay_of(&region);
    other.read_on(Reading::Freely);
    receive(&other).unwrap();
    other.authenticated();
    other.flush().unwrap();
    assert_eq!(other_gateway.seen(), [Seen::Attach(1)]);
    other_gateway.attached(1, false);
    receive(&other).unwrap();
    let mut pool = LocalPool::new();
    let whole = pool.spawner().spawn_local_with_handle(other.payload(PART));
    let _whole = whole.unwrap();
    pool.run_until_stalled();
    channel.flush().unwrap();
    assert_eq!(gateway.seen(), [Seen::Recall]);
}
