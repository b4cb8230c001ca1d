//! The supervisor's side of smbdirectd: starts it with a control socket and collects what it says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child as Process, Command, Stdio};

use proto::control::QueryId;
use proto::control::gateway::{
    ConnectionStatus, DeviceStatus, EndedConnection, FromGateway, GatewaySettings, GatewayTotals,
    RdmaInterface, ToGateway, UnheardAddress,
};
use shm::link::{Datagram, Link, SocketLink};

/// A connection smbdirectd announced.
#[derive(Debug)]
pub struct Announced {
    /// The client.
    pub peer: SocketAddr,
    /// The child's end of the relay.
    pub socket: OwnedFd,
}

/// A running smbdirectd.
#[derive(Debug)]
pub struct Supervisor {
    process: Process,
    control: SocketLink,
    query: u64,
    /// What it listens on.
    pub interfaces: Vec<RdmaInterface>,
    /// Connections nobody has taken yet.
    pub announced: VecDeque<Announced>,
    /// What it complained about.
    pub problems: Vec<String>,
    /// The newest status.
    pub status: Option<(Vec<ConnectionStatus>, GatewayTotals)>,
    /// Of the newest status: devices in use, addresses not listened on, how connections ended.
    pub devices: Vec<DeviceStatus>,
    pub unheard: Vec<UnheardAddress>,
    pub ended: Vec<EndedConnection>,
    /// What has come of a status that is not complete.
    connections: Vec<ConnectionStatus>,
    /// It said that it is ready.
    pub ready: bool,
}

/// Settings most scenarios use.
pub fn settings() -> GatewaySettings {
    GatewaySettings {
        uid: 65534,
        gid: 65534,
        devices: Vec::new(),
        port_override: None,
        memory_budget: 256 << 20,
        client_memory: 64 << 20,
        max_connections: 64,
        receive_credits: 255,
        max_read_write: 8 << 20,
        max_receive_size: 1364,
        max_fragmented_receive_size: 1 << 20,
        keepalive_interval_s: 120,
    }
}

impl Supervisor {
    /// Starts `command` with its control socket as standard input.
    pub fn start(mut command: Command, settings: GatewaySettings) -> Supervisor {
        let (ours, theirs) = shm::link::pair().expect("a socketpair");
        let process = command
            .stdin(Stdio::from(theirs))
            .spawn()
            .expect("start smbdirectd");
        let mut supervisor = Supervisor {
            process,
            control: SocketLink::new(ours, proto::control::BACKLOG),
            query: 0,
            interfaces: Vec::new(),
            announced: VecDeque::new(),
            problems: Vec::new(),
            status: None,
            devices: Vec::new(),
            unheard: Vec::new(),
            ended: Vec::new(),
            connections: Vec::new(),
            ready: false,
        };
        supervisor.say(&ToGateway::Configure(settings));
        supervisor
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a message.
    pub fn say(&mut self, message: &ToGateway) {
        self.control
            .queue(&mut |out| proto::control::encode(message, out));
        self.control.flush().expect("smbdirectd reads");
    }

    /// Asks for a status; `status` holds it later.
    pub fn query(&mut self) {
        self.status = None;
        self.query += 1;
        self.say(&ToGateway::QueryStatus {
            query: QueryId(self.query),
        });
    }

    /// Takes what it said.
    pub fn turn(&mut self) {
        let mut datagram = Datagram::new();
        while self
            .control
            .receive(&mut datagram)
            .expect("smbdirectd runs")
        {
            let mut descriptors = std::mem::take(&mut datagram.descriptors);
            let messages =
                proto::control::decode::<FromGateway>(datagram.bytes(), descriptors.len());
            for message in messages {
                match message.expect("a message") {
                    FromGateway::Ready => self.ready = true,
                    FromGateway::Interfaces(interfaces) => self.interfaces = interfaces,
                    FromGateway::Connection { peer, .. } => {
                        let socket = descriptors.remove(0);
                        self.announced.push_back(Announced { peer, socket });
                    }
                    FromGateway::Connections { query, connections } => {
                        assert_eq!(query, QueryId(self.query));
                        self.connections.extend(connections);
                    }
                    FromGateway::Status {
                        query,
                        totals,
                        devices,
                        unheard,
                        ended,
                    } => {
                        assert_eq!(query, QueryId(self.query));
                        self.status = Some((std::mem::take(&mut self.connections), totals));
                        (self.devices, self.unheard, self.ended) = (devices, unheard, ended);
                    }
                    FromGateway::Problem { text } => self.problems.push(text),
                }
            }
        }
    }

    /// Asks it to end and waits; answers whether it did so in order.
    pub fn shut_down(mut self) -> bool {
        self.say(&ToGateway::Shutdown);
        self.process.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
