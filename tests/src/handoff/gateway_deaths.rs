//! smbdirectd killed while the system is at each of twelve points, from a connection's request to its
//! teardown. It must be back within a second; the child it served loses the RDMA channels and nothing
//! else; the client's TCP channel goes on working, and so do new RDMA channels.

use std::fmt;
use std::sync::mpsc::channel;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fabric::rdma::Fabric;
use proto::smb2::{Channel, Command, FileId};
use proto::smbdirect::messages::NegotiateRequest;

use super::stop_points::{freeze, kill, thaw, wait_until_all_idle, wait_until_idle};
use super::{Stage, Way, guid};
use crate::client::simulated::{Behaviour, SmbDirect};
use crate::client::{
    Access, ClientError, Connection, OpenOptions, Session, Tree, read_body, write_rdma_body,
};
use crate::hazards::{ADDRESS, Ground, PATIENCE, pattern};
use crate::server::{PASSWORD, Server, USER};

/// It must be back after no more.
pub const BACK: Duration = Duration::from_secs(1);
/// Bytes that each channel reads and writes.
const PIECE: u32 = 256 << 10;

/// Where the system is when smbdirectd dies. Each but the last four is the state of one more RDMA
/// connection, beside a channel that is bound and idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A connection request has arrived.
    Connect,
    /// It is accepted; the SMB Direct negotiate request has arrived.
    Negotiate,
    /// A child was forked for it, and has read nothing.
    Fork,
    /// The child has read NEGOTIATE, and asked nobody.
    Parse,
    /// The relay's socket is on its way to the owner.
    DescriptorSent,
    /// The owner has acknowledged it, and answered nobody.
    Acknowledged,
    /// A session was authenticated over it, and nobody told.
    Authenticated,
    /// It was bound to the client's session, and nobody told.
    Bound,
    /// An RDMA READ of a client that answers nothing is out.
    ReadPosted,
    /// RDMA WRITEs and the reply behind them are out, and are not acknowledged.
    WritePosted,
    /// A reply lies unread in the relay.
    Reply,
    /// The client has gone, and nobody has noticed.
    Teardown,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rounds {
    /// How many.
    pub times: u32,
    /// From the death until smbdirectd listened again, at most.
    pub back: Duration,
    /// The longest the TCP channel took to write, read and compare, right after the death.
    pub tcp: Duration,
    /// From the death until a new RDMA channel was bound and had moved payload, at most.
    pub rdma: Duration,
}

/// A client with a session over TCP that outlives every smbdirectd.
struct Client<'a> {
    stage: &'a Stage,
    tcp: Connection,
    session: Session,
    tree: Tree,
    file: FileId,
    data: Vec<u8>,
    owner: i32,
    supervisor: i32,
}

/// How far one more connection is to get, if nobody stops it.
#[derive(Debug, Clone, Copy)]
enum After {
    Negotiate,
    /// Of a client of its own.
    LogOn,
    Bind,
}

/// The system at a point.
#[derive(Default)]
struct Reached<'scope> {
    /// A connection on its way, in a thread of its own.
    connecting: Option<ScopedJoinHandle<'scope, Result<(), ClientError>>>,
    /// A connection that is there.
    channel: Option<Connection>,
    /// Processes that are stopped, smbdirectd apart.
    stopped: Vec<i32>,
}

impl Point {
    /// In the order of a connection's life.
    pub const ALL: [Point; 12] = [
        Point::Connect,
        Point::Negotiate,
        Point::Fork,
        Point::Parse,
        Point::DescriptorSent,
        Point::Acknowledged,
        Point::Authenticated,
        Point::Bound,
        Point::ReadPosted,
        Point::WritePosted,
        Point::Reply,
        Point::Teardown,
    ];
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "times={} back_ms={} tcp_ms={} rdma_ms={}",
            self.times,
            self.back.as_millis(),
            self.tcp.as_millis(),
            self.rdma.as_millis()
        )
    }
}

/// A server whose payload moves by RDMA for whoever asks.
pub fn stage() -> Option<Stage> {
    Stage::start_as(Server::builder().global("rdma allow unprotected payload = yes"))
}

/// Every point, `times` each; prints a line for each.
pub fn play(stage: &Stage, times: u32) -> Rounds {
    stage.warm_up();
    let before = stage.held();
    let mut client = Client::log_on(stage);
    let mut all = Rounds::default();
    for point in Point::ALL {
        let mut rounds = Rounds::default();
        for _ in 0..times {
            client.round(point, &mut rounds);
        }
        println!("{point:?}: {rounds}");
        all.add(rounds);
    }
    drop(client);
    stage.wait_until_held(&before);
    all
}

impl Rounds {
    fn add(&mut self, other: Rounds) {
        self.times += other.times;
        self.back = self.back.max(other.back);
        self.tcp = self.tcp.max(other.tcp);
        self.rdma = self.rdma.max(other.rdma);
    }
}

