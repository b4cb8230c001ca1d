//! The broker's process: one epoll loop between the control sockets and [`Machine`].
//!
//! The supervisor executes it and hands it each child's link. It drops its privileges before it
//! reads anything, opens nothing, and ends with the supervisor's link.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

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
    let poll = Poll::new()?;
    poll.add(&control, SUPERVISOR, Interest::Read)?;
    let process = Process {
        poll,
        supervisor: ControlLink::new(control),
        supervisor_waits: false,
        children: BTreeMap::new(),
        unsent: BTreeSet::new(),
        machine: Machine::default(),
        datagram: Datagram::new(),
        started: Instant::now(),
        reached: Vec::new(),
    };
    process.run()
}

struct Process {
    poll: Poll,
    supervisor: SupervisorLink,
    supervisor_waits: bool,
    children: BTreeMap<ChildId, ChildLink>,
    /// Children with something queued.
    unsent: BTreeSet<ChildId>,
    machine: Machine<OwnedFd>,
    datagram: Datagram,
    started: Instant,
    /// Stop points of this turn's messages, reached once these have left.
    reached: Vec<&'static str>,
}

struct ChildLink {
    link: ControlLink<ToBroker, FromBroker>,
    /// Waits for room to write.
    waits: bool,
}

impl Process {
    fn run(mut self) -> Result<(), SystemError> {
        let mut ready = Vec::new();
        loop {
            let now = self.started.elapsed();
            let timeout = self
                .machine
                .next_tick()
                .map(|next| next.saturating_sub(now));
            self.poll.wait(&mut ready, timeout)?;
            for &event in &ready {
                if event.token != SUPERVISOR {
                    self.on_child(event);
                } else if !self.on_supervisor(event)? {
                    return Ok(());
                }
            }
            self.machine.tick(self.started.elapsed());
            self.act();
            // A send may find its child dead, and then somebody waits for what follows from that.
            while self.flush()? {
                self.act();
            }
            self.reached.drain(..).for_each(stop_point::reach);
        }
    }

    /// False when the supervisor is gone.
    fn on_supervisor(&mut self, event: Ready) -> Result<bool, SystemError> {
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
                SupervisorToBroker::Start => self.machine.start(self.started.elapsed()),
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

    fn on_child(&mut self, event: Ready) {
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
        let now = self.started.elapsed();
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
            self.lose(child, reason);
        }
    }

    /// A child's link is at its end; with a reason it is the child's fault.
    fn lose(&mut self, child: ChildId, reason: Option<String>) {
        self.children.remove(&child);
        self.unsent.remove(&child);
        self.machine.gone(child, self.started.elapsed());
        if let Some(reason) = reason {
            self.supervisor
                .send(&BrokerToSupervisor::End { child, reason });
        }
    }

    fn act(&mut self) {
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
    fn flush(&mut self) -> Result<bool, SystemError> {
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
            self.lose(child, reason);
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
