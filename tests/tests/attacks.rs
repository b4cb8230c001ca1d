//! What a client with an account, or without one, tries and must not get, against a real server
//! over TCP: files of a read-only share deleted, rights of root used, opens left behind by a session
//! that has ended, another client's place.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proto::smb2::{AccessMask, Command, CreateDisposition, CreateOptions, NtStatus, ShareAccess};
use tests::client::{Connection, Offer, OpenOptions, Session, Tcp, Tree, create_body};
use tests::server::{PASSWORD, Server, USER};

fn connect(server: &Server) -> Connection {
    let transport = Tcp::connect(server.address()).unwrap();
    Connection::negotiate(transport, Offer::default()).unwrap()
}

fn log_on(connection: &mut Connection, share: &str) -> (Session, Tree) {
    let session = connection.log_on(USER, PASSWORD).unwrap();
    let tree = connection.tree_connect(session, share).unwrap();
    (session, tree)
}

#[test]
fn a_file_of_a_read_only_share_survives_a_delete_on_close() {
    let server = Server::builder().share("fixed", "    read only = yes");
    let Some(server) = server.start_or_skip() else {
        return;
    };
    let file = server.share("fixed").join("file");
    fs::write(&file, b"content").unwrap();
    let mut connection = connect(&server);
    let (_, tree) = log_on(&mut connection, "fixed");
    let options = OpenOptions {
        access: AccessMask::MAXIMUM_ALLOWED,
        options: CreateOptions::DELETE_ON_CLOSE,
        ..OpenOptions::read()
    };
    let outcome = connection.open(tree, "file", options);
    assert_eq!(outcome.unwrap_err().status(), Some(NtStatus::ACCESS_DENIED));
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[test]
fn a_write_takes_a_programs_set_user_id_bit_away() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let file = server.share("share").join("program");
    fs::write(&file, b"#!/bin/sh").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4777)).unwrap();
    let mut connection = connect(&server);
    let (_, tree) = log_on(&mut connection, "share");
    let opened = connection.open(tree, "program", OpenOptions::read_write());
    connection
        .write(tree, opened.unwrap(), 0, b"changed!")
        .unwrap();
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.uid(), 0);
    assert_eq!(metadata.mode() & 0o7777, 0o777);
}

#[test]
fn a_create_that_its_own_logoff_overtakes_leaves_no_open_behind() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut connection = connect(&server);
    let (_, lasting) = log_on(&mut connection, "share");
    let alone = OpenOptions {
        share: ShareAccess::empty(),
        disposition: CreateDisposition::OpenIf,
        ..OpenOptions::read_write()
    };
    for round in 0..10 {
        let (session, tree) = log_on(&mut connection, "share");
        let create = connection.header(Command::Create, Some(session.id), tree.id);
        let create = connection
            .submit(create, &create_body("file", alone))
            .unwrap();
        let end = match round % 2 {
            0 => connection.header(Command::Logoff, Some(session.id), proto::smb2::TreeId(0)),
            _ => connection.header(Command::TreeDisconnect, Some(session.id), tree.id),
        };
        let ended = connection.submit(end, &[4, 0, 0, 0]).unwrap();
        connection.wait(ended).unwrap().check().unwrap();
        // Answered one way or the other; opened, it was closed by the end of its session.
        connection.wait(create).unwrap();
        let file = connection
            .open(lasting, "file", alone)
            .unwrap_or_else(|error| panic!("round {round}: somebody still has the file: {error}"));
        connection.close(lasting, file).unwrap();
    }
}

#[test]
fn connections_that_only_say_a_clients_guid_do_not_keep_it_out() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let offer = Offer::default();
    let say = || {
        let transport = Tcp::connect(server.address()).unwrap();
        Connection::negotiate(transport, offer.clone()).unwrap()
    };
    let strangers: Vec<Connection> = (0..20).map(|_| say()).collect();
    let mut client = say();
    let (_, tree) = log_on(&mut client, "share");
    let file = client
        .open(tree, "file", OpenOptions::read_write())
        .unwrap();
    assert_eq!(client.write(tree, file, 0, b"content").unwrap(), 7);
    client.close(tree, file).unwrap();
    drop(strangers);
}
