//! The broker's process: one epoll loop between the control sockets and [`Machine`].
//!
//! The supervisor executes it and hands it each child's link. It drops its privileges before it
//! reads anything, opens nothing, and ends with the supervisor's link.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use proto::control::ChildId;
use proto::control::broker::{BrokerToSupervisor, FromBroker, SupervisorToBroker, ToBroker};
use shm::SystemError;
use shm::link::Datagram;

use super::machine::{Action, Machine};
use crate::messaging::ControlLink;
use crate::stop_point;
use crate::sys::poll::{Interest, Poll, Ready};

/// The supervisor's token; children's are their numbers, which start at 1.
const SUPERVISOR: u64 = 0;

type SupervisorLink = ControlLink<SupervisorToBroker, BrokerToSupervisor>;

/// Runs until the supervisor closes `control`.
pub fn run(control: OwnedFd) -> Result<(), SystemError> {
    let mut process = Process::new(control)?;
    let started = Instant::now();
    loop {
        let timeout = process
            .next_tick()
            .map(|next| next.saturating_sub(started.elapsed()));
        process.wait(timeout)?;
        let now = started.elapsed();
        if !process.take(now)? {
            return Ok(());
        }
        process.act(now)?;
    }
}

/// The broker on its sockets. A turn is [`Process::wait`], [`Process::take`], [`Process::act`]; what
/// time it is the caller says.
pub struct Process {
    poll: Poll,
    ready: Vec<Ready>,
    supervisor: SupervisorLink,
    supervisor_waits: bool,
    children: BTreeMap<ChildId, ChildLink>,
    /// Children with something queued.
    unsent: BTreeSet<ChildId>,
    machine: Machine<OwnedFd>,
    datagram: Datagram,
    /// Stop points of this turn's messages, reached once these have left.
    reached: Vec<&'static str>,
}

struct ChildLink {
    link: ControlLink<ToBroker, FromBroker>,
    /// Waits for room to write.
    waits: bool,
}

impl Process {
    /// Over the supervisor's link; children's links come by it.
    pub fn new(control: OwnedFd) -> Result<Process, SystemError> {
        let poll = Poll::new()?;
        poll.add(&control, SUPERVISOR, Interest::Read)?;
        Ok(Process {
            poll,
            ready: Vec::new(),
            supervisor: ControlLink::new(control),
            supervisor_waits: false,
            children: BTreeMap::new(),
            unsent: BTreeSet::new(),
            machine: Machine::default(),
            datagram: Datagram::new(),
            reached: Vec::new(),
        })
    }

    /// When the next turn is due even if nobody says anything.
    pub fn next_tick(&self) -> Option<Duration> {
        self.machine.next_tick()
    }

