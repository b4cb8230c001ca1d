//! The supervisor: listening sockets, the life of every other process, the list of interfaces.
//!
//! Root and tiny. It accepts TCP connections and takes RDMA connections from smbdirectd, has the
//! zygote fork a child for each, and starts again whatever dies; no death of another process ends
//! it or stops TCP. It reads nothing a client sent and nothing a child says but its fixed control
//! messages. One thread; its loop never waits for anybody.

mod children;
mod interfaces;
mod listeners;
mod restart;
mod service;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use proto::control::broker::{BrokerToSupervisor, SupervisorToBroker};
use proto::control::child::{FromChild, NetworkInterface, ToChild};
use proto::control::gateway::{FromGateway, GatewaySettings, RdmaInterface, ToGateway};
use proto::control::status::{ChildReport, GatewayReport, StatusReport};
use proto::control::zygote::{FromZygote, ProcessEnd, ToZygote};
use proto::control::{ChildId, ConnectionKind};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};
use shm::SystemError;
use shm::link::Datagram;

use crate::config::{Config, RdmaDevices};
use crate::messaging::ControlLink;
use crate::sys::poll::{Interest, Poll, Ready};
use crate::sys::privilege::{Account, set_limits};
use crate::zygote::{reap_one, signals};
use children::Children;
use listeners::{Accepted, Listener, advice};
use service::Service;
use status::StatusSocket;

pub use status::SOCKET as STATUS_SOCKET;

/// Who smbdirectd and the broker are when the configuration names no account: numbers no
/// distribution gives away.
const GATEWAY_ACCOUNT: u32 = 61_100;
const BROKER_ACCOUNT: u32 = 61_101;
/// MS-SMBD 2.2.1, MaxReceiveSize, as every implementation has it.
const MAX_RECEIVE_SIZE: u32 = 1364;
/// MS-SMBD 2.2.1, MaxFragmentedSize: what Windows has.
const MAX_FRAGMENTED_SIZE: u32 = 1 << 20;
/// Connections that wait for the zygote to come back.
const MAX_WAITING: usize = 256;
/// Accepted in one turn of the loop, from one listener.
const ACCEPT_BATCH: usize = 64;
/// How long nothing is accepted after the kernel had no room.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);
/// Address changes come in bursts; the list is read when they have settled.
const SETTLE: Duration = Duration::from_millis(100);
/// Processes that have not ended by then are killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// MS-SMBD memory registration needs a little more than the payload: send and receive buffers.
const MEMLOCK_SLACK: u64 = 512 << 20;

const SIGNALS: u64 = 1;
const ZYGOTE: u64 = 2;
const BROKER: u64 = 3;
const GATEWAY: u64 = 4;
const ADDRESSES: u64 = 5;
const STATUS: u64 = 6;
/// Listeners are LISTENER + n, children CHILD + their number.
const LISTENER: u64 = 1 << 32;
const CHILD: u64 = 1 << 40;

/// Everything the supervisor owns.
pub struct Supervisor {
    config: Arc<Config>,
    /// This program, and what the zygote is executed with to find the same configuration.
    program: PathBuf,
    zygote_arguments: Vec<OsString>,
    poll: Poll,
    datagram: Datagram,
    signals: SignalFd,
    /// Tells that addresses changed; what changed is read anew.
    addresses: Option<OwnedFd>,
    refresh_at: Option<Instant>,
    listeners: BTreeMap<u64, Listener>,
    last_listener: u64,
    accept_after: Option<Instant>,
    zygote: Service<FromZygote, ToZygote>,
    /// Counts zygotes: a child is the parent's of its own.
    zygote_number: u64,
    broker: Service<BrokerToSupervisor, SupervisorToBroker>,
    gateway: Service<FromGateway, ToGateway>,
    gateway_program: Option<PathBuf>,
    rdma: Vec<RdmaInterface>,
    offered: Vec<NetworkInterface>,
    children: Children,
    /// Children with something queued for them.
    unsent: BTreeSet<ChildId>,
    waiting: VecDeque<NewConnection>,
    status: StatusSocket,
    refused: Refused,
    stopping: Option<Instant>,
}

struct NewConnection {
    connection: OwnedFd,
    kind: ConnectionKind,
    preface: Vec<u8>,
    peer: IpAddr,
}

/// Refused connections, so that the log has one line for many.
#[derive(Default)]
struct Refused {
    count: u64,
    told: Option<Instant>,
}

