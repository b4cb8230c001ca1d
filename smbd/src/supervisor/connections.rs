//! Connections and the children they start: accepted or refused, forked, heard, ended.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::control::broker::SupervisorToBroker;
use proto::control::child::{FromChild, ToChild};
use proto::control::zygote::{ProcessEnd, ToZygote};
use proto::control::{ChildId, ConnectionKind};
use shm::SystemError;

use super::listeners::Accepted;
use super::{CHILD, NewConnection, Supervisor};
use crate::messaging::ControlLink;
use crate::sys::poll::{Interest, Ready};

/// Connections that wait for the zygote to come back.
const MAX_WAITING: usize = 256;
/// Accepted in one turn of the loop, from one listener.
const ACCEPT_BATCH: usize = 64;
/// How long nothing is accepted after the kernel had no room.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

impl Supervisor {
    pub(super) fn on_listener(&mut self, token: u64) {
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

    pub(super) fn watch_listeners(&mut self, interest: Interest) {
        for (&token, listener) in &self.listeners {
            let _ = self.poll.modify(listener, token, interest);
        }
    }

    pub(super) fn admit(&mut self, connection: OwnedFd, kind: ConnectionKind, peer: SocketAddr) {
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
    pub(super) fn refuse(&mut self, reason: &str, peer: SocketAddr) {
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

    pub(super) fn enqueue(&mut self, connection: NewConnection) {
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

    pub(super) fn fork_waiting(&mut self) {
        while self.zygote.is_linked() {
            let Some(next) = self.waiting.pop_front() else {
                return;
            };
            if let Err(error) = self.fork_child(next) {
                tracing::error!(%error, "can't start a child; its client is refused (see ulimit -n)");
            }
        }
    }

    pub(super) fn fork_child(&mut self, new: NewConnection) -> Result<(), SystemError> {
        let (here, childs) = shm::link::pair()?;
        let (brokers, childs_broker) = shm::link::pair()?;
        let mut link = ControlLink::new(here);
        link.send(&ToChild::Interfaces(self.offered.clone()));
        // It lies there before the zygote can fork: a child reads it before it serves anybody. A
        // failure comes again at the turn's end, where it is handled.
        let _ = link.flush();
        let child = self.children.add(link, new.peer, self.zygote_number);
        if let Some(record) = self.children.find(child) {
            self.poll
                .add(&record.link, CHILD + child.0, Interest::Read)?;
            record.first = new.try_clone();
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

    pub(super) fn on_child(&mut self, child: ChildId, event: Ready) {
        if event.writable {
            self.unsent.insert(child);
        }
        self.hear_child(child);
    }

    fn hear_child(&mut self, child: ChildId) {
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

    /// A new broker: each child gets a link to it and tells it its state.
    pub(super) fn introduce_children(&mut self) {
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

    /// Children the last zygote, which is reaped, was to fork and has not told of. Where nobody holds
    /// the other end of a child's link the order was never carried out, and the next zygote gets it.
    /// One that was forked all the same has perhaps read from its connection: it finds its link closed
    /// and ends.
    pub(super) fn forget_unborn(&mut self) {
        let unborn: Vec<ChildId> = self
            .children
            .all()
            .filter(|(_, record)| record.pid.is_none())
            .map(|(child, _)| child)
            .collect();
        for child in unborn {
            self.hear_child(child);
            let record = self.children.find(child);
            let first = record
                .filter(|record| !record.linked)
                .and_then(|record| record.first.take());
            self.forget_child(child);
            match first {
                Some(first) => self.enqueue(first),
                None => tracing::warn!(
                    child = child.0,
                    "the zygote died as it forked this child; its client has to connect again"
                ),
            }
        }
    }

    pub(super) fn child_ended(&mut self, child: ChildId, end: ProcessEnd) {
        match end {
            ProcessEnd::Status(0) => tracing::debug!(child = child.0, "ended"),
            _ => {
                tracing::error!(child = child.0, %end, "a child ended badly; its client connects again to a new one")
            }
        }
        self.forget_child(child);
    }

    pub(super) fn forget_child(&mut self, child: ChildId) {
        self.children.remove(child);
        self.unsent.remove(&child);
        self.status.child_ended(child);
    }

    pub(super) fn kill_child(&mut self, child: ChildId) {
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
}
