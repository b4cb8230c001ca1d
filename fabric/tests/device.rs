//! What a simulated device must do as hardware does: order, flushes, refusals, limits.

use std::rc::Rc;

use fabric::rdma::{
    Access, CmEventKind, Completion, Device, EventChannel, Fabric, Identifier, Operation,
    ProtectionDomain, QueuePair, QueuePairLimits, ReceiveBuffers, Slab, Status, Transport,
    WorkRequest,
};
use tempfile::TempDir;

struct End {
    queue_pair: QueuePair,
    receive: ReceiveBuffers,
    domain: Rc<ProtectionDomain>,
    slab: Slab,
    channel: Rc<EventChannel>,
    disconnected: bool,
    /// Private data of the request, or of the acceptance.
    told: Box<[u8]>,
}

struct Pair {
    active: End,
    passive: End,
    _listener: Identifier,
    _folder: TempDir,
}

const LIMITS: QueuePairLimits = QueuePairLimits {
    send: 8,
    receive: 8,
};
const SEND: Operation = Operation::Send { invalidate: None };

fn end(channel: &Rc<EventChannel>, identifier: Identifier) -> End {
    let address = identifier.local_address().unwrap().ip();
    let device = Device::of_address(channel, address, 0).unwrap();
    let domain = ProtectionDomain::new(&device).unwrap();
    let queue_pair = QueuePair::new(identifier, &domain, LIMITS).unwrap();
    let mut receive = ReceiveBuffers::new(64);
    receive.grow(&domain, 8).unwrap();
    let mut slab = Slab::new(&domain, 4096, Access::RemoteReadWrite).unwrap();
    assert!(slab.copy_in(0, b"some bytes of registered memory"));
    End {
        queue_pair,
        receive,
        slab,
        domain,
        channel: channel.clone(),
        disconnected: false,
        told: Box::default(),
    }
}

impl Pair {
    /// Two ends of one thread; the active one has `depth` RDMA READs at a time.
    fn connected(depth: u8) -> Pair {
        Pair::connected_over(Transport::InfiniBand, depth)
    }

    fn connected_over(transport: Transport, depth: u8) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let address = "10.9.0.1".parse().unwrap();
        let mut fabric = Fabric::new(folder.path(), "simulated0", address);
        fabric.devices[0].transport = transport;
        fabric.enter();
        let server = "10.9.0.1:445".parse().unwrap();
        let passive_channel = EventChannel::new().unwrap();
        let listener = Identifier::new(&passive_channel).unwrap();
        listener.set_token(7);
        listener.bind(server).unwrap();
        listener.listen(1).unwrap();
        let channel = EventChannel::new().unwrap();
        let identifier = Identifier::new(&channel).unwrap();
        identifier.resolve_address(server, 100).unwrap();
        identifier.resolve_route(100).unwrap();
        let active = end(&channel, identifier);
        active.queue_pair.connect(depth, 4, b"asked").unwrap();
        let request = passive_channel.next().unwrap().unwrap();
        assert_eq!(request.token, 7);
        let CmEventKind::ConnectRequest {
            identifier,
            private_data,
            ..
        } = request.kind
        else {
            panic!("{request:?}");
        };
        let mut passive = end(&passive_channel, identifier);
        passive.told = private_data;
        passive.queue_pair.accept(4, depth, b"answered").unwrap();
        let mut pair = Pair {
            active,
            passive,
            _listener: listener,
            _folder: folder,
        };
        pair.turn();
        pair
    }

    /// Lets both ends work; answers their completions.
    fn turn(&mut self) -> (Vec<Completion>, Vec<Completion>) {
        let (mut active, mut passive) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            self.passive.turn(&mut passive);
            self.active.turn(&mut active);
        }
        (active, passive)
    }
}

impl End {
    fn turn(&mut self, into: &mut Vec<Completion>) {
        while let Some(event) = self.channel.next().unwrap() {
            self.disconnected |= matches!(event.kind, CmEventKind::Disconnected);
            if let CmEventKind::Established { private_data, .. } = event.kind
                && !private_data.is_empty()
            {
                self.told = private_data;
            }
        }
        self.queue_pair.poll(into).unwrap();
    }

