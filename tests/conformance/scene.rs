//! Where a case is played: a server, and clients of it on the devices asked for.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proto::smb2::{Dialect, FileId};
use smbd::security::ntlm::Credentials;
use tests::client::{ClientError, Connection, Offer, OpenOptions, PATIENCE, Session, Tree};
use tests::lab::LabError;
use tests::server::{PASSWORD, Server, ServerBuilder, USER};

use crate::endpoint::Endpoint;
use crate::table::{Devices, Settings};
use crate::wire::{Line, Terms, Wire};

/// Seconds of silence after which the server wants a sign of life; 120 unless configured.
pub const KEEPALIVE_INTERVAL: u64 = 3;

/// Makes the calling thread the client's host of this number on its fabric.
pub type Enter = Arc<dyn Fn(u8) + Send + Sync>;

/// A running server and the way to it.
pub struct Scene<E> {
    pub devices: Devices,
    pub server: Server,
    /// Where it listens for RDMA.
    pub rdma: SocketAddr,
    /// Its asking for a sign of life.
    pub keepalive_interval: Duration,
    files: AtomicU32,
    /// What it held before the first case.
    held: Held,
    endpoint: PhantomData<fn() -> E>,
}

/// What a server holds for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Held {
    connections: u64,
    queue_pairs: u64,
    memory_regions: u64,
    pinned_bytes: u64,
    children: usize,
}

/// A session over a wire, with a file open.
pub struct WireClient<E> {
    pub line: Line<E>,
    pub connection: Connection,
    pub session: Session,
    pub tree: Tree,
    pub file: FileId,
    /// The file, as the server's machine has it.
    pub path: PathBuf,
}

