use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use proto::relay::{
    Attached, Body, Hello, OperationId, Outcome, Outline, RegionRange, ToChild, ToGatewayRecords,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm::link::Datagram;
use shm::link::pair;
use shm::region::Region;

use super::*;

mod attach;
mod loans;

const PART: u32 = 1 << 20;
const RING: u32 = 64 * 1024;

/// smbdirectd's end, played by the test.
struct Gateway {
    link: SocketLink,
    region: Region,
}

/// What the child sent, without borrows.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Attach(usize),
    Mapped,
    Release(u64),
    Read(OperationId, RegionRange),
    Reply {
        operation: OperationId,
        invalidate: Option<u32>,
        writes: Vec<RegionRange>,
        inline: Option<Vec<u8>>,
        range: Option<RegionRange>,
    },
    Expect(Outline),
    Lend(OperationId, RegionRange),
    Recall,
    Grow(u32),
    Close,
}

impl Gateway {
    fn say(&mut self, record: &ToChild<'_>) {
        self.link.queue(&mut |out| record.encode(out));
        self.link.flush().unwrap();
    }

    fn attached(&mut self, parts: u32, with_memfd: bool) {
        let record = ToChild::Attached(Attached {
            region_size: self.region.mapping().size(),
            payload_offset: u64::from(RING),
            part_size: PART,
            parts,
            max_parts: 2,
            ring_offset: 0,
            ring_size: RING,
        });
        let memfd = self.region.descriptor().try_clone_to_owned().unwrap();
        let descriptors = if with_memfd { vec![memfd] } else { vec![] };
        self.link
            .queue_with(&mut |out| record.encode(out), descriptors);
        self.link.flush().unwrap();
    }

    fn seen(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut datagram = Datagram::new();
        while self.link.receive(&mut datagram).unwrap() {
            for record in ToGatewayRecords::new(datagram.bytes()) {
                seen.push(match record.unwrap() {
                    ToGateway::Attach => Seen::Attach(datagram.descriptors.len()),
                    ToGateway::Mapped => Seen::Mapped,
                    ToGateway::Release { through } => Seen::Release(through.0),
                    ToGateway::ReadPayload {
                        operation, target, ..
                    } => Seen::Read(operation, target),
                    ToGateway::Reply {
                        operation,
                        invalidate,
                        writes,
                        body,
                    } => {
                        let (inline, range) = match body {
                            Body::Inline(bytes) => (Some(bytes.to_vec()), None),
                            Body::InRegion(range) => (None, Some(range)),
                        };
                        Seen::Reply {
                            operation,
                            invalidate,
                            writes: writes.iter().map(|write| write.source).collect(),
                            inline,
                            range,
                        }
                    }
                    ToGateway::Expect { outline } => Seen::Expect(outline),
                    ToGateway::Lend { operation, target } => Seen::Lend(operation, target),
                    ToGateway::Recall => Seen::Recall,
                    ToGateway::Grow { parts } => Seen::Grow(parts),
                    ToGateway::Close { .. } => Seen::Close,
                });
            }
        }
        seen
    }
}

fn hello() -> ToChild<'static> {
    hello_of(2)
}

fn hello_of(max_operations: u32) -> ToChild<'static> {
    ToChild::Hello(Hello {
        peer: "10.0.0.1:4000".parse().unwrap(),
        local: "10.0.0.2:445".parse().unwrap(),
        device: "rxe0".into(),
        connection: 5,
        link_speed: 0,
        max_read_write: PART,
        max_send: 1 << 20,
        max_receive: 1 << 20,
        max_messages: 16,
        max_operations,
        invalidate: true,
    })
}

fn message(sequence: u64, bytes: &[u8]) -> ToChild<'_> {
    ToChild::Message {
        sequence: MessageSequence(sequence),
        body: Body::Inline(bytes),
    }
}

fn relay_of(region: &Rc<SharedRegion>) -> (RelayChannel, Gateway) {
    relay_with(region, hello())
}

fn relay_with(region: &Rc<SharedRegion>, hello: ToChild<'_>) -> (RelayChannel, Gateway) {
    let (ours, theirs) = pair().unwrap();
    let channel = RelayChannel::new(ours, Rc::clone(region)).unwrap();
    let mut gateway = Gateway {
        link: SocketLink::new(theirs, BACKLOG),
        region: Region::create(u64::from(RING) + 2 * u64::from(PART)).unwrap(),
    };
    gateway.say(&hello);
    (channel, gateway)
}

/// A relay that reads freely and is attached with one part.
fn attached(region: &Rc<SharedRegion>) -> (RelayChannel, Gateway) {
    attached_with(region, hello())
}

