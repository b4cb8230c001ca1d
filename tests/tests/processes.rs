//! What dies and what lives: children, broker and zygote of a real server are killed, and everyone
//! else must not notice. Over TCP on loopback; the same with RDMA runs in the lab.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::control::status::StatusReport;
use proto::smb2::{Guid, NtStatus, ShareAccess};
use rustix::process::{Pid, Signal, kill_process};
use tests::client::{Connection, Offer, OpenOptions, Session, Tcp, Tree};
use tests::server::{PASSWORD, Server, USER};

/// Everything here is a matter of milliseconds; a loaded machine may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

struct Client {
    connection: Connection,
    session: Session,
    tree: Tree,
}

/// A ClientGuid that differs from others in its last byte only.
fn guid(last: u8) -> Guid {
    let mut guid = Guid::ZERO;
    guid.0[15] = last;
    guid
}

fn client(server: &Server, last: u8) -> Client {
    let transport = Tcp::connect(server.address()).unwrap();
    let offer = Offer {
        client_guid: guid(last),
        ..Offer::default()
    };
    let mut connection = Connection::negotiate(transport, offer).unwrap();
    let session = connection.log_on(USER, PASSWORD).unwrap();
    let tree = connection.tree_connect(session, "share").unwrap();
    Client {
        connection,
        session,
        tree,
    }
}

fn status(server: &Server) -> StatusReport {
    let socket = server.folder().join("run/status");
    smbd::status::ask_at(&socket).unwrap()
}

/// Asks until `wanted` finds what it wants.
fn wait_for<T>(
    server: &Server,
    what: &str,
    mut wanted: impl FnMut(&StatusReport) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = status(server);
        if let Some(found) = wanted(&report) {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited in vain until {what}: {report:?}\n{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process that serves the client of this GUID.
fn owner(server: &Server, last: u8) -> i32 {
    wait_for(server, "a child serves the client", |report| {
        let mut children = report.children.iter();
        let found = children.find(|child| {
            let status = child.status.as_ref();
            status.is_some_and(|status| status.client_guid == guid(last).0)
        });
        found.map(|child| child.pid)
    })
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn is_alive(pid: i32) -> bool {
    PathBuf::from(format!("/proc/{pid}/stat")).exists()
}

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

#[test]
fn a_killed_child_takes_its_own_client_down_and_nobody_else() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut first = client(&server, 1);
    let mut second = client(&server, 2);
    let victim = owner(&server, 1);
    assert_ne!(victim, owner(&server, 2));
    kill(victim);
    first.connection.wait_closed(PATIENCE).unwrap();
    second.connection.echo().unwrap();
    let mut again = client(&server, 1);
    again.connection.echo().unwrap();
    assert_ne!(owner(&server, 1), victim);
    second.connection.echo().unwrap();
}

#[test]
fn all_connections_of_a_client_end_in_one_process() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut channels: Vec<Client> = (0..4).map(|_| client(&server, 1)).collect();
    let pid = owner(&server, 1);
    let mut other = client(&server, 2);
    assert_ne!(owner(&server, 2), pid);
    wait_for(&server, "the temporary children are gone", |report| {
        (report.children.len() == 2).then_some(())
    });
    let report = status(&server);
    let mut children = report.children.iter();
    let served = children.find(|child| child.pid == pid).unwrap();
    assert_eq!(served.status.as_ref().unwrap().channels.len(), 4);
    other.connection.echo().unwrap();
    for channel in &mut channels {
        channel.connection.echo().unwrap();
    }
}

#[test]
fn a_killed_broker_comes_back_and_knows_who_has_what() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut holder = client(&server, 1);
    let exclusive = OpenOptions {
        share: ShareAccess::empty(),
        ..OpenOptions::read_write()
    };
    let file = holder
        .connection
        .open(holder.tree, "held", exclusive)
        .unwrap();
    let mut other = client(&server, 2);
    let refused = |client: &mut Client| {
        let opened = client
            .connection
            .open(client.tree, "held", OpenOptions::read());
        opened.unwrap_err().status()
    };
    assert_eq!(refused(&mut other), Some(NtStatus::SHARING_VIOLATION));

    let old = status(&server).broker.unwrap();
    kill(old);
    wait_for(&server, "there is another broker", |report| {
        report.broker.filter(|pid| *pid != old)
    });
    holder.connection.echo().unwrap();
    assert_eq!(refused(&mut other), Some(NtStatus::SHARING_VIOLATION));
    let pid = owner(&server, 1);
    let mut channel = client(&server, 1);
    channel.connection.echo().unwrap();
    assert_eq!(owner(&server, 1), pid);

    holder.connection.close(holder.tree, file).unwrap();
    let opened = other
        .connection
        .open(other.tree, "held", OpenOptions::read());
    opened.unwrap();
}

#[test]
fn a_killed_zygote_comes_back_and_its_children_live_on() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut first = client(&server, 1);
    let orphan = owner(&server, 1);
    let old = status(&server).zygote.unwrap();
    kill(old);
    wait_for(&server, "there is another zygote", |report| {
        report.zygote.filter(|pid| *pid != old)
    });
    first.connection.echo().unwrap();
    let mut second = client(&server, 2);
    second.connection.echo().unwrap();
    assert_eq!(owner(&server, 1), orphan);
    kill(orphan);
    first.connection.wait_closed(PATIENCE).unwrap();
    wait_for(&server, "the orphan is reaped", |report| {
        (report.children.len() == 1).then_some(())
    });
    assert!(!is_alive(orphan), "not reaped");
}

#[test]
fn processes_and_descriptors_return_to_where_they_were() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let idle = |report: &StatusReport| report.children.is_empty().then_some(());
    drop(client(&server, 1));
    wait_for(&server, "nobody is served", idle);
    let report = status(&server);
    let processes = [
        report.supervisor,
        report.zygote.unwrap(),
        report.broker.unwrap(),
    ];
    let before = processes.map(descriptors);
    for round in 0..10 {
        let mut clients: Vec<Client> = (1..4).map(|last| client(&server, last)).collect();
        clients.push(client(&server, 1));
        if round % 2 == 0 {
            kill(owner(&server, 1));
        }
        for client in &mut clients {
            // Some of them are dead; the others leave in order.
            let _ = client.connection.log_off(client.session);
        }
    }
    wait_for(&server, "nobody is served", idle);
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The status connection that asked may still be closing.
        let after = processes.map(descriptors);
        if after == before {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "descriptors of supervisor, zygote, broker: {before:?} before, {after:?} after"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sigterm_ends_everything_the_server_started() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut first = client(&server, 1);
    let _second = client(&server, 2);
    let report = status(&server);
    let mut processes: Vec<i32> = report.children.iter().map(|child| child.pid).collect();
    processes.extend([report.zygote.unwrap(), report.broker.unwrap()]);
    assert_eq!(processes.len(), 4);
    drop(server);
    first.connection.wait_closed(PATIENCE).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while processes.iter().any(|pid| is_alive(*pid)) {
        assert!(Instant::now() < deadline, "left running: {processes:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