/// Runs the server until SIGTERM or SIGINT. `zygote_arguments` make this program a zygote with
/// the same configuration.
pub fn run(config: Arc<Config>, zygote_arguments: Vec<OsString>) -> Result<(), SystemError> {
    let mut supervisor = Supervisor::start(config, zygote_arguments)?;
    supervisor.run()
}

impl Supervisor {
    fn start(
        config: Arc<Config>,
        zygote_arguments: Vec<OsString>,
    ) -> Result<Supervisor, SystemError> {
        set_limits()?;
        prctl::set_child_subreaper(true).map_err(SystemError::of("become a subreaper"))?;
        let signals = signals(&[
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
        ])?;
        let poll = Poll::new()?;
        poll.add(&signals, SIGNALS, Interest::Read)?;
        let addresses = watch_addresses();
        if let Some(socket) = &addresses {
            poll.add(socket, ADDRESSES, Interest::Read)?;
        }
        let status = StatusSocket::bind(&config.global.run_directory)?;
        poll.add(&status, STATUS, Interest::Read)?;
        let mut supervisor = Supervisor {
            program: PathBuf::from("/proc/self/exe"),
            zygote_arguments,
            poll,
            datagram: Datagram::new(),
            signals,
            addresses,
            refresh_at: None,
            listeners: BTreeMap::new(),
            last_listener: LISTENER,
            accept_after: None,
            zygote: Service::new("zygote", ZYGOTE),
            zygote_number: 0,
            broker: Service::new("broker", BROKER),
            gateway: Service::new("smbdirectd", GATEWAY),
            gateway_program: None,
            rdma: Vec::new(),
            offered: Vec::new(),
            children: Children::default(),
            unsent: BTreeSet::new(),
            waiting: VecDeque::new(),
            status,
            refused: Refused::default(),
            stopping: None,
            config,
        };
        let now = Instant::now();
        supervisor.zygote.due = Some(now);
        supervisor.broker.due = Some(now);
        supervisor.start_services(now);
        supervisor.refresh(true)?;
        Ok(supervisor)
    }

    fn run(&mut self) -> Result<(), SystemError> {
        let mut ready = Vec::new();
        loop {
            let timeout = self.timeout(Instant::now());
            self.poll.wait(&mut ready, timeout)?;
            for &event in &ready {
                self.on_ready(event);
            }
            let now = Instant::now();
            self.start_services(now);
            if self.refresh_at.is_some_and(|at| now >= at) {
                self.refresh_at = None;
                if let Err(error) = self.refresh(false) {
                    tracing::warn!(%error, "can't read this machine's addresses; clients keep the last list");
                }
            }
            if self.accept_after.is_some_and(|at| now >= at) {
                self.accept_after = None;
                self.watch_listeners(Interest::Read);
            }
            self.fork_waiting();
            self.status.write(now);
            self.flush();
            if self.stopping.is_some() && self.is_stopped(now) {
                return Ok(());
            }
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        let stopping = self.stopping.map(|until| until.max(now));
        let dues = match self.stopping {
            None => [self.zygote.due, self.broker.due, self.gateway.due],
            Some(_) => [None; 3],
        };
        dues.into_iter()
            .chain([
                self.refresh_at,
                self.accept_after,
                self.status.next(now),
                stopping,
            ])
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(now))
    }

    fn on_ready(&mut self, event: Ready) {
        match event.token {
            SIGNALS => self.on_signals(),
            ZYGOTE => self.on_zygote(),
            BROKER => self.on_broker(),
            GATEWAY => self.on_gateway(),
            ADDRESSES => self.on_addresses(),
            STATUS => self.on_status(),
            token if token >= CHILD => self.on_child(ChildId(token - CHILD), event),
            token => self.on_listener(token),
        }
    }

    // --- signals, deaths -------------------------------------------------------------------