    fn request(&self, id: u64, operation: Operation, length: u32, signaled: bool) -> WorkRequest {
        WorkRequest {
            id,
            operation,
            first: self.slab.region().range(0, length).unwrap(),
            second: None,
            signaled,
        }
    }

    fn post(&mut self, id: u64, operation: Operation, length: u32, signaled: bool) {
        let request = self.request(id, operation, length, signaled);
        self.queue_pair.post_send(&[request]).unwrap();
    }

    fn post_receives(&mut self, count: u32) {
        let posted = self.queue_pair.post_receives(&mut self.receive, count);
        assert_eq!(posted.unwrap(), count as u16);
    }
}

fn ended(completions: &[Completion]) -> Vec<(u64, Status)> {
    let each = completions.iter();
    each.map(|completion| (completion.id, completion.status))
        .collect()
}

fn failed(completions: &[Completion]) -> Vec<(u64, u32)> {
    let each = completions.iter();
    each.filter_map(|completion| match completion.status {
        Status::Failed(number, _) => Some((completion.id, number)),
        _ => None,
    })
    .collect()
}

#[test]
fn private_data_travels_with_the_request_and_with_its_acceptance() {
    let pair = Pair::connected(1);
    assert_eq!(&*pair.passive.told, b"asked");
    assert_eq!(&*pair.active.told, b"answered");
}

#[test]
fn a_send_lands_in_a_posted_receive_and_only_signaled_ones_complete() {
    let mut pair = Pair::connected(1);
    pair.passive.post_receives(2);
    pair.active.post(1, SEND, 10, false);
    pair.active.post(2, SEND, 4, true);
    let (active, passive) = pair.turn();
    assert_eq!(ended(&active), [(2, Status::Success)]);
    assert_eq!(passive.len(), 2);
    let first = passive[0];
    assert!(pair.passive.receive.complete(first.id, first.length));
    assert_eq!(pair.passive.receive.bytes(first.id as u32), b"some bytes");
}

#[test]
fn a_send_without_a_receive_breaks_the_sender_and_flushes_what_is_behind_it() {
    let mut pair = Pair::connected(1);
    pair.active.post_receives(1);
    pair.active.post(1, SEND, 10, false);
    pair.active.post(2, SEND, 10, false);
    let (active, passive) = pair.turn();
    assert_eq!(failed(&active), [(1, 13)], "RNR retries exceeded");
    let flushed: Vec<_> = active.iter().skip(1).map(|one| one.receive).collect();
    assert_eq!(flushed, [false, true], "the other send, then the receive");
    assert!(passive.is_empty());
    // A queue pair in error takes requests and flushes them.
    pair.active.post(3, SEND, 1, false);
    let (active, _) = pair.turn();
    assert_eq!(ended(&active), [(3, Status::Flushed)]);
}

#[test]
fn a_place_in_the_send_queue_is_free_once_its_completion_is_taken() {
    let mut pair = Pair::connected(1);
    pair.passive.post_receives(8);
    for id in 0..7 {
        pair.active.post(id, SEND, 1, false);
    }
    pair.turn();
    let last = pair.active.request(7, SEND, 1, true);
    let refused = pair.active.queue_pair.post_send(&[last, last]);
    assert_eq!(refused.unwrap_err().posted, 1);
    let (active, _) = pair.turn();
    assert_eq!(ended(&active), [(7, Status::Success)]);
    pair.active.queue_pair.post_send(&[last; 8]).unwrap();
}

