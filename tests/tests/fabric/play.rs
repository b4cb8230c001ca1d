//! The players around a gateway on the simulated fabric: the gateway in a thread of its own, the
//! test as its supervisor, its children and its clients.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fabric::config::Limits;
use fabric::gateway::Gateway;
use fabric::rdma::Fabric;
use proto::control::QueryId;
use proto::control::gateway::{
    DeviceStatus, FromGateway, GatewaySettings, GatewayTotals, ToGateway,
};
use proto::relay::Descriptor;
use proto::smb2::BufferDescriptorV1;
use shm::link::{Datagram, Link, SocketLink};
use tempfile::TempDir;
use tests::client::simulated::{Behaviour, SmbDirect};
use tests::client::{ExposedMemory, RdmaTransport, split};
use tests::gateway::{Child, settings};

/// How long anything may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway and everybody it deals with.
pub struct Play {
    control: SocketLink,
    gateway: Option<JoinHandle<Result<(), String>>>,
    server: Option<SocketAddr>,
    status: Option<GatewayTotals>,
    devices: Vec<DeviceStatus>,
    queries: u64,
    /// Ends of relays, in the order announced.
    pub children: Vec<Child>,
    /// Clients, in the order connected.
    pub clients: Vec<SmbDirect>,
    _folder: TempDir,
}

/// For whoever runs the test.
pub fn unprivileged_settings() -> GatewaySettings {
    GatewaySettings {
        uid: 0,
        gid: 0,
        memory_budget: 64 << 20,
        client_memory: 32 << 20,
        ..settings()
    }
}

impl Play {
    /// A gateway that listens, on a fabric that `adjust` may change for it.
    pub fn begin(adjust: impl FnOnce(&mut Fabric)) -> Play {
        Play::begin_with(Limits::new(unprivileged_settings()), adjust)
    }

    /// As [`Play::begin`], with other limits.
    pub fn begin_with(limits: Limits, adjust: impl FnOnce(&mut Fabric)) -> Play {
        let folder = tempfile::tempdir().expect("a folder");
        let address = |text: &str| text.parse().expect("an address");
        let mut servers = Fabric::new(folder.path(), "server0", address("10.9.0.1"));
        adjust(&mut servers);
        Fabric::new(folder.path(), "client0", address("10.9.0.2")).enter();
        let (ours, theirs) = shm::link::pair().expect("a socketpair");
        let gateway = std::thread::spawn(move || {
            servers.enter();
            let control = SocketLink::new(theirs, proto::control::BACKLOG);
            Gateway::new(control, limits)
                .and_then(Gateway::run)
                .map_err(|error| error.to_string())
        });
        let mut play = Play {
            control: SocketLink::new(ours, proto::control::BACKLOG),
            gateway: Some(gateway),
            server: None,
            status: None,
            devices: Vec::new(),
            queries: 0,
            children: Vec::new(),
            clients: Vec::new(),
            _folder: folder,
        };
        play.until("the gateway to listen", |play| play.server.is_some());
        play
    }

    /// Everyone does what can be done now.
    pub fn turn(&mut self) {
        let mut datagram = Datagram::new();
        while self.control.receive(&mut datagram).expect("a gateway") {
            let mut descriptors = std::mem::take(&mut datagram.descriptors);
            let count = descriptors.len();
            for message in proto::control::decode::<FromGateway>(datagram.bytes(), count) {
                match message.expect("a message") {
                    FromGateway::Ready => {}
                    FromGateway::Interfaces(list) => {
                        let found = list.first();
                        self.server = found.map(|one| SocketAddr::new(one.address, one.port));
                    }
                    FromGateway::Connection { .. } => {
                        self.children.push(Child::new(descriptors.remove(0)));
                    }
                    FromGateway::Connections { .. } => {}
                    FromGateway::Status {
                        totals, devices, ..
                    } => {
                        self.status = Some(totals);
                        self.devices = devices;
                    }
                    FromGateway::Problem { text } => panic!("{text}"),
                }
            }
        }
        for child in &mut self.children {
            child.turn();
        }
        for client in &mut self.clients {
            client.drive().expect("a client that can be driven");
        }
    }

    /// Plays until `done`.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Play) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.turn();
            if done(self) {
                return;
            }
            let over: Vec<_> = self.clients.iter().map(SmbDirect::over).collect();
            assert!(
                Instant::now() < deadline,
                "waited for {what}; children {:?}, clients over: {over:?}",
                self.children
            );
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Where the gateway listens.
    pub fn server(&self) -> SocketAddr {
        self.server.expect("a server that listens")
    }

    /// Connects a client; it is the last of the list.
    pub fn connect(&mut self, behaviour: Behaviour) -> usize {
        let server = self.server.expect("a server that listens");
        let client = SmbDirect::connect(server, behaviour).expect("a connection");
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// Connects a client whose first message brings forth a child that attaches and maps.
    pub fn connect_attached(&mut self, behaviour: Behaviour) -> (usize, usize) {
        let (client, child) = (self.connect(behaviour), self.children.len());
        self.clients[client].queue(b"the first message");
        self.until("the child", |play| play.children.len() > child);
        self.children[child].attach();
        self.until("the region", |play| play.children[child].is_mapped());
        self.until("the first message", |play| {
            play.children[child].take_message().as_deref() == Some(b"the first message")
        });
        (client, child)
    }

    /// What is held now, and what was moved since the start.
    pub fn totals(&mut self) -> GatewayTotals {
        self.status = None;
        self.queries += 1;
        let query = ToGateway::QueryStatus {
            query: QueryId(self.queries),
        };
        self.control
            .queue(&mut |out| proto::control::encode(&query, out));
        self.control.flush().expect("a gateway");
        self.until("a status", |play| play.status.is_some());
        self.status.expect("just seen")
    }

    /// The gateway's device, as its status shows it.
    pub fn device(&mut self) -> DeviceStatus {
        self.totals();
        self.devices.pop().expect("a device")
    }

    /// Everybody leaves; nothing of anybody stays.
    pub fn end(mut self, before: GatewayTotals) {
        self.clients.clear();
        for child in &mut self.children {
            child.die();
        }
        let deadline = Instant::now() + PATIENCE;
        while self.totals().connections > 0 {
            assert!(Instant::now() < deadline, "connections stay");
            std::thread::sleep(Duration::from_millis(1));
        }
        let after = self.totals();
        let held = |totals: GatewayTotals| {
            [
                totals.queue_pairs,
                totals.memory_regions,
                totals.pinned_bytes,
            ]
        };
        assert_eq!(held(after), held(before), "something was leaked");
        self.control
            .queue(&mut |out| proto::control::encode(&ToGateway::Shutdown, out));
        self.control.flush().expect("a gateway");
        let gateway = self.gateway.take().expect("joined once");
        assert_eq!(gateway.join().expect("no panic in the gateway"), Ok(()));
    }

    /// The client's memory for the server, holding `contents`.
    pub fn expose(&mut self, client: usize, contents: &[u8]) -> ExposedMemory {
        self.clients[client]
            .expose(contents, tests::client::Access::RemoteRead)
            .expect("memory")
    }
}

/// A descriptor as a relay record has it, in `pieces`.
pub fn descriptors(whole: BufferDescriptorV1, pieces: u32) -> Vec<Descriptor> {
    split(whole, pieces)
        .into_iter()
        .map(|one| Descriptor {
            offset: one.offset.into(),
            token: one.token.into(),
            length: one.length.into(),
        })
        .collect()
}

/// Bytes that differ from place to place and from seed to seed.
pub fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
