//! The whole server on the simulated fabric: supervisor, zygote, broker, children and smbdirectd as
//! processes, a client over SMB Direct. What moves by RDMA is compared byte by byte.

use std::time::{Duration, Instant};

use fabric::rdma::Fabric;
use proto::smb2::{Channel, Command};
use tests::client::simulated::{Behaviour, SmbDirect};
use tests::client::{Access, Connection, Offer, OpenOptions, read_body};
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

#[test]
fn a_file_goes_both_ways_by_rdma() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .share("share", "    read only = no")
        // A bare payload is refused in a signed session otherwise, and 3.1.1 signs TREE_CONNECT.
        .global("rdma allow unprotected payload = yes")
        .on_fabric(folder.path())
        .start_or_skip();
    let Some(server) = server else {
        return;
    };
    let address = "10.9.0.2".parse().unwrap();
    Fabric::new(folder.path(), "client0", address).enter();
    let mut client = Connection::negotiate(connect(), Offer::default()).unwrap();
    let session = client.log_on(USER, PASSWORD).unwrap();
    let tree = client.tree_connect(session, "share").unwrap();
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