    /// Waits until somebody says something, for so long at most.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<(), SystemError> {
        self.poll.wait(&mut self.ready, timeout)
    }

    /// Takes what was said. False when the supervisor is gone.
    pub fn take(&mut self, now: Duration) -> Result<bool, SystemError> {
        for event in std::mem::take(&mut self.ready) {
            if event.token != SUPERVISOR {
                self.on_child(event, now);
            } else if !self.on_supervisor(event, now)? {
                return Ok(false);
            }
        }
        self.machine.tick(now);
        Ok(true)
    }

    /// Says what follows.
    pub fn act(&mut self, now: Duration) -> Result<(), SystemError> {
        self.queue_actions();
        // A send may find its child dead, and then somebody waits for what follows from that.
        while self.flush(now)? {
            self.queue_actions();
        }
        self.reached.drain(..).for_each(stop_point::reach);
        Ok(())
    }

    /// False when the supervisor is gone.
    fn on_supervisor(&mut self, event: Ready, now: Duration) -> Result<bool, SystemError> {
        if !event.readable {
            return Ok(true);
        }
        let mut messages = Vec::new();
        let outcome = self
            .supervisor
            .receive(&mut self.datagram, |message, descriptors| {
                messages.push((message, descriptors));
            });
        for (message, mut descriptors) in messages {
            match message {
                SupervisorToBroker::Child { child, resumes } => {
                    if let Some(socket) = descriptors.pop() {
                        self.poll.add(&socket, child.0, Interest::Read)?;
                        let link = ControlLink::new(socket);
                        self.children
                            .insert(child, ChildLink { link, waits: false });
                        self.machine.child(child, resumes);
                    }
                }
                SupervisorToBroker::Start => self.machine.start(now),
                SupervisorToBroker::QueryStatus { query } => {
                    let totals = self.machine.totals();
                    self.supervisor
                        .send(&BrokerToSupervisor::Status { query, totals });
                }
            }
        }
        if let Err(error) = &outcome
            && !error.is_closed()
        {
            tracing::error!(%error, "the supervisor's link failed; ending, it starts another broker");
        }
        Ok(outcome.is_ok())
    }

    fn on_child(&mut self, event: Ready, now: Duration) {
        let child = ChildId(event.token);
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        if event.writable {
            self.unsent.insert(child);
        }
        if !event.readable {
            return;
        }
        let machine = &mut self.machine;
        let outcome = record
            .link
            .receive(&mut self.datagram, |message, mut descriptors| {
                match message {
                    ToBroker::Claim { .. } => stop_point::reach("broker-claim"),
                    ToBroker::PassAnswer { .. } => stop_point::reach("broker-answer"),
                    _ => {}
                }
                machine.message(child, message, descriptors.pop(), now);
            });
        if let Err(error) = outcome {
            let reason = (!error.is_closed()).then(|| error.to_string());
            self.lose(child, reason, now);
        }
    }

    /// A child's link is at its end; with a reason it is the child's fault.
    fn lose(&mut self, child: ChildId, reason: Option<String>, now: Duration) {
        self.children.remove(&child);
        self.unsent.remove(&child);
        self.machine.gone(child, now);
        if let Some(reason) = reason {
            self.supervisor
                .send(&BrokerToSupervisor::End { child, reason });
        }
    }

    fn queue_actions(&mut self) {
        for action in self.machine.actions() {
            match action {
                Action::ToChild {
                    child,
                    message,
                    connection,
                } => {
                    let Some(record) = self.children.get_mut(&child) else {
                        continue;
                    };
                    self.reached.extend(stop_point_of(&message));
                    match connection.map(|connection| duplicate(&connection)) {
                        None => record.link.send(&message),
                        Some(Some(connection)) => {
                            record.link.send_with(&message, vec![connection]);
                        }
                        // The owner is asked again when the claimant gives up and comes back.
                        Some(None) => continue,
                    }
                    self.unsent.insert(child);
                }
                Action::ToSupervisor {
                    message,
                    connection,
                } => match connection.map(|connection| duplicate(&connection)) {
                    None => self.supervisor.send(&message),
                    Some(Some(connection)) => {
                        self.supervisor.send_with(&message, vec![connection]);
                    }
                    Some(None) => {}
                },
            }
        }
    }

    /// Sends what is queued; true if a child was found dead meanwhile.
    fn flush(&mut self, now: Duration) -> Result<bool, SystemError> {
        let mut lost = Vec::new();
        for child in std::mem::take(&mut self.unsent) {
            let Some(record) = self.children.get_mut(&child) else {
                continue;
            };
            match record.link.flush() {
                Ok(done) => {
                    watch_writing(&self.poll, &record.link, child.0, &mut record.waits, !done)?;
                }
                Err(shm::link::LinkError::Closed) => lost.push((child, None)),
                Err(error) => lost.push((child, Some(error.to_string()))),
            }
        }
        let found_dead = !lost.is_empty();
        for (child, reason) in lost {
            self.lose(child, reason, now);
        }
        // A failure here shows up as the supervisor's end of file.
        let done = self.supervisor.flush().unwrap_or(true);
        watch_writing(
            &self.poll,
            &self.supervisor,
            SUPERVISOR,
            &mut self.supervisor_waits,
            !done,
        )?;
        Ok(found_dead)
    }
}

fn stop_point_of(message: &FromBroker) -> Option<&'static str> {
    match message {
        FromBroker::Pass { .. } => Some("broker-passed"),
        FromBroker::Claimed { .. } => Some("broker-claimed"),
        FromBroker::HandedOver { .. } => Some("broker-handed-over"),
        _ => None,
    }
}

fn watch_writing(
    poll: &Poll,
    link: &impl AsFd,
    token: u64,
    waits: &mut bool,
    wanted: bool,
) -> Result<(), SystemError> {
    if *waits != wanted {
        *waits = wanted;
        let interest = match wanted {
            true => Interest::ReadWrite,
            false => Interest::Read,
        };
        poll.modify(link, token, interest)?;
    }
    Ok(())
}

fn duplicate(connection: &Rc<OwnedFd>) -> Option<OwnedFd> {
    match connection.try_clone() {
        Ok(duplicate) => Some(duplicate),
        Err(error) => {
            tracing::error!(
                %error,
                "a connection can't be passed on: raise the limit of open files (ulimit -n)"
            );
            None
        }
    }
}