fn attached_with(region: &Rc<SharedRegion>, hello: ToChild<'_>) -> (RelayChannel, Gateway) {
    let (channel, mut gateway) = relay_with(region, hello);
    channel.read_on(Reading::Freely);
    receive(&channel).unwrap();
    channel.authenticated();
    channel.flush().unwrap();
    assert_eq!(gateway.seen(), [Seen::Attach(0)]);
    gateway.attached(1, true);
    receive(&channel).unwrap();
    channel.flush().unwrap();
    assert_eq!(gateway.seen(), [Seen::Mapped]);
    (channel, gateway)
}

/// As the loop does: as long as there is something to read and the channel wants it.
fn receive(channel: &RelayChannel) -> Result<Vec<Vec<u8>>, ChannelError> {
    let mut messages = Vec::new();
    while channel.wants_read() && is_readable(channel) {
        channel.receive(&mut |message| messages.push(message))?;
    }
    Ok(messages)
}

fn is_readable(channel: &RelayChannel) -> bool {
    let descriptor = channel.descriptor();
    let mut waiting = [PollFd::new(&descriptor, PollFlags::IN)];
    poll(&mut waiting, Some(&Timespec::default())).unwrap() > 0
}

fn reply(bytes: &[u8]) -> Outgoing {
    Outgoing {
        pieces: vec![bytes.to_vec().into()],
        ..Outgoing::default()
    }
}

fn descriptor() -> Descriptor {
    Descriptor {
        offset: 0x1000.into(),
        token: 7.into(),
        length: PART.into(),
    }
}

#[test]
fn one_message_is_read_not_released_and_replayed_elsewhere() {
    let region = Rc::default();
    let (channel, mut gateway) = relay_of(&region);
    gateway.say(&message(1, b"negotiate"));
    assert_eq!(receive(&channel).unwrap(), [b"negotiate"]);
    gateway.say(&message(2, b"later"));
    assert!(receive(&channel).unwrap().is_empty());
    channel.flush().unwrap();
    assert_eq!(gateway.seen(), []);
    assert_eq!(channel.peer(), "10.0.0.1:4000".parse().unwrap());

    // The owner gets the socket and what was read of it.
    let socket = channel.descriptor().try_clone_to_owned().unwrap();
    let preface = channel.preface();
    drop(channel);
    let owner = RelayChannel::new(socket, Rc::default()).unwrap();
    let mut replayed = Vec::new();
    owner
        .replay(&preface, &mut |message| replayed.push(message))
        .unwrap();
    assert_eq!(replayed, [b"negotiate"]);
    owner.read_on(Reading::Freely);
    assert_eq!(receive(&owner).unwrap(), [b"later"]);
    // Rides with the reply: alone it would wake smbdirectd for nothing.
    owner.flush().unwrap();
    assert_eq!(gateway.seen(), []);
    owner.send(Outgoing {
        pieces: vec![b"reply".to_vec().into()],
        ..Outgoing::default()
    });
    owner.flush().unwrap();
    assert_eq!(gateway.seen().last(), Some(&Seen::Release(2)));
}

#[test]
fn many_messages_are_released_although_nothing_is_answered() {
    let (channel, mut gateway) = relay_of(&Rc::default());
    channel.read_on(Reading::Freely);
    receive(&channel).unwrap();
    for sequence in 1..=4 {
        gateway.say(&message(sequence, b"waits"));
        receive(&channel).unwrap();
        channel.flush().unwrap();
    }
    // A quarter of what `hello` allows.
    assert_eq!(gateway.seen(), [Seen::Release(4)]);
}

#[test]
fn small_replies_travel_inline_and_long_ones_in_the_region_until_sent() {
    let region = Rc::default();
    let (channel, mut gateway) = attached(&region);
    channel.send(Outgoing {
        invalidate: Some(0xAB),
        ..reply(b"small")
    });
    let long = vec![9; 200_000];
    channel.send(reply(&long));
    channel.flush().unwrap();
    let seen = gateway.seen();
    assert!(
        matches!(&seen[0], Seen::Reply { invalidate: Some(0xAB), inline: Some(bytes), .. } if bytes == b"small")
    );
    let Seen::Reply {
        operation,
        range: Some(range),
        ..
    } = &seen[1]
    else {
        panic!("{seen:?}");
    };
    let mut copy = Vec::new();
    gateway
        .region
        .mapping()
        .copy_out(range.offset, range.length, &mut copy)
        .unwrap();
    assert_eq!(copy, long);

    // Two operations are all smbdirectd takes: a third reply waits for one to end.
    channel.send(reply(b"third"));
    channel.flush().unwrap();
    assert_eq!(gateway.seen(), []);
    gateway.say(&ToChild::Sent {
        operation: *operation,
        outcome: Outcome::Done,
    });
    receive(&channel).unwrap();
    channel.flush().unwrap();
    assert_eq!(gateway.seen().len(), 1);
}

