//! The supervisor: listening sockets, the life of every other process, the list of interfaces.
//!
//! Root and tiny. It accepts TCP connections and takes RDMA connections from smbdirectd, has the
//! zygote fork a child for each, and starts again whatever dies; no death of another process ends
//! it or stops TCP. It reads nothing a client sent and nothing a child says but its fixed control
//! messages. One thread; its loop never waits for anybody.

mod addresses;
mod children;
mod connections;
mod gateway;
mod interfaces;
mod listeners;
mod report;
mod restart;
mod service;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use proto::control::broker::{BrokerToSupervisor, SupervisorToBroker};
use proto::control::child::{NetworkInterface, ToChild};
use proto::control::gateway::{FromGateway, RdmaInterface, ToGateway};
use proto::control::zygote::{FromZygote, ProcessEnd, ToZygote};
use proto::control::{ChildId, ConnectionKind};
use shm::SystemError;
use shm::link::Datagram;

use crate::config::Config;
use crate::sys::poll::{Interest, Poll, Ready};
use crate::sys::privilege::{Account, set_limits};
use crate::zygote::{reap_one, signals};
use addresses::{watch_addresses, watch_devices};
use children::Children;
use listeners::Listener;
use service::Service;
use status::StatusSocket;

pub use status::SOCKET as STATUS_SOCKET;

/// Who the broker is when the configuration names no account: a number no distribution gives away.
const BROKER_ACCOUNT: u32 = 61_101;
/// Processes that have not ended by then are killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

const SIGNALS: u64 = 1;
const ZYGOTE: u64 = 2;
const BROKER: u64 = 3;
const GATEWAY: u64 = 4;
const ADDRESSES: u64 = 5;
const STATUS: u64 = 6;
const DEVICES: u64 = 7;
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
    /// Tells that devices came or went.
    devices: Option<OwnedFd>,
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

/// A connection that needs a child.
pub struct NewConnection {
    connection: OwnedFd,
    kind: ConnectionKind,
    preface: Vec<u8>,
    peer: IpAddr,
}

impl NewConnection {
    /// The same connection by another descriptor; None where there is no room for one.
    fn try_clone(&self) -> Option<NewConnection> {
        Some(NewConnection {
            connection: self.connection.try_clone().ok()?,
            kind: self.kind,
            preface: self.preface.clone(),
            peer: self.peer,
        })
    }
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
        let devices = watch_devices();
        if let Some(socket) = &devices {
            poll.add(socket, DEVICES, Interest::Read)?;
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
            devices,
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
            DEVICES => self.on_devices(),
            STATUS => self.on_status(),
            token if token >= CHILD => self.on_child(ChildId(token - CHILD), event),
            token => self.on_listener(token),
        }
    }

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
            self.status.broker_ended();
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
        self.zygote.let_end();
        self.broker.let_end();
        self.gateway.let_end();
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
                        record.first = None;
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
                        // Whose it was is not known any more; all such count together.
                        let peer = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
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
                BrokerToSupervisor::Status { query, totals } => self
                    .status
                    .broker_answered(query, |report| report.brokered = Some(totals)),
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
}