impl<E: Endpoint> Scene<E> {
    /// Starts the server; an error is why this machine cannot run it.
    pub fn begin(
        devices: Devices,
        builder: ServerBuilder,
        settings: &Settings,
        rdma: SocketAddr,
    ) -> Result<Scene<E>, String> {
        let keepalive = format!("rdma keepalive interval = {KEEPALIVE_INTERVAL}");
        let lines = settings.global.iter().copied();
        let builder = lines
            .chain([keepalive.as_str()])
            .fold(builder, ServerBuilder::global);
        let builder = settings
            .environment
            .iter()
            .fold(builder, |builder, (name, value)| {
                builder.environment(name, value)
            });
        let server = builder.share("share", "    read only = no").start();
        let server = match server {
            Ok(server) => server,
            Err(LabError::Skip(reason)) => return Err(reason),
            Err(error) => panic!("{error}"),
        };
        let mut scene = Scene {
            devices,
            server,
            rdma,
            keepalive_interval: Duration::from_secs(KEEPALIVE_INTERVAL),
            files: AtomicU32::new(0),
            held: Held::default(),
            endpoint: PhantomData,
        };
        // smbdirectd starts after smbd, which answers over TCP already.
        let until = Instant::now() + PATIENCE;
        while let Err(error) = scene.is_alive() {
            assert!(Instant::now() < until, "{error}\n{}", scene.server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        scene.held = scene.alone();
        Ok(scene)
    }

    /// Nothing of any client is left.
    #[track_caller]
    pub fn expect_nothing_left(&self) {
        assert_eq!(self.alone(), self.held, "something was leaked");
    }

    /// What it holds once no client is there.
    #[track_caller]
    fn alone(&self) -> Held {
        let until = Instant::now() + 2 * PATIENCE;
        loop {
            let held = self.holds();
            match held {
                Some(held) if held.connections == 0 && held.children == 0 => return held,
                _ => assert!(Instant::now() < until, "clients stay: {held:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn holds(&self) -> Option<Held> {
        let socket = self.server.folder().join("run/status");
        let report = smbd::status::ask_at(&socket).ok()?;
        let totals = report.gateway.as_ref()?.totals?;
        Some(Held {
            connections: totals.connections,
            queue_pairs: totals.queue_pairs,
            memory_regions: totals.memory_regions,
            pinned_bytes: totals.pinned_bytes,
            children: report.children.len(),
        })
    }

    /// Whether it takes a connection and answers the SMB2 NEGOTIATE.
    pub fn is_alive(&self) -> Result<(), ClientError> {
        self.connect(Offer::default()).map(drop)
    }

    /// A connection of a good client, on which nothing but NEGOTIATE was said.
    pub fn connect(&self, offer: Offer) -> Result<Connection, ClientError> {
        Connection::negotiate(E::connect_client(self.rdma)?, offer)
    }

    /// A queue pair on which nothing was said.
    #[track_caller]
    pub fn endpoint(&self) -> E {
        E::connect(self.rdma).expect("an RDMA connection")
    }

    /// A wire that has negotiated.
    #[track_caller]
    pub fn wire(&self, terms: Terms) -> Wire<E> {
        Wire::connect(self.rdma, terms).expect("SMB Direct's negotiation")
    }

    /// A client on these terms with a new file open. Its session is not signed, so that what is
    /// on the wire is what a case says, and dialect 3.0.2 does not ask for more.
    #[track_caller]
    pub fn client(&self, terms: Terms) -> WireClient<E> {
        self.client_of(terms, Dialect::Smb302)
    }

    /// As [`Scene::client`], of another dialect.
    #[track_caller]
    pub fn client_of(&self, terms: Terms, dialect: Dialect) -> WireClient<E> {
        self.client_on(self.wire(terms), dialect)
    }

    /// As [`Scene::client`], on a wire that is there.
    #[track_caller]
    pub fn client_on(&self, wire: Wire<E>, dialect: Dialect) -> WireClient<E> {
        let line = Line::new(wire);
        let connection = Connection::negotiate(line.share(), Offer::only(dialect));
        let mut connection = connection.expect("NEGOTIATE");
        let credentials = Credentials::with_password(USER, "WORKGROUP", PASSWORD);
        let session = connection.log_on_with(credentials, false).expect("log on");
        let tree = connection.tree_connect(session, "share").expect("connect");
        let (name, path) = self.new_file();
        let options = OpenOptions::read_write();
        let file = connection.open(tree, &name, options).expect("open");
        // Each asks for many credits and uses one: enough for a large payload.
        (0..4).for_each(|_| connection.echo().expect("echo"));
        WireClient {
            line,
            connection,
            session,
            tree,
            file,
            path,
        }
    }

    /// Where it is reached over TCP on an interface that has no RDMA device.
    pub fn tcp_without_rdma(&self) -> SocketAddr {
        match self.devices {
            Devices::Simulated => self.server.address(),
            Devices::Rxe | Devices::Siw => SocketAddr::from(([10, 9, 1, 1], 445)),
        }
    }

    /// A name no other case uses, and the file behind it.
    pub fn new_file(&self) -> (String, PathBuf) {
        let name = format!("file-{}", self.files.fetch_add(1, Ordering::Relaxed));
        let path = self.server.share("share").join(&name);
        (name, path)
    }
}

impl<E: Endpoint> WireClient<E> {
    /// Writes `data`; the message is cut as was said before.
    pub fn write(&mut self, data: &[u8]) -> Result<u32, ClientError> {
        self.connection.write(self.tree, self.file, 0, data)
    }

    /// Reads so much from the file's beginning.
    pub fn read(&mut self, length: usize) -> Result<Vec<u8>, ClientError> {
        let (tree, file) = (self.tree, self.file);
        self.connection.read(tree, file, 0, length as u32)
    }

    /// The file holds this now, and the connection is as good as before.
    #[track_caller]
    pub fn leave_with(mut self, contents: &[u8]) {
        let stored = std::fs::read(&self.path).expect("the file is there");
        assert!(stored == contents, "the file holds something else");
        self.connection.close(self.tree, self.file).expect("close");
        self.connection.log_off(self.session).expect("log off");
        self.line.wire().disconnect();
    }

    /// The server must have ended the connection for what was sent, and written nothing.
    #[track_caller]
    pub fn expect_end(&mut self) {
        self.line.wire().expect_end(crate::wire::PROMPTLY);
        let stored = std::fs::read(&self.path).expect("the file is there");
        assert!(stored.is_empty(), "something was written");
    }
}