    fn on_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGTERM | Signal::SIGINT)) => self.stop(),
                Ok(Ok(Signal::SIGHUP)) => tracing::warn!(
                    "SIGHUP: the configuration is read at the start only; restart smbd to change it"
                ),
                _ => {}
            }
        }
        while let Some((pid, end)) = reap_one() {
            self.reaped(pid, end);
        }
    }

    fn reaped(&mut self, pid: i32, end: ProcessEnd) {
        let now = Instant::now();
        if self.zygote.pid == Some(pid) {
            // What it has said before counts.
            self.on_zygote();
            self.zygote.ended(end, now);
            self.forget_unborn();
        } else if self.broker.pid == Some(pid) {
            self.on_broker();
            self.broker.ended(end, now);
        } else if self.gateway.pid == Some(pid) {
            self.on_gateway();
            self.gateway.ended(end, now);
            self.status.gateway_ended();
            self.rdma.clear();
            self.offer();
        } else if let Some(child) = self.children.of_pid(pid) {
            self.child_ended(child, end);
        }
    }

    /// Children the last zygote was to fork and has not told of. One that was forked all the
    /// same finds its link closed and ends.
    fn forget_unborn(&mut self) {
        let unborn: Vec<ChildId> = self
            .children
            .all()
            .filter(|(_, record)| record.pid.is_none())
            .map(|(child, _)| child)
            .collect();
        for child in unborn {
            tracing::warn!(
                child = child.0,
                "the zygote died before it forked this child; its client has to connect again"
            );
            self.forget_child(child);
        }
    }

    fn child_ended(&mut self, child: ChildId, end: ProcessEnd) {
        match end {
            ProcessEnd::Status(0) => tracing::debug!(child = child.0, "ended"),
            _ => {
                tracing::error!(child = child.0, %end, "a child ended badly; its client connects again to a new one")
            }
        }
        self.forget_child(child);
    }

    fn forget_child(&mut self, child: ChildId) {
        self.children.remove(child);
        self.unsent.remove(&child);
        self.status.child_ended(child);
    }

    fn kill_child(&mut self, child: ChildId) {
        let Some(record) = self.children.find(child) else {
            return;
        };
        match record.pid {
            // Its parent is the zygote that runs: only that one can kill it without a race.
            _ if record.zygote == self.zygote_number && self.zygote.is_linked() => {
                if let Some(link) = self.zygote.link() {
                    link.send(&ToZygote::Kill { child });
                }
            }
            // Its zygote died: it is this process's own, and not reaped.
            Some(pid) => {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            None => {}
        }
    }

    // --- stopping --------------------------------------------------------------------------

    fn stop(&mut self) {
        if self.stopping.is_some() {
            tracing::warn!("asked again to stop: killing what is left");
            self.stopping = Some(Instant::now());
            return;
        }
        tracing::info!(clients = self.children.len(), "stopping");
        self.stopping = Some(Instant::now() + STOP_LIMIT);
        self.listeners.clear();
        self.waiting.clear();
        for (child, record) in self.children.all() {
            record.link.send(&ToChild::Shutdown);
            self.unsent.insert(child);
        }
        if let Some(link) = self.gateway.link() {
            link.send(&ToGateway::Shutdown);
        }
    }

    fn is_stopped(&mut self, now: Instant) -> bool {
        if self.stopping.is_some_and(|until| now >= until) {
            let left: Vec<ChildId> = self.children.all().map(|(child, _)| child).collect();
            if !left.is_empty() || self.gateway.pid.is_some() {
                tracing::warn!(
                    children = left.len(),
                    "not everything ended in time; killing it"
                );
            }
            left.into_iter().for_each(|child| self.kill_child(child));
            self.gateway.end();
            self.stopping = Some(now + STOP_LIMIT);
        }
        if self.children.is_empty() && self.gateway.pid.is_none() {
            self.zygote.dismiss();
            self.broker.dismiss();
        }
        let left = [self.zygote.pid, self.broker.pid, self.gateway.pid];
        self.children.is_empty() && left.iter().all(Option::is_none)
    }

    // --- services --------------------------------------------------------------------------

    fn start_services(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        let program = self.program.clone();
        if self
            .zygote
            .start_if_due(&self.poll, now, &program, &self.zygote_arguments)
        {
            self.zygote_number += 1;
        }
        let account = Account::named(&self.config.global.broker_user, BROKER_ACCOUNT);
        let account = account.unwrap_or_else(|error| {
            tracing::warn!(%error, "running the broker as user {BROKER_ACCOUNT}");
            Account {
                uid: BROKER_ACCOUNT,
                gid: BROKER_ACCOUNT,
            }
        });
        let arguments = [
            "broker".to_owned(),
            format!("--uid={}", account.uid),
            format!("--gid={}", account.gid),
            format!("--log-level={}", self.config.global.log_level),
        ]
        .map(OsString::from);
        if self
            .broker
            .start_if_due(&self.poll, now, &program, &arguments)
        {
            self.introduce_children();
        }
        if let Some(program) = self.gateway_program.clone()
            && self.gateway.start_if_due(&self.poll, now, &program, &[])
        {
            self.configure_gateway();
        }
    }

    /// A new broker: each child gets a link to it and tells it its state.
    fn introduce_children(&mut self) {
        let Some(link) = self.broker.link() else {
            return;
        };
        for (child, record) in self.children.all() {
            match shm::link::pair() {
                Ok((here, there)) => {
                    let resumes = true;
                    let message = SupervisorToBroker::Child { child, resumes };
                    link.send_with(&message, vec![here]);
                    record.link.send_with(&ToChild::Broker, vec![there]);
                    self.unsent.insert(child);
                }
                Err(error) => {
                    tracing::error!(%error, child = child.0, "can't link a child to the broker")
                }
            }
        }
        link.send(&SupervisorToBroker::Start);
    }

    /// smbdirectd is wanted when the configuration has RDMA and there is a device, or the
    /// configuration names RDMA.
    fn want_gateway(&mut self, now: Instant) {
        let transports = &self.config.global.server_smb_transports;
        if self.gateway_program.is_some() || transports.rdma_ports().is_empty() {
            return;
        }
        if !has_rdma_device() {
            if transports.names_rdma() && self.refresh_at.is_none() && self.offered.is_empty() {
                tracing::warn!(
                    "server smb transports has rdma, but this machine has no RDMA device; TCP is \
                     served, and RDMA as soon as a device appears (soft-RoCE: rdma link add rxe0 \
                     type rxe netdev eth0)"
                );
            }
            return;
        }
        match find_gateway() {
            Some(program) => {
                self.gateway_program = Some(program);
                self.gateway.due = Some(now);
            }
            None => tracing::error!(
                "there is no smbdirectd beside smbd or in PATH: no RDMA; install it, or set \
                 server smb transports = tcp"
            ),
        }
    }

    fn configure_gateway(&mut self) {
        let memory_lock = self.config.rdma.memory_budget.saturating_add(MEMLOCK_SLACK);
        let account = Account::named(&self.config.global.smbdirectd_user, GATEWAY_ACCOUNT);
        let account = account.unwrap_or_else(|error| {
            tracing::warn!(%error, "running smbdirectd as user {GATEWAY_ACCOUNT}");
            Account {
                uid: GATEWAY_ACCOUNT,
                gid: GATEWAY_ACCOUNT,
            }
        });
        let rdma = &self.config.rdma;
        let settings = GatewaySettings {
            uid: account.uid,
            gid: account.gid,
            devices: match &rdma.devices {
                RdmaDevices::All => Vec::new(),
                RdmaDevices::Named(names) => names.clone(),
            },
            port_override: self
                .config
                .global
                .server_smb_transports
                .rdma_ports()
                .into_iter()
                .flatten()
                .next(),
            memory_budget: rdma.memory_budget,
            client_memory: rdma.memory_per_client,
            max_connections: rdma.max_connections,
            receive_credits: u16::try_from(rdma.receive_credits).unwrap_or(u16::MAX),
            max_read_write: rdma.max_read_write_size,
            max_receive_size: MAX_RECEIVE_SIZE,
            max_fragmented_receive_size: MAX_FRAGMENTED_SIZE,
        };
        if let Some(pid) = self.gateway.pid.and_then(rustix::process::Pid::from_raw) {
            let limit = rustix::process::Rlimit {
                current: Some(memory_lock),
                maximum: Some(memory_lock),
            };
            if let Err(error) =
                rustix::process::prlimit(Some(pid), rustix::process::Resource::Memlock, limit)
            {
                tracing::warn!(%error, "can't raise smbdirectd's limit of locked memory; run smbd as root, or raise ulimit -l");
            }
        }
        if let Some(link) = self.gateway.link() {
            link.send(&ToGateway::Configure(settings));
        }
    }

    fn on_zygote(&mut self) {
        let mut messages = Vec::new();
        self.zygote.receive(&mut self.datagram, |message, _| {
            messages.push(message);
        });
        for message in messages {
            match message {
                FromZygote::Forked { child, pid } => {
                    if let Some(record) = self.children.find(child) {
                        record.pid = Some(pid);
                    }
                }
                FromZygote::ForkFailed { child, errno } => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    tracing::error!(%error, "can't fork a child; its client is refused (see ulimit -u, pids.max, memory)");
                    self.forget_child(child);
                }
                FromZygote::Exited { child, end, .. } => self.child_ended(child, end),
            }
        }
    }

    fn on_broker(&mut self) {
        let mut messages = Vec::new();
        self.broker
            .receive(&mut self.datagram, |message, descriptors| {
                messages.push((message, descriptors));
            });
        for (message, mut descriptors) in messages {
            match message {
                BrokerToSupervisor::Orphan { kind, preface } => {
                    if let Some(connection) = descriptors.pop() {
                        // Whose it was is not known any more; it is nobody's newcomer.
                        let peer = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
                        self.enqueue(NewConnection {
                            connection,
                            kind,
                            preface,
                            peer,
                        });
                    }
                }
                BrokerToSupervisor::End { child, reason } => {
                    tracing::error!(child = child.0, reason, "the broker asks to end a child");
                    self.kill_child(child);
                }
                BrokerToSupervisor::Problem { text } => tracing::warn!("broker: {text}"),
            }
        }
    }

    fn on_gateway(&mut self) {
        let mut messages = Vec::new();
        self.gateway
            .receive(&mut self.datagram, |message, descriptors| {
                messages.push((message, descriptors));
            });
        for (message, mut descriptors) in messages {
            match message {
                FromGateway::Ready => tracing::info!("smbdirectd is ready"),
                FromGateway::Interfaces(interfaces) => {
                    for found in &interfaces {
                        tracing::info!(
                            device = found.device,
                            "listening for SMB Direct on {}",
                            SocketAddr::new(found.address, found.port)
                        );
                    }
                    self.rdma = interfaces;
                    // A device may have come with an address this list does not have yet.
                    if let Err(error) = self.refresh(false) {
                        tracing::warn!(%error, "can't read this machine's addresses");
                    }
                }
                FromGateway::Connection {
                    connection,
                    peer,
                    local,
                    device,
                } => {
                    tracing::debug!(connection = connection.0, %peer, %local, device, "RDMA connection");
                    if let Some(relay) = descriptors.pop() {
                        self.admit(relay, ConnectionKind::Relay, peer);
                    }
                }
                FromGateway::Status {
                    query,
                    connections,
                    totals,
                } => self.status.gateway_answered(query, |report| {
                    if let Some(gateway) = report.gateway.as_mut() {
                        gateway.connections = connections;
                        gateway.totals = Some(totals);
                    }
                }),
                FromGateway::Problem { text } => tracing::warn!("smbdirectd: {text}"),
            }
        }
    }

    // --- connections and children ----------------------------------------------------------

    fn on_listener(&mut self, token: u64) {
        for _ in 0..ACCEPT_BATCH {
            let Some(listener) = self.listeners.get(&token) else {
                return;
            };
            // While there is no zygote the kernel's queue is the place to wait.
            if !self.zygote.is_linked() || self.accept_after.is_some() {
                self.accept_after
                    .get_or_insert(Instant::now() + EXHAUSTED_PAUSE);
                self.watch_listeners(Interest::Nothing);
                return;
            }
            match listener.accept() {
                Accepted::Connection(connection, peer) => {
                    self.admit(connection, ConnectionKind::Tcp, peer);
                }
                Accepted::Nothing => return,
                Accepted::Exhausted(error) => {
                    tracing::error!(%error, "no room for another connection; raise the limit of open files (ulimit -n) or memory");
                    self.accept_after = Some(Instant::now() + EXHAUSTED_PAUSE);
                    self.watch_listeners(Interest::Nothing);
                    return;
                }
            }
        }
    }

    fn watch_listeners(&mut self, interest: Interest) {
        for (&token, listener) in &self.listeners {
            let _ = self.poll.modify(listener, token, interest);
        }
    }

    fn admit(&mut self, connection: OwnedFd, kind: ConnectionKind, peer: SocketAddr) {
        let address = peer.ip().to_canonical();
        match self.children.admit(address) {
            Ok(()) => self.enqueue(NewConnection {
                connection,
                kind,
                preface: Vec::new(),
                peer: address,
            }),
            Err(full) => self.refuse(&full.to_string(), peer),
        }
    }

    /// Drops a connection, with one line a second at most.
    fn refuse(&mut self, reason: &str, peer: SocketAddr) {
        self.refused.count += 1;
        let now = Instant::now();
        let quiet = self
            .refused
            .told
            .is_some_and(|told| now.duration_since(told) < Duration::from_secs(1));
        if !quiet {
            tracing::warn!(%peer, reason, refused = self.refused.count, "a connection is refused");
            self.refused.told = Some(now);
        }
    }

    fn enqueue(&mut self, connection: NewConnection) {
        if self.stopping.is_some() {
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            let peer = SocketAddr::new(connection.peer, 0);
            self.refuse("too many connections wait for the zygote", peer);
            return;
        }
        self.waiting.push_back(connection);
        self.fork_waiting();
    }

    fn fork_waiting(&mut self) {
        while self.zygote.is_linked() {
            let Some(next) = self.waiting.pop_front() else {
                return;
            };
            if let Err(error) = self.fork_child(next) {
                tracing::error!(%error, "can't start a child; its client is refused (see ulimit -n)");
            }
        }
    }

    fn fork_child(&mut self, new: NewConnection) -> Result<(), SystemError> {
        let (here, childs) = shm::link::pair()?;
        let (brokers, childs_broker) = shm::link::pair()?;
        let mut link = ControlLink::new(here);
        link.send(&ToChild::Interfaces(self.offered.clone()));
        let child = self.children.add(link, new.peer, self.zygote_number);
        if let Some(record) = self.children.find(child) {
            self.poll
                .add(&record.link, CHILD + child.0, Interest::Read)?;
        }
        self.unsent.insert(child);
        // Without a broker the other end is closed here; the next one gets a new link.
        if let Some(link) = self.broker.link() {
            let resumes = false;
            let message = SupervisorToBroker::Child { child, resumes };
            link.send_with(&message, vec![brokers]);
        }
        if let Some(link) = self.zygote.link() {
            let fork = ToZygote::Fork {
                child,
                kind: new.kind,
                preface: new.preface,
            };
            link.send_with(&fork, vec![new.connection, childs, childs_broker]);
        }
        Ok(())
    }

    fn on_child(&mut self, child: ChildId, event: Ready) {
        if event.writable {
            self.unsent.insert(child);
        }
        let Some(record) = self.children.find(child).filter(|record| record.linked) else {
            return;
        };
        let mut messages = Vec::new();
        let outcome = record.link.receive(&mut self.datagram, |message, _| {
            messages.push(message);
        });
        if let Err(error) = outcome {
            record.linked = false;
            let _ = self.poll.remove(&record.link);
            if !error.is_closed() {
                tracing::error!(child = child.0, %error, "a child broke its protocol; ending it");
                self.kill_child(child);
            }
        }
        for message in messages {
            match message {
                FromChild::Serving { client_guid } => {
                    let client = proto::smb2::Guid(client_guid);
                    tracing::info!(child = child.0, %client, "serves a client");
                }
                FromChild::Authenticated => self.children.authenticated(child),
                FromChild::Status { query, status } => {
                    self.status.child_answered(query, child, |report| {
                        let mut reports = report.children.iter_mut();
                        if let Some(found) = reports.find(|found| found.child == child.0) {
                            found.status = Some(status);
                        }
                    });
                }
            }
        }
    }

    fn flush(&mut self) {
        self.zygote.flush(&self.poll);
        self.broker.flush(&self.poll);
        self.gateway.flush(&self.poll);
        for child in std::mem::take(&mut self.unsent) {
            let Some(record) = self.children.find(child).filter(|record| record.linked) else {
                continue;
            };
            match record.link.flush() {
                Ok(done) => {
                    if record.waits == done {
                        record.waits = !done;
                        let interest = match record.waits {
                            true => Interest::ReadWrite,
                            false => Interest::Read,
                        };
                        let _ = self.poll.modify(&record.link, CHILD + child.0, interest);
                    }
                }
                Err(shm::link::LinkError::Closed) => {}
                Err(error) => {
                    tracing::error!(child = child.0, %error, "a child takes no messages; ending it");
                    self.kill_child(child);
                }
            }
        }
        // What a kill asked of the zygote.
        self.zygote.flush(&self.poll);
    }

    // --- addresses -------------------------------------------------------------------------

    fn on_addresses(&mut self) {
        if let Some(socket) = &self.addresses {
            let mut ignored = [0u8; 4096];
            while rustix::io::read(socket, &mut ignored).is_ok_and(|count| count > 0) {}
        }
        self.refresh_at.get_or_insert(Instant::now() + SETTLE);
    }

    /// Reads the machine's addresses: what is listened on, what clients are told, whether there
    /// is an RDMA device. At the start a port that can't be had is an error.
    fn refresh(&mut self, first: bool) -> Result<(), SystemError> {
        let local = interfaces::local_addresses()?;
        if self.stopping.is_none() {
            let global = &self.config.global;
            let only = global
                .bind_interfaces_only
                .then(|| interfaces::bound(&local, &global.interfaces));
            let ports = global.server_smb_transports.tcp_ports();
            self.listen(listeners::wanted(&ports, only.as_deref()), first)?;
            self.want_gateway(Instant::now());
        }
        self.offer_from(&local);
        Ok(())
    }

    fn listen(&mut self, wanted: Vec<SocketAddr>, first: bool) -> Result<(), SystemError> {
        self.listeners
            .retain(|_, listener| wanted.contains(&listener.address));
        for address in wanted {
            if self
                .listeners
                .values()
                .any(|listener| listener.address == address)
            {
                continue;
            }
            match Listener::bind(address) {
                Ok(listener) => {
                    self.last_listener += 1;
                    self.poll
                        .add(&listener, self.last_listener, Interest::Read)?;
                    tracing::info!("listening for TCP on {}", listener.address);
                    self.listeners.insert(self.last_listener, listener);
                }
                // A machine without IPv6 has no such address.
                Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {}
                Err(error) => {
                    let advice = advice(&error);
                    tracing::error!(%error, "can't listen on {address}: {advice}");
                    if first {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn offer(&mut self) {
        match interfaces::local_addresses() {
            Ok(local) => self.offer_from(&local),
            Err(error) => tracing::warn!(%error, "can't read this machine's addresses"),
        }
    }

    /// Tells every child the list, if it changed.
    fn offer_from(&mut self, local: &[interfaces::LocalAddress]) {
        let offered = interfaces::offered(local, &self.config.global.interfaces, &self.rdma);
        if offered == self.offered {
            return;
        }
        self.offered = offered;
        let message = ToChild::Interfaces(self.offered.clone());
        for (child, record) in self.children.all() {
            record.link.send(&message);
            self.unsent.insert(child);
        }
    }

    // --- status ----------------------------------------------------------------------------

    fn on_status(&mut self) {
        let now = Instant::now();
        while let Some(query) = self.status.accept(now) {
            let mut asked = BTreeSet::new();
            let mut reports = Vec::new();
            for (child, record) in self.children.all() {
                let Some(pid) = record.pid else {
                    continue;
                };
                reports.push(ChildReport {
                    child: child.0,
                    pid,
                    status: None,
                });
                if record.linked {
                    record.link.send(&ToChild::QueryStatus { query });
                    self.unsent.insert(child);
                    asked.insert(child);
                }
            }
            if let Some(link) = self.gateway.link() {
                link.send(&ToGateway::QueryStatus { query });
            }
            let report = StatusReport {
                supervisor: i32::try_from(std::process::id()).unwrap_or_default(),
                zygote: self.zygote.pid,
                broker: self.broker.pid,
                listening: self.listeners.values().map(|found| found.address).collect(),
                interfaces: self.offered.clone(),
                children: reports,
                gateway: self.gateway.pid.map(|pid| GatewayReport {
                    pid,
                    interfaces: self.rdma.clone(),
                    ..GatewayReport::default()
                }),
            };
            let gateway = self.gateway.is_linked();
            self.status.expect(query, report, asked, gateway, now);
        }
    }
}

/// A netlink socket that becomes readable when links or addresses change; without one the list of
/// the start stays.
fn watch_addresses() -> Option<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // Without a protocol it is NETLINK_ROUTE's.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
    // RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (rtnetlink(7)).
    let groups = 0x1 | 0x10 | 0x100;
    let watched = socket.and_then(|socket| {
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))?;
        Ok(socket)
    });
    match watched {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, "changes of this machine's addresses are not noticed; restart smbd after one");
            None
        }
    }
}

fn has_rdma_device() -> bool {
    std::fs::read_dir("/sys/class/infiniband").is_ok_and(|mut devices| devices.next().is_some())
}

/// smbdirectd beside this program, else in PATH.
fn find_gateway() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory: PathBuf| directory.join("smbdirectd"))
        .find(|candidate: &PathBuf| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
