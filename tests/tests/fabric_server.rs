//! The whole server on the simulated fabric: supervisor, zygote, broker, children and smbdirectd as
//! processes, a client over SMB Direct. What moves by RDMA is compared byte by byte.

use std::path::Path;
use std::time::{Duration, Instant};

use fabric::rdma::Fabric;
use proto::smb2::negotiate::Capabilities;
use proto::smb2::notification::SessionClosed;
use proto::smb2::{Channel, Command, MessageId, NtStatus};
use tests::client::simulated::{Behaviour, SmbDirect};
use tests::client::{Access, Connection, Offer, OpenOptions, Tree, read_body};
use tests::server::{PASSWORD, Server, USER};

fn connect() -> SmbDirect {
    let server = "10.9.0.1:445".parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match SmbDirect::connect(server, Behaviour::default()) {
            Ok(client) => return client,
            // smbdirectd starts after smbd, which answers over TCP already.
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Its share takes a bare payload, which is refused in a signed session otherwise: 3.1.1 signs TREE_CONNECT.
fn server_of_bare_payload(folder: &Path) -> Option<Server> {
    Server::builder()
        .share("share", "    read only = no")
        .global("rdma allow unprotected payload = yes")
        .on_fabric(folder)
        .start_or_skip()
}

/// This thread on the fabric, at this address, and logged on.
fn client_at(address: &str, folder: &Path) -> (Connection, Tree) {
    Fabric::new(folder, "client0", address.parse().unwrap()).enter();
    let mut client = Connection::negotiate(connect(), Offer::default()).unwrap();
    let session = client.log_on(USER, PASSWORD).unwrap();
    let tree = client.tree_connect(session, "share").unwrap();
    (client, tree)
}

#[test]
fn a_file_goes_both_ways_by_rdma() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = server_of_bare_payload(folder.path()) else {
        return;
    };
    let (mut client, tree) = client_at("10.9.0.2", folder.path());
    let file = client
        .open(tree, "by-rdma", OpenOptions::read_write())
        .unwrap();
    let data: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
    for (channel, pieces) in [(Channel::RdmaV1, 3), (Channel::RdmaV1Invalidate, 1)] {
        let written = client.write_rdma(tree, file, 0, &data, channel, pieces);
        assert_eq!(written.unwrap(), data.len() as u32);
        let there = std::fs::read(server.share("share").join("by-rdma")).unwrap();
        assert!(there == data, "written by {channel:?}");
        let back = client.read_rdma(tree, file, 0, data.len() as u32, channel, pieces);
        assert!(back.unwrap() == data, "read by {channel:?}");
    }
    client.close(tree, file).unwrap();
}

/// WRITEs that are alike have their payload fetched before they are judged; that must not show.
#[test]
fn many_small_writes_bring_their_own_bytes_and_refused_ones_leave_none() {
    const PIECE: u32 = 4096;
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = server_of_bare_payload(folder.path()) else {
        return;
    };
    let (mut client, tree) = client_at("10.9.0.7", folder.path());
    let file = client
        .open(tree, "pieces", OpenOptions::read_write())
        .unwrap();
    let read_only = client.open(tree, "pieces", OpenOptions::read()).unwrap();
    let mut expected = vec![0; 40 * PIECE as usize];
    for number in 0..40 {
        // Out of order, in one piece or two, not always whole.
        let place = number * 7 % 40;
        let length = PIECE - number % 3 * 100;
        let data = vec![number as u8 + 1; length as usize];
        let offset = u64::from(place * PIECE);
        let pieces = 1 + number / 20;
        let written = client.write_rdma(tree, file, offset, &data, Channel::RdmaV1, pieces);
        assert_eq!(written.unwrap(), length);
        expected[offset as usize..][..length as usize].copy_from_slice(&data);
        if number % 8 == 5 {
            let other = vec![0xEE; PIECE as usize];
            let refused = client.write_rdma(tree, read_only, 0, &other, Channel::RdmaV1, pieces);
            assert_eq!(refused.unwrap_err().status(), Some(NtStatus::ACCESS_DENIED));
        }
    }
    let mut there = std::fs::read(server.share("share").join("pieces")).unwrap();
    there.resize(expected.len(), 0);
    assert!(there == expected);
    client.close(tree, file).unwrap();
    let log = server.log();
    assert!(!log.contains(" ERROR "), "{log}");
}

#[test]
fn reads_of_one_compound_may_need_more_memory_than_their_client_has() {
    const PIECE: u32 = 4 << 20;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .share("share", "    read only = no")
        .global("rdma allow unprotected payload = yes")
        .global("rdma memory per client = 8M")
        .on_fabric(folder.path())
        .start_or_skip();
    let Some(server) = server else {
        return;
    };
    let data: Vec<u8> = (0..PIECE).map(|index| (index % 251) as u8).collect();
    std::fs::write(server.share("share").join("long"), &data).unwrap();
    let address = "10.9.0.3".parse().unwrap();
    Fabric::new(folder.path(), "client0", address).enter();
    let mut client = Connection::negotiate(connect(), Offer::default()).unwrap();
    let session = client.log_on(USER, PASSWORD).unwrap();
    let tree = client.tree_connect(session, "share").unwrap();
    let file = client.open(tree, "long", OpenOptions::read()).unwrap();
    // Each asks for many credits and uses one.
    (0..8).for_each(|_| client.echo().unwrap());
    let mut chain = Vec::new();
    let mut memories = Vec::new();
    for _ in 0..4 {
        let memory = client.rdma().unwrap();
        let memory = memory.expose(&vec![0; data.len()], Access::RemoteWrite);
        let memory = memory.unwrap();
        let descriptors = [memory.descriptor];
        let body = read_body(file, 0, PIECE, Channel::RdmaV1, &descriptors);
        chain.push((client.payload_header(Command::Read, tree, PIECE), body));
        memories.push(memory);
    }
    let messages: Vec<_> = chain.iter().map(|(header, _)| header.message_id).collect();
    client.submit_chain(chain).unwrap();
    for (message, memory) in messages.into_iter().zip(memories) {
        client.wait(message).unwrap().check().unwrap();
        assert!(client.rdma().unwrap().contents(memory).unwrap() == data);
        client.rdma().unwrap().withdraw(memory).unwrap();
    }
}

/// MS-SMB2 3.3.4.1, 3.3.7.1: a request is answered on the channel it came by and on no other, and a
/// channel that is lost with requests outstanding takes nothing of the session with it.
#[test]
fn a_channel_lost_with_requests_outstanding_leaves_the_session_to_the_other() {
    const PIECE: u32 = 256 << 10;
    const OUTSTANDING: u64 = 16;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .share("share", "    read only = no")
        .global("rdma allow unprotected payload = yes")
        .on_fabric(folder.path())
        .start_or_skip();
    let Some(server) = server else {
        return;
    };
    let address = "10.9.0.4".parse().unwrap();
    Fabric::new(folder.path(), "client0", address).enter();
    let offer = Offer::default();
    let mut first = Connection::negotiate(connect(), offer.clone()).unwrap();
    let session = first.log_on(USER, PASSWORD).unwrap();
    // The session's own connection is lost first, then one after the other.
    let mut others: Vec<Connection> = (0..3)
        .map(|_| {
            let mut channel = Connection::negotiate(connect(), offer.clone()).unwrap();
            channel.bind(session, &first, USER, PASSWORD).unwrap();
            channel
        })
        .collect();
    let tree = first.tree_connect(session, "share").unwrap();
    let options = OpenOptions::read_write();
    let file = first.open(tree, "shared", options).unwrap();
    let data: Vec<u8> = (0..PIECE).map(|index| (index % 249) as u8).collect();
    let written = first.write_rdma(tree, file, 0, &data, Channel::RdmaV1, 1);
    assert_eq!(written.unwrap(), PIECE);
    let mut channel = first;
    while !others.is_empty() {
        (0..8).for_each(|_| channel.echo().unwrap());
        let mut messages = Vec::new();
        for _ in 0..OUTSTANDING {
            let memory = channel.rdma().unwrap();
            let memory = memory.expose(&vec![0; PIECE as usize], Access::RemoteWrite);
            let descriptors = [memory.unwrap().descriptor];
            let body = read_body(file, 0, PIECE, Channel::RdmaV1, &descriptors);
            let header = channel.payload_header(Command::Read, tree, PIECE);
            messages.push(channel.submit(header, &body).unwrap());
        }
        if others.len().is_multiple_of(2) {
            // Once while some are answered already.
            channel.wait(messages[0]).unwrap().check().unwrap();
        }
        drop(channel);
        for other in &mut others {
            (0..4).for_each(|_| other.echo().unwrap());
            let read = other.read_rdma(tree, file, 0, PIECE, Channel::RdmaV1, 2);
            assert!(read.unwrap() == data);
            assert_eq!(
                other.strays(),
                0,
                "a reply to a request of the lost channel"
            );
        }
        channel = others.remove(0);
    }
    channel.close(tree, file).unwrap();
    channel.log_off(session).unwrap();
    let log = server.log();
    assert!(!log.contains(" ERROR "), "{log}");
}

/// MS-SMB2 2.2.44, over SMB Direct.
#[test]
fn the_other_channel_is_told_that_the_session_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::builder().on_fabric(folder.path()).start_or_skip() else {
        return;
    };
    let address = "10.9.0.5".parse().unwrap();
    Fabric::new(folder.path(), "client0", address).enter();
    let mut offer = Offer::default();
    offer.capabilities |= Capabilities::NOTIFICATIONS;
    let mut first = Connection::negotiate(connect(), offer.clone()).unwrap();
    let session = first.log_on(USER, PASSWORD).unwrap();
    let mut second = Connection::negotiate(connect(), offer).unwrap();
    second.bind(session, &first, USER, PASSWORD).unwrap();
    first.log_off(session).unwrap();
    let told = second.wait(MessageId::UNSOLICITED).unwrap();
    assert_eq!(
        told.header.command(),
        Ok(Command::ServerToClientNotification)
    );
    assert_eq!(told.header.session_id, session.id);
    SessionClosed::decode(&told.element).unwrap();
    let log = server.log();
    assert!(!log.contains(" ERROR "), "{log}");
}

#[test]
fn no_more_rdma_connections_are_accepted_than_there_may_be() {
    const MOST: usize = 2;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .global(&format!("rdma max connections = {MOST}"))
        .on_fabric(folder.path())
        .start_or_skip();
    let Some(server) = server else { return };
    let address = "10.9.0.6".parse().unwrap();
    Fabric::new(folder.path(), "client0", address).enter();
    let log_on = || {
        let mut client = Connection::negotiate(connect(), Offer::default()).unwrap();
        client.log_on(USER, PASSWORD).unwrap();
        client
    };
    let mut clients: Vec<Connection> = (0..MOST).map(|_| log_on()).collect();
    let there = "10.9.0.1:445".parse().unwrap();
    assert!(SmbDirect::connect(there, Behaviour::default()).is_err());
    assert!(server.log().contains("rdma max connections"));
    clients.iter_mut().for_each(|client| client.echo().unwrap());
    clients.remove(0);
    // As soon as that one is gone, which may take a moment.
    log_on().echo().unwrap();
}
