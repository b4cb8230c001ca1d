//! The zygote: forks children, reaps them, and tells the supervisor. One thread, no runtime.
//!
//! The supervisor executes it and talks to it alone. It parses nothing but its control messages
//! and draws no random number: what it had drawn, all children would share. When it dies the
//! supervisor executes it again and reaps the children it leaves; they notice nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use proto::control::zygote::{FromZygote, ProcessEnd, ToZygote};
use proto::control::{ChildId, ConnectionKind};
use shm::SystemError;
use shm::link::Datagram;

use crate::child::{self, ChildStart};
use crate::config::Config;
use crate::logging;
use crate::messaging::ControlLink;
use crate::stop_point;
use crate::sys::fork::fork;
use crate::sys::memory;
use crate::sys::name_service;
use crate::sys::poll::{Interest, Poll};

const CONTROL: u64 = 0;
const SIGNALS: u64 = 1;

/// Runs until the supervisor closes `control`.
pub fn run(control: OwnedFd, config: Arc<Config>) -> Result<(), SystemError> {
    name_service::preload();
    memory::trim();
    let signals = signals(&[Signal::SIGCHLD])?;
    let mut poll = Poll::new()?;
    poll.add(&control, CONTROL, Interest::Read)?;
    poll.add(&signals, SIGNALS, Interest::Read)?;
    let mut zygote = Zygote {
        link: ControlLink::new(control),
        config,
        children: BTreeMap::new(),
    };
    let mut datagram = Datagram::new();
    let mut ready = Vec::new();
    let mut waits = false;
    loop {
        poll.wait(&mut ready, None)?;
        let mut orders = Vec::new();
        let outcome = zygote.link.receive(&mut datagram, |order, descriptors| {
            orders.push((order, descriptors));
        });
        // What stays here, each child has too.
        datagram.release();
        for (order, descriptors) in orders {
            zygote.obey(order, descriptors);
        }
        if outcome.is_err() {
            return Ok(());
        }
        while let Ok(Some(_)) = signals.read_signal() {}
        zygote.reap();
        let done = zygote.link.flush().unwrap_or(true);
        if waits == done {
            waits = !done;
            let interest = match waits {
                true => Interest::ReadWrite,
                false => Interest::Read,
            };
            poll.modify(&zygote.link, CONTROL, interest)?;
        }
    }
}

/// Blocks these signals and makes them readable.
pub fn signals(wanted: &[Signal]) -> Result<SignalFd, SystemError> {
    let mut set = SigSet::empty();
    wanted.iter().for_each(|signal| set.add(*signal));
    set.thread_block()
        .map_err(SystemError::of("block signals"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(SystemError::of("make a signalfd"))
}

/// The next ended process among this one's own, reaped.
pub fn reap_one() -> Option<(i32, ProcessEnd)> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => Some((pid.as_raw(), ProcessEnd::Status(status))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                Some((pid.as_raw(), ProcessEnd::Signal(signal as i32)))
            }
            Ok(WaitStatus::StillAlive) | Err(_) => None,
            Ok(_) => continue,
        };
    }
}

struct Zygote {
    link: ControlLink<ToZygote, FromZygote>,
    config: Arc<Config>,
    children: BTreeMap<ChildId, i32>,
}

impl Zygote {
    fn obey(&mut self, order: ToZygote, descriptors: Vec<OwnedFd>) {
        match order {
            ToZygote::Fork {
                child,
                kind,
                preface,
            } => {
                stop_point::reach("zygote-ordered");
                // The link checked their number.
                if let Ok([connection, supervisor, broker]) = <[OwnedFd; 3]>::try_from(descriptors)
                {
                    let start = ChildStart {
                        id: child,
                        kind,
                        connection,
                        preface,
                        supervisor,
                        broker,
                        config: Arc::clone(&self.config),
                    };
                    self.fork(start);
                }
            }
            ToZygote::Kill { child } => {
                if let Some(&pid) = self.children.get(&child) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
    }

    fn fork(&mut self, start: ChildStart) {
        let child = start.id;
        let keep = [
            start.connection.as_raw_fd(),
            start.supervisor.as_raw_fd(),
            start.broker.as_raw_fd(),
        ];
        let forked = fork(&keep, move || {
            let kind = match start.kind {
                ConnectionKind::Tcp => "tcp",
                ConnectionKind::Relay => "rdma",
            };
            logging::rename(&format!("child {}", start.id.0));
            tracing::debug!(kind, "starts");
            child::run(start)
        });
        match forked {
            Ok(pid) => {
                stop_point::reach("zygote-forked");
                self.children.insert(child, pid);
                self.link.send(&FromZygote::Forked { child, pid });
            }
            Err(error) => {
                let errno = error.source.raw_os_error().unwrap_or(0);
                self.link.send(&FromZygote::ForkFailed { child, errno });
            }
        }
    }

    fn reap(&mut self) {
        while let Some((pid, end)) = reap_one() {
            let found = self.children.iter().find(|(_, running)| **running == pid);
            if let Some((&child, _)) = found {
                self.children.remove(&child);
                self.link.send(&FromZygote::Exited { child, pid, end });
            }
        }
    }
}