impl<'a> Client<'a> {
    fn log_on(stage: &'a Stage) -> Client<'a> {
        let mut tcp = stage.connect(Way::Tcp, guid(1)).expect("a TCP connection");
        let session = tcp.log_on(USER, PASSWORD).expect("the user logs on");
        let tree = tcp.tree_connect(session, "share").expect("the share");
        let options = OpenOptions::read_write();
        let file = tcp.open(tree, "outlives", options).expect("a file");
        let data = pattern(PIECE as usize, 7);
        let mut client = Client {
            stage,
            tcp,
            session,
            tree,
            file,
            data,
            owner: stage.owner(guid(1)),
            supervisor: stage.status().supervisor,
        };
        client.use_tcp();
        client
    }

    /// Writes, reads and compares over TCP; how long it took.
    fn use_tcp(&mut self) -> Duration {
        let began = Instant::now();
        let length = self.data.len() as u32;
        let written = self.tcp.write(self.tree, self.file, 0, &self.data);
        assert_eq!(written.expect("a write over TCP"), length);
        let read = self.tcp.read(self.tree, self.file, 0, length);
        assert!(read.expect("a read over TCP") == self.data);
        began.elapsed()
    }

    /// One more channel of the session, over RDMA; it moves payload both ways.
    fn bind(&mut self) -> Connection {
        let mut channel = self
            .stage
            .connect(Way::Rdma, guid(1))
            .expect("an RDMA connection");
        channel
            .bind(self.session, &self.tcp, USER, PASSWORD)
            .expect("it is bound");
        channel.forget_key(self.session.id);
        let (tree, file) = (self.tree, self.file);
        let written = channel.write_rdma(tree, file, 0, &self.data, Channel::RdmaV1, 2);
        assert_eq!(written.expect("a write by RDMA"), PIECE);
        let read = channel.read_rdma(tree, file, 0, PIECE, Channel::RdmaV1, 2);
        assert!(read.expect("a read by RDMA") == self.data);
        channel
    }

    fn round(&mut self, point: Point, rounds: &mut Rounds) {
        let stage = self.stage;
        let gateway = stage.wait_for("smbdirectd listens", |report| {
            let gateway = report.gateway.as_ref()?;
            (!gateway.interfaces.is_empty()).then_some(gateway.pid)
        });
        let mut channels = vec![self.bind()];
        let died = std::thread::scope(|scope| {
            let reached = self.reach(scope, point, gateway);
            channels.extend(reached.channel);
            kill(gateway);
            let died = Instant::now();
            reached.stopped.into_iter().for_each(thaw);
            rounds.tcp = rounds.tcp.max(self.use_tcp());
            let back = self.wait_until_back(gateway, died);
            rounds.back = rounds.back.max(back);
            if let Some(connecting) = reached.connecting {
                let ended = connecting.join().expect("see above");
                assert!(
                    matches!(ended, Err(ClientError::Closed | ClientError::Local(_))),
                    "{point:?}: a connection of a dead smbdirectd: {ended:?}"
                );
            }
            died
        });
        for mut channel in channels {
            channel
                .wait_closed(PATIENCE)
                .unwrap_or_else(|error| panic!("{point:?}: {error}"));
        }
        self.wait_until_alone();
        drop(self.bind());
        rounds.rdma = rounds.rdma.max(died.elapsed());
        rounds.times += 1;
        self.wait_until_alone();
    }

    /// Brings the system to a point, and leaves it there.
    fn reach<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        point: Point,
        gateway: i32,
    ) -> Reached<'scope>
    where
        'a: 'scope,
    {
        let mut reached = Reached::default();
        match point {
            Point::Connect => {
                freeze(gateway);
                let (connecting, thread) = self.connecting(scope, After::Negotiate);
                wait_until_idle(thread);
                reached.connecting = Some(connecting);
            }
            Point::Negotiate => {
                let mut silent = silent_client(self.stage);
                freeze(gateway);
                let request = NegotiateRequest {
                    min_version: 0x0100,
                    max_version: 0x0100,
                    credits_requested: 10,
                    preferred_send_size: 1364,
                    max_receive_size: 1364,
                    max_fragmented_size: 1 << 20,
                };
                silent.send_raw(&request.encode()).expect("it is connected");
                reached.channel = Some(Connection::new(silent));
            }
            Point::Fork => self.stop_at(scope, "child-started", After::Negotiate, &mut reached),
            Point::Parse => {
                self.stop_at(scope, "child-negotiating", After::Negotiate, &mut reached)
            }
            Point::DescriptorSent => {
                // The owner must not read it.
                freeze(self.owner);
                reached.stopped.push(self.owner);
                self.stop_at(scope, "broker-passed", After::Negotiate, &mut reached);
            }
            Point::Acknowledged => {
                self.stop_at(scope, "owner-accepted", After::Negotiate, &mut reached);
            }
            Point::Authenticated => {
                self.stop_at(scope, "session-authenticated", After::LogOn, &mut reached);
            }
            Point::Bound => self.stop_at(scope, "session-bound", After::Bind, &mut reached),
            Point::ReadPosted => {
                let mut busy = self.bind();
                let data = vec![1; PIECE as usize];
                let memory = busy.rdma().expect("RDMA").expose(&data, Access::RemoteRead);
                let whole = [memory.expect("memory").descriptor];
                // Behind what the others compare.
                let at = u64::from(PIECE);
                let body = write_rdma_body(self.file, at, PIECE, Channel::RdmaV1, &whole);
                let header = busy.payload_header(Command::Write, self.tree, PIECE);
                busy.submit(header, &body).expect("a WRITE");
                self.settle(gateway);
                reached.channel = Some(busy);
            }
            Point::WritePosted => {
                let mut busy = self.bind();
                self.submit_read(&mut busy);
                self.settle(gateway);
                reached.channel = Some(busy);
            }
            Point::Reply => {
                let mut busy = self.bind();
                self.stage.stop_points.set("relay-reply");
                self.submit_read(&mut busy);
                let points = &self.stage.stop_points;
                assert_eq!(
                    points.wait(self.supervisor, &["relay-reply"], &[]),
                    [self.owner]
                );
                freeze(gateway);
                thaw(self.owner);
                wait_until_idle(self.owner);
                reached.channel = Some(busy);
            }
            Point::Teardown => {
                let leaving = self.bind();
                freeze(gateway);
                drop(leaving);
            }
        }
        reached
    }

