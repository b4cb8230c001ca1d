//! The ways in which one client could harm another, or itself: each beside somebody who works on
//! another connection of the same smbdirectd all the time, and must not notice.

use std::time::{Duration, Instant};

use proto::smb2::{Channel, Command, FileId, MessageId};
use rustix::process::Signal;

use super::{PATIENCE, RdmaClient, Scene, Sending, Strace, guid, pattern, signal};
use crate::client::{Access, read_body, split, write_rdma_body};

/// What a bystander never waits longer for, whatever another client does.
const NOTICED: Duration = Duration::from_secs(2);
/// ClientGuids.
const CLIENT: u8 = 1;
const BYSTANDER: u8 = 2;

/// Its client runs out of credits, which is all that happens; then it goes on where it stopped.
pub fn a_stalled_child_stops_only_its_client(scene: &Scene) {
    const WRITES: u64 = 160;
    const LENGTH: usize = 60_000;
    let mut client = scene.client(CLIENT);
    let file = client.create("stalled");
    client.write_and_check(file, 0, 1 << 20, 7);
    client.gather_credits(WRITES as u32 + 10);
    let bystander = scene.load(BYSTANDER);
    bystander.wait_for_more(5, PATIENCE);
    let before = bystander.rate(Duration::from_secs(1));

    let child = scene.owner(guid(CLIENT));
    signal(child, Signal::STOP);
    client.wire.borrow_mut().sending = Sending::Queued;
    let messages: Vec<MessageId> = (0..WRITES)
        .map(|number| {
            let data = pattern(LENGTH, number);
            client.submit_write(file, number * LENGTH as u64, &data)
        })
        .collect();
    let mut last = (usize::MAX, Instant::now());
    drive_until(&client, "the client is stopped", |queued| {
        if queued != last.0 {
            last = (queued, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(600)
    });
    let stopped_at = client.wire.borrow().smbdirect.queued();
    assert!(stopped_at > 0, "nothing stops it");
    bystander.longest();
    // Whatever else the machine does may slow a moment down, and not all of them.
    let mut rates = (0..5).map(|_| bystander.rate(Duration::from_millis(500)));
    let during = rates.find(|rate| *rate > before / 2.0).unwrap_or_default();
    let longest = bystander.longest();
    println!(
        "stopped with {stopped_at} messages left; another client did {before:.0} operations/s \
         before, {during:.0} meanwhile, the longest {longest:?}"
    );
    assert!(during > 0.0, "it did not reach half of that");
    assert!(longest < NOTICED, "another client waited {longest:?}");
    drive_for(&client, Duration::from_millis(100));
    assert_eq!(client.wire.borrow().smbdirect.queued(), stopped_at);

    signal(child, Signal::CONT);
    client.wire.borrow_mut().sending = Sending::AtOnce;
    for message in messages {
        let reply = client.connection.wait_for(message, PATIENCE);
        reply.and_then(|reply| reply.check()).expect("WRITE");
    }
    for number in 0..WRITES {
        let offset = number * LENGTH as u64;
        client.check(file, offset, &pattern(LENGTH, number));
    }
    assert_eq!(scene.owner(guid(CLIENT)), child, "it is still that child");
    bystander.finish();
}

/// A single credit at a time for the server's messages: slow, and whole.
pub fn a_peer_that_grants_one_credit_is_served_whole(scene: &Scene) {
    let bystander = scene.load(BYSTANDER);
    bystander.wait_for_more(5, PATIENCE);
    let mut client = scene.client_granting(CLIENT, 1);
    bystander.longest();
    let file = client.create("one-credit");
    client.write_and_check(file, 0, 1 << 20, 1);
    let sent = pattern(60_000, 2);
    let (connection, tree) = (&mut client.connection, client.tree);
    assert_eq!(connection.write(tree, file, 5, &sent).unwrap(), 60_000);
    // Inline: some fifty fragments, each for the one credit there is.
    assert!(connection.read(tree, file, 5, 60_000).unwrap() == sent);

    // Many requests at once, their replies all waiting for that credit.
    client.gather_credits(64);
    let memory = client.connection.rdma().expect("it has RDMA");
    let memory = memory.expose(&vec![0; 32 << 16], Access::RemoteWrite);
    let memory = memory.expect("memory");
    let expected = pattern(1 << 20, 1);
    client.check(file, 65_536, &expected[65_536..131_072]);
    let pieces = split(memory.descriptor, 32);
    let messages: Vec<MessageId> = pieces
        .chunks(1)
        .map(|piece| {
            let body = read_body(file, 65_536, 65_536, Channel::RdmaV1, piece);
            let connection = &mut client.connection;
            let header = connection.payload_header(Command::Read, client.tree, 65_536);
            connection.submit(header, &body).expect("READ leaves")
        })
        .collect();
    for message in messages {
        let reply = client.connection.wait_for(message, PATIENCE);
        reply.and_then(|reply| reply.check()).expect("READ");
    }
    let contents = client.connection.rdma().expect("it has RDMA");
    let contents = contents.contents(memory).expect("its bytes");
    for piece in contents.chunks(65_536) {
        assert!(piece == &expected[65_536..131_072], "wrong bytes");
    }
    let longest = bystander.longest();
    assert!(longest < NOTICED, "another client waited {longest:?}");
    bystander.finish();
}

/// 128 KiB, each byte in a message of its own.
pub fn fragments_of_one_byte_arrive_whole(scene: &Scene) {
    let mut client = scene.client(CLIENT);
    let file = client.create("fragments");
    client.gather_credits(10);
    let bystander = scene.load(BYSTANDER);
    bystander.wait_for_more(5, PATIENCE);
    bystander.longest();
    let operations = bystander.operations();
    client.wire.borrow_mut().sending = Sending::Fragments(1);
    let data = pattern(128 << 10, 3);
    let began = Instant::now();
    let message = client.submit_write(file, 0, &data);
    let reply = client.connection.wait_for(message, Duration::from_secs(40));
    let reply = reply.and_then(|reply| reply.check());
    let over = client.wire.borrow().smbdirect.over().map(str::to_owned);
    println!("the message took {:?}", began.elapsed());
    reply.unwrap_or_else(|error| panic!("WRITE: {error} ({over:?})"));
    let longest = bystander.longest();
    println!(
        "another client did {} operations meanwhile, the longest {longest:?}",
        bystander.operations() - operations
    );
    assert!(longest < NOTICED, "another client waited {longest:?}");
    client.wire.borrow_mut().sending = Sending::AtOnce;
    client.check(file, 0, &data);
    bystander.finish();
}

/// A file call of a lost connection is under way in its extent, while another channel of the same
/// child works in the same region: until the call is back, nobody is given that extent. A READ's in
/// even rounds, a WRITE's in odd ones.
pub fn a_connection_lost_during_a_file_call_costs_nobody_a_byte(scene: &Scene) {
    const LENGTH: u32 = 4 << 20;
    const ROUNDS: u64 = 4;
    const HELD_UP: Duration = Duration::from_millis(800);
    if !Strace::is_there_or_skip() {
        return;
    }
    let mut lasting = scene.client(CLIENT);
    let work = lasting.create("work");
    lasting.write_and_check(work, 0, 1 << 20, 1);
    let child = scene.owner(guid(CLIENT));
    let bystander = scene.load(BYSTANDER);
    let mut pinned = Vec::new();
    for round in 0..ROUNDS {
        let reads = round % 2 == 0;
        let kept = pattern(LENGTH as usize, 100 + round);
        let (name, other_name) = (format!("lost-{round}"), format!("kept-{round}"));
        make_file(scene, &name, if reads { &kept } else { &[] });
        let mut lost = scene.client(CLIENT);
        assert_eq!(scene.owner(guid(CLIENT)), child, "one child for both");
        let (file, other) = (lost.create(&name), lasting.create(&other_name));
        lost.gather_credits((LENGTH >> 16) + 10);
        lasting.gather_credits((LENGTH >> 16) + 10);
        let strace = Strace::hold_up(child, &[&name, &other_name], HELD_UP);
        let call = if reads { "preadv(" } else { "pwritev2(" };
        if reads {
            submit_read(&mut lost, file, LENGTH);
        } else {
            submit_write(&mut lost, file, &kept);
        }
        drive_until(&lost, "the file call has begun", |_| {
            strace.log().contains(call)
        });
        drop(lost);
        scene.wait_for("the connection is gone", |report| {
            let mut children = report.children.iter();
            let owner = children.find(|found| found.pid == child)?;
            (owner.status.as_ref()?.channels.len() == 1).then_some(())
        });
        // A WRITE of the same length, held up too: in the same extent, the late call of the lost
        // connection would meet its payload between RDMA READ and file write, or the other way.
        let others = pattern(LENGTH as usize, 200 + round);
        let message = submit_write(&mut lasting, other, &others);
        let reply = lasting.connection.wait_for(message, PATIENCE);
        reply.and_then(|reply| reply.check()).expect("WRITE");
        lasting.check(other, 0, &others);
        let log = strace.detach();
        let delayed = log.matches("DELAYED").count();
        assert!(delayed >= 2, "{delayed} calls were held up:\n{log}");
        // The lost connection's write was not answered, and still wrote what it was given.
        let found = std::fs::read(scene.file(&name)).expect("the file");
        assert!(found == kept, "the file holds something else");
        let report = scene.status();
        let totals = report.gateway.and_then(|gateway| gateway.totals);
        pinned.push(totals.expect("smbdirectd answers").pinned_bytes);
        lasting.write_and_check(work, 0, 1 << 20, round);
        lasting
            .connection
            .close(lasting.tree, other)
            .expect("CLOSE");
    }
    println!("pinned bytes after each round: {pinned:?}");
    // Extents that were never given back would have made the region grow.
    assert_eq!(pinned[1], pinned[ROUNDS as usize - 1], "{pinned:?}");
    assert_eq!(scene.owner(guid(CLIENT)), child, "it is still that child");
    bystander.finish();
}

/// A file of the share that every user may write to.
fn make_file(scene: &Scene, name: &str, contents: &[u8]) {
    let path = scene.file(name);
    std::fs::write(&path, contents).expect("a file of the share");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&path, mode).expect("chmod");
}

fn submit_read(client: &mut RdmaClient, file: FileId, length: u32) {
    let connection = &mut client.connection;
    let rdma = connection.rdma().expect("it has RDMA");
    let memory = rdma.expose(&vec![0; length as usize], Access::RemoteWrite);
    let pieces = split(memory.expect("memory").descriptor, 4);
    let body = read_body(file, 0, length, Channel::RdmaV1, &pieces);
    let header = connection.payload_header(Command::Read, client.tree, length);
    connection.submit(header, &body).expect("READ leaves");
}

fn submit_write(client: &mut RdmaClient, file: FileId, data: &[u8]) -> MessageId {
    let (connection, length) = (&mut client.connection, data.len() as u32);
    let rdma = connection.rdma().expect("it has RDMA");
    let memory = rdma.expose(data, Access::RemoteRead);
    let pieces = split(memory.expect("memory").descriptor, 4);
    let body = write_rdma_body(file, 0, length, Channel::RdmaV1, &pieces);
    let header = connection.payload_header(Command::Write, client.tree, length);
    connection.submit(header, &body).expect("WRITE leaves")
}

/// Drives a client whose messages are only queued.
#[track_caller]
fn drive_until(client: &RdmaClient, what: &str, mut done: impl FnMut(usize) -> bool) {
    let wire = &mut *client.wire.borrow_mut();
    let began = Instant::now();
    loop {
        wire.smbdirect.drive().expect("it can be driven");
        if done(wire.smbdirect.queued()) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn drive_for(client: &RdmaClient, time: Duration) {
    let until = Instant::now() + time;
    drive_until(client, "the time is over", |_| Instant::now() >= until);
}