#[test]
fn reads_and_writes_reach_registered_memory_of_the_peer() {
    let mut pair = Pair::connected(1);
    let (address, token) = pair.passive.slab.region().remote(100);
    let write = Operation::Write { address, token };
    pair.active.post(1, write, 10, true);
    let (active, _) = pair.turn();
    assert_eq!(ended(&active), [(1, Status::Success)]);
    let mut there = [0; 10];
    assert!(pair.passive.slab.copy_out(100, &mut there));
    assert_eq!(&there, b"some bytes");
    // More READs than the depth wait for each other, and end in order.
    for id in 2..6 {
        let read = Operation::Read { address, token };
        pair.active.post(id, read, 4, true);
    }
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.extend(pair.turn().0.iter().map(|completion| completion.id));
    }
    assert_eq!(ids, [2, 3, 4, 5]);
}

#[test]
fn access_the_peer_did_not_give_fails_both_ends() {
    for bad in 0..4 {
        let mut pair = Pair::connected(1);
        pair.passive.post_receives(1);
        let private = Slab::new(&pair.passive.domain, 64, Access::Local).unwrap();
        let (mut address, mut token) = pair.passive.slab.region().remote(0);
        match bad {
            0 => token += 1000,
            1 => address -= 1,
            2 => address += 4090,
            _ => (address, token) = private.region().remote(0),
        }
        let read = Operation::Read { address, token };
        pair.active.post(1, read, 8, false);
        let (active, passive) = pair.turn();
        assert_eq!(
            failed(&active),
            [(1, 10)],
            "case {bad}: remote access error"
        );
        assert_eq!(ended(&passive).len(), 1, "its receive is flushed");
        assert_eq!(passive[0].status, Status::Flushed);
    }
}

#[test]
fn on_iwarp_a_read_needs_a_sink_the_peer_may_write_to() {
    let outcome = |transport, access| {
        let mut pair = Pair::connected_over(transport, 1);
        let (address, token) = pair.passive.slab.region().remote(0);
        pair.active.slab = Slab::new(&pair.active.domain, 64, access).unwrap();
        let read = Operation::Read { address, token };
        pair.active.post(1, read, 8, true);
        let (active, _) = pair.turn();
        (failed(&active), active[0].status == Status::Success)
    };
    let (done, refused) = ((vec![], true), (vec![(1, 4)], false));
    assert_eq!(outcome(Transport::InfiniBand, Access::Local), done);
    assert_eq!(outcome(Transport::Iwarp, Access::RemoteWrite), done);
    assert_eq!(outcome(Transport::Iwarp, Access::Local), refused);
}

#[test]
fn an_invalidated_token_opens_nothing_any_more() {
    let mut pair = Pair::connected(1);
    pair.passive.post_receives(2);
    let (address, token) = pair.passive.slab.region().remote(0);
    let invalidate = Operation::Send {
        invalidate: Some(token),
    };
    pair.active.post(1, invalidate, 4, true);
    let (active, _) = pair.turn();
    assert_eq!(ended(&active), [(1, Status::Success)]);
    assert!(pair.passive.slab.region().is_invalidated());
    let write = Operation::Write { address, token };
    pair.active.post(2, write, 4, true);
    let (active, _) = pair.turn();
    assert_eq!(failed(&active), [(2, 10)]);
}

#[test]
fn both_ends_hear_of_a_disconnect() {
    let mut pair = Pair::connected(1);
    pair.active.post_receives(1);
    pair.active.queue_pair.identifier().disconnect().unwrap();
    let (active, _) = pair.turn();
    assert_eq!(active[0].status, Status::Flushed);
    assert!(pair.passive.disconnected && !pair.active.disconnected);
    pair.passive.queue_pair.identifier().disconnect().unwrap();
    pair.turn();
    assert!(pair.active.disconnected);
}

#[test]
fn an_end_that_is_gone_fails_what_was_sent_to_it() {
    let mut pair = Pair::connected(1);
    pair.passive.post(1, SEND, 1, false);
    let Pair {
        active,
        mut passive,
        ..
    } = pair;
    drop(active);
    let mut completions = Vec::new();
    passive.turn(&mut completions);
    assert!(passive.disconnected);
    assert_eq!(failed(&completions), [(1, 12)], "retries exceeded");
}