    /// Makes a connection, and waits until somebody stops there.
    fn stop_at<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        name: &str,
        after: After,
        reached: &mut Reached<'scope>,
    ) where
        'a: 'scope,
    {
        let points = &self.stage.stop_points;
        points.set(name);
        reached.connecting = Some(self.connecting(scope, after).0);
        let stopped = points.wait(self.supervisor, &[name], &reached.stopped);
        reached.stopped.extend(stopped);
    }

    /// One more RDMA connection, in a thread that takes it so far; also the thread's number.
    fn connecting<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        after: After,
    ) -> (ScopedJoinHandle<'scope, Result<(), ClientError>>, i32)
    where
        'a: 'scope,
    {
        let (tell, told) = channel();
        let stage = self.stage;
        let session = self.session;
        let key = self.tcp.signing_key(session.id).expect("it signs");
        let connecting = scope.spawn(move || {
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send(thread).expect("the stage waits");
            let client = match after {
                After::LogOn => guid(2),
                After::Negotiate | After::Bind => guid(1),
            };
            let mut connection = stage.connect_from(Way::Rdma, 2, client)?;
            match after {
                After::Negotiate => Ok(()),
                After::LogOn => connection.log_on(USER, PASSWORD).map(drop),
                After::Bind => connection.bind_with(session, key, USER, PASSWORD),
            }
        });
        (connecting, told.recv().expect("it says so"))
    }

    fn submit_read(&self, busy: &mut Connection) {
        let memory = busy.rdma().expect("RDMA");
        let memory = memory.expose(&vec![0; PIECE as usize], Access::RemoteWrite);
        let whole = [memory.expect("memory").descriptor];
        let body = read_body(self.file, 0, PIECE, Channel::RdmaV1, &whole);
        let header = busy.payload_header(Command::Read, self.tree, PIECE);
        busy.submit(header, &body).expect("a READ");
    }

    /// Until nobody has anything to do but the client's device, which nobody serves.
    fn settle(&self, gateway: i32) {
        wait_until_all_idle(&[self.owner, gateway]);
    }

    fn wait_until_back(&self, dead: i32, died: Instant) -> Duration {
        self.stage.wait_for("smbdirectd is back", |report| {
            let gateway = report.gateway.as_ref()?;
            let listens = gateway.pid != dead && !gateway.interfaces.is_empty();
            listens.then(|| died.elapsed())
        })
    }

    /// The same process serves the client, and has its TCP channel and no other.
    fn wait_until_alone(&self) {
        self.stage
            .wait_for("the child has the TCP channel alone", |report| {
                let mut children = report.children.iter();
                let child = children.find(|child| child.pid == self.owner)?;
                let status = child.status.as_ref()?;
                (status.channels.len() == 1 && report.children.len() == 1).then_some(())
            });
    }
}

/// Connected, and nothing said.
fn silent_client(stage: &Stage) -> SmbDirect {
    let Ground::Fabric(folder) = stage.ground() else {
        panic!("this is played on the fabric");
    };
    let address = [10, 9, 1, 3].into();
    Fabric::new(folder, "client3", address).enter();
    let server = format!("{ADDRESS}:445").parse().expect("an address");
    SmbDirect::connect(server, Behaviour::silent()).expect("smbdirectd accepts")
}