#[test]
fn a_payload_waits_for_memory_and_asks_for_more_of_it() {
    let region = Rc::default();
    let (channel, mut gateway) = attached(&region);
    let mut pool = LocalPool::new();
    let spawner = pool.spawner();
    let first = pool.run_until(channel.payload(PART)).unwrap();
    let second = spawner
        .spawn_local_with_handle(channel.payload(PART))
        .unwrap();
    pool.run_until_stalled();
    channel.flush().unwrap();
    assert_eq!(gateway.seen(), [Seen::Grow(2)]);
    gateway.say(&ToChild::Grown { parts: 2 });
    receive(&channel).unwrap();
    let second = pool.run_until(second).unwrap();
    assert_ne!(first.extent().offset, second.extent().offset);

    let third = spawner
        .spawn_local_with_handle(channel.payload(4096))
        .unwrap();
    pool.run_until_stalled();
    channel.flush().unwrap();
    assert_eq!(gateway.seen(), [], "there are no more parts to ask for");
    drop(first);
    assert!(pool.run_until(third).is_ok());
    let never = pool.run_until(channel.payload(PART + 1));
    assert_eq!(never.err(), Some(NtStatus::INSUFFICIENT_RESOURCES));
}

#[test]
fn a_write_payload_is_fetched_and_a_lost_one_is_kept_until_drained() {
    let region = Rc::default();
    let (channel, mut gateway) = attached(&region);
    let mut pool = LocalPool::new();
    let spawner = pool.spawner();
    let fetch = |length| {
        spawner
            .spawn_local_with_handle(channel.fetch(vec![descriptor()], length))
            .unwrap()
    };
    let first = fetch(5000);
    pool.run_until_stalled();
    channel.flush().unwrap();
    let Seen::Read(operation, target) = gateway.seen().remove(0) else {
        panic!("no read_payload");
    };
    assert_eq!(target.length, 5000);
    gateway.say(&ToChild::PayloadReady {
        operation,
        outcome: Outcome::Done,
    });
    receive(&channel).unwrap();
    drop(pool.run_until(first).unwrap());

    let second = fetch(PART);
    pool.run_until_stalled();
    channel.flush().unwrap();
    let Seen::Read(operation, _) = gateway.seen().remove(0) else {
        panic!("no read_payload");
    };
    gateway.say(&ToChild::PayloadReady {
        operation,
        outcome: Outcome::ConnectionLost,
    });
    gateway.say(&ToChild::Closed {
        reason: CloseReason::PeerDisconnected,
    });
    assert_eq!(receive(&channel), Err(ChannelError::Closed));
    assert!(pool.run_until(second).is_err());
    let in_use = || match &channel.state.borrow().attach {
        Attach::Mapped { area, .. } => area.extents.borrow().in_use(),
        _ => panic!("not mapped"),
    };
    assert_eq!(in_use(), u64::from(PART), "a NIC may still write there");
    assert!(!channel.is_drained());
    gateway.say(&ToChild::Drained);
    let _ = receive(&channel);
    assert!(channel.is_drained());
    assert_eq!(in_use(), 0);
}

#[test]
fn what_smbdirectd_may_not_say_ends_the_channel() {
    let operation = OperationId(9);
    let wrong: [&[ToChild<'_>]; 8] = [
        &[hello()],
        &[message(2, b"out of sequence")],
        &[message(1, b"x"), message(1, b"twice")],
        &[ToChild::Message {
            sequence: MessageSequence(1),
            body: Body::InRegion(RegionRange {
                offset: 0,
                length: 8,
            }),
        }],
        &[ToChild::PayloadReady {
            operation: OperationId(9),
            outcome: Outcome::Done,
        }],
        &[ToChild::Ahead {
            operation,
            length: 1,
        }],
        &[ToChild::Returned { operation }],
        &[ToChild::Sent {
            operation: OperationId(9),
            outcome: Outcome::Done,
        }],
    ];
    for records in wrong {
        let (channel, mut gateway) = relay_of(&Rc::default());
        channel.read_on(Reading::Freely);
        receive(&channel).unwrap();
        records.iter().for_each(|record| gateway.say(record));
        // A message each time.
        let outcome = receive(&channel).and_then(|_| receive(&channel));
        assert!(
            matches!(outcome, Err(ChannelError::Violation(_))),
            "{records:?}"
        );
    }
}

#[test]
fn a_region_described_wrongly_is_not_mapped() {
    let (channel, mut gateway) = relay_of(&Rc::default());
    channel.read_on(Reading::Freely);
    receive(&channel).unwrap();
    channel.authenticated();
    channel.flush().unwrap();
    let memfd = gateway.region.descriptor().try_clone_to_owned().unwrap();
    let record = ToChild::Attached(Attached {
        region_size: gateway.region.mapping().size(),
        payload_offset: u64::from(RING),
        part_size: PART,
        parts: 1,
        max_parts: 3,
        ring_offset: 0,
        ring_size: RING,
    });
    gateway
        .link
        .queue_with(&mut |out| record.encode(out), vec![memfd]);
    gateway.link.flush().unwrap();
    assert!(matches!(receive(&channel), Err(ChannelError::Violation(_))));
}
