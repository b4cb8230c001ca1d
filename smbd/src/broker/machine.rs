//! The broker's decisions: messages and deaths in, actions out. No I/O, no clock.
//!
//! `C` is a connection's descriptor, or whatever a test uses for one. Which message is allowed
//! when stands in [`Machine::message`]; a child that breaks it is reported once and ignored from
//! then on. Times are since an arbitrary start.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use proto::control::broker::{BrokerToSupervisor, BrokerTotals, ClaimKey, FromBroker, ToBroker};
use proto::control::{ChildId, MAX_PREFACE};

use super::clients::{Claimed, ClientOffence, Clients, SILENT};
use super::files::{FileOffence, Files};
use super::logons::Logons;
use super::sessions::Sessions;

/// Requests of one child kept while a restarted broker waits for the others' state.
const MAX_HELD: u32 = 1024;
/// How long a restarted broker waits for children to send their state.
pub const RESTORE_LIMIT: Duration = Duration::from_secs(2);

/// What is to be done for the machine.
#[derive(Debug)]
pub enum Action<C> {
    ToChild {
        child: ChildId,
        message: FromBroker,
        /// A duplicate of it goes along.
        connection: Option<Rc<C>>,
    },
    ToSupervisor {
        message: BrokerToSupervisor,
        /// A duplicate of it goes along.
        connection: Option<Rc<C>>,
    },
}

/// The broker.
#[derive(Debug)]
pub struct Machine<C> {
    children: BTreeMap<ChildId, Child>,
    clients: Clients<C>,
    files: Files,
    logons: Logons,
    sessions: Sessions,
    service: Service,
    /// When children that have not sent their state by then are ended.
    overdue: Option<Duration>,
    /// Requests that came before [`Service::Running`].
    held: VecDeque<(ChildId, ToBroker, Option<C>)>,
    actions: Vec<Action<C>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Child {
    phase: ChildPhase,
    /// Its requests among those held.
    held: u32,
}

/// What a child may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChildPhase {
    /// Its state of before, then `Restored`.
    Restoring,
    /// Requests.
    Requesting,
    /// Nothing: it broke the rules and is about to be ended.
    Ignored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    /// The supervisor still names children.
    Starting,
    /// Children send their state, at most until then.
    Restoring(Duration),
    Running,
}

/// What a child did that it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Offence {
    #[error("a message it may not send now")]
    OutOfTurn,
    #[error("more requests than it can have under way")]
    TooMuch,
    #[error("a preface over the limit, or a message without its descriptor")]
    Malformed,
    #[error("{0}")]
    Client(#[from] ClientOffence),
    #[error("{0}")]
    File(#[from] FileOffence),
}

impl<C> Action<C> {
    /// A message alone.
    pub fn child(child: ChildId, message: FromBroker) -> Action<C> {
        Action::ToChild {
            child,
            message,
            connection: None,
        }
    }

    /// A message alone.
    pub fn supervisor(message: BrokerToSupervisor) -> Action<C> {
        Action::ToSupervisor {
            message,
            connection: None,
        }
    }
}

impl<C> Default for Machine<C> {
    fn default() -> Self {
        Machine {
            children: BTreeMap::new(),
            clients: Clients::default(),
            files: Files::default(),
            logons: Logons::default(),
            sessions: Sessions::default(),
            service: Service::Starting,
            overdue: None,
            held: VecDeque::new(),
            actions: Vec::new(),
        }
    }
}

impl<C> Machine<C> {
    /// The supervisor names a child; one that resumes sends its state first.
    pub fn child(&mut self, child: ChildId, resumes: bool) {
        let phase = match resumes {
            true => ChildPhase::Restoring,
            false => ChildPhase::Requesting,
        };
        self.children.insert(child, Child { phase, held: 0 });
    }

    /// The supervisor has named every child there was.
    pub fn start(&mut self, now: Duration) {
        if self.service == Service::Starting {
            self.service = Service::Restoring(now.saturating_add(RESTORE_LIMIT));
            self.overdue = Some(now.saturating_add(SILENT));
            self.run_if_restored(now);
        }
    }

    /// A message of a child, with the connection it carries.
    pub fn message(
        &mut self,
        child: ChildId,
        message: ToBroker,
        connection: Option<C>,
        now: Duration,
    ) {
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        let outcome = match (record.phase, message) {
            (ChildPhase::Ignored, _) => Ok(()),
            (
                ChildPhase::Restoring,
                ToBroker::OwnerState {
                    client_guid,
                    channels,
                    ..
                },
            ) => {
                if !self.clients.restore(child, client_guid, channels) {
                    let text = format!(
                        "child {} and another serve the same client; new connections go to the \
                         other",
                        child.0
                    );
                    let problem = BrokerToSupervisor::Problem { text };
                    self.actions.push(Action::supervisor(problem));
                }
                Ok(())
            }
            (
                ChildPhase::Restoring,
                ToBroker::OpenState {
                    open,
                    file,
                    mode,
                    delete_pending,
                },
            ) => self
                .files
                .restore(child, open, file, mode, delete_pending)
                .map_err(Offence::from),
            (ChildPhase::Restoring, ToBroker::Restored) => {
                record.phase = ChildPhase::Requesting;
                self.run_if_restored(now);
                Ok(())
            }
            (
                ChildPhase::Requesting,
                ToBroker::OwnerState { .. } | ToBroker::OpenState { .. } | ToBroker::Restored,
            )
            | (ChildPhase::Restoring, _) => Err(Offence::OutOfTurn),
            (ChildPhase::Requesting, request) if self.service == Service::Running => {
                self.request(child, request, connection, now)
            }
            (ChildPhase::Requesting, _) if record.held >= MAX_HELD => Err(Offence::TooMuch),
            (ChildPhase::Requesting, request) => {
                record.held += 1;
                self.held.push_back((child, request, connection));
                Ok(())
            }
        };
        self.settle(child, outcome, now);
    }

    /// A child's link is at its end.
    pub fn gone(&mut self, child: ChildId, now: Duration) {
        if self.children.remove(&child).is_some() {
            self.release(child, now);
            self.run_if_restored(now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        if let Service::Restoring(until) = self.service
            && now >= until
        {
            let text = "a child has not sent its state to the restarted broker; share modes of \
                        its open files are not checked until it does";
            let problem = BrokerToSupervisor::Problem { text: text.into() };
            self.actions.push(Action::supervisor(problem));
            self.run(now);
        }
        if self.overdue.is_some_and(|overdue| now >= overdue) {
            self.overdue = None;
            self.end_overdue(now);
        }
        self.clients.tick(now, &mut self.actions);
    }

    /// When `tick` is due.
    pub fn next_tick(&self) -> Option<Duration> {
        let restored = match self.service {
            Service::Restoring(until) => Some(until),
            _ => None,
        };
        let overdue = self.overdue.filter(|_| self.is_restoring());
        [restored, overdue, self.clients.next_tick()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is to be done, in order.
    pub fn actions(&mut self) -> Vec<Action<C>> {
        std::mem::take(&mut self.actions)
    }

    /// What it holds.
    pub fn totals(&self) -> BrokerTotals {
        let ((clients, passes), (opens, files)) = (self.clients.counts(), self.files.counts());
        let [clients, passes, opens, files] =
            [clients, passes, opens, files].map(|count| count as u64);
        BrokerTotals {
            clients,
            passes,
            opens,
            files,
        }
    }

    fn request(
        &mut self,
        child: ChildId,
        request: ToBroker,
        connection: Option<C>,
        now: Duration,
    ) -> Result<(), Offence> {
        let mut answers = Vec::new();
        match request {
            ToBroker::Claim {
                claim,
                client_guid,
                dialect,
                kind,
                preface,
            } => {
                let connection = connection
                    .filter(|_| preface.len() <= MAX_PREFACE)
                    .ok_or(Offence::Malformed)?;
                let claimed = Claimed {
                    key: ClaimKey { child, claim },
                    client_guid,
                    dialect,
                    kind,
                    preface,
                    connection,
                };
                self.clients.claim(claimed, now, &mut self.actions)?;
            }
            ToBroker::PassAnswer { claim, answer } => {
                match self.sessions.answer(child, claim, answer) {
                    Some(action) => self.actions.push(action),
                    None => {
                        self.clients
                            .answer(child, claim, answer, now, &mut self.actions)?;
                    }
                }
            }
            ToBroker::SessionOpened { session } => self.sessions.opened(child, session),
            ToBroker::SessionClosed { session } => self.sessions.closed(child, session),
            ToBroker::Bind {
                claim,
                session,
                connection: state,
            } => {
                let connection = connection
                    .filter(|_| state.negotiate.len() + state.request.len() <= MAX_PREFACE)
                    .ok_or(Offence::Malformed)?;
                let key = ClaimKey { child, claim };
                let actions = &mut self.actions;
                self.sessions.bind(key, session, state, connection, actions);
            }
            ToBroker::EndPrevious {
                claim,
                session,
                user,
                uid,
            } => {
                let key = ClaimKey { child, claim };
                self.sessions
                    .end(key, session, user, uid, &mut self.actions);
            }
            ToBroker::SessionEnded { claim } => {
                // A broker restarted meanwhile knows of no question, and the asker asks again.
                self.actions.extend(self.sessions.ended(child, claim));
            }
            ToBroker::ChannelClosed => self.clients.channel_closed(child)?,
            ToBroker::Open { open, file, mode } => {
                self.files.open(child, open, file, mode, &mut answers)?;
            }
            ToBroker::OplockReleased { open } => {
                self.files.release_oplock(child, open, &mut answers)?;
            }
            ToBroker::SetDeletePending { open, on } => {
                self.files
                    .set_delete_pending(child, open, on, &mut answers)?;
            }
            ToBroker::Close { open } => self.files.close(child, open, &mut answers)?,
            ToBroker::Deleted { open } => self.files.deleted(child, open)?,
            ToBroker::Logon {
                attempt,
                key,
                delay_ms,
            } => {
                let delay = Duration::from_millis(delay_ms.into());
                let wait = self.logons.turn(&key, delay, now);
                let wait_ms = wait.map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
                answers.push((child, FromBroker::LogonTurn { attempt, wait_ms }));
            }
            ToBroker::LoggedOn { key, delay_ms } => {
                let delay = Duration::from_millis(delay_ms.into());
                self.logons.succeeded(&key, delay);
            }
            ToBroker::OwnerState { .. } | ToBroker::OpenState { .. } | ToBroker::Restored => {
                return Err(Offence::OutOfTurn);
            }
        }
        self.answer(answers);
        Ok(())
    }

    /// Ends a child that broke the rules; it holds nothing from now on.
    fn settle(&mut self, child: ChildId, outcome: Result<(), Offence>, now: Duration) {
        let Err(offence) = outcome else {
            return;
        };
        if let Some(record) = self.children.get_mut(&child) {
            record.phase = ChildPhase::Ignored;
        }
        self.release(child, now);
        let end = BrokerToSupervisor::End {
            child,
            reason: format!("it sent the broker {offence}"),
        };
        self.actions.push(Action::supervisor(end));
        self.run_if_restored(now);
    }

    fn release(&mut self, child: ChildId, now: Duration) {
        self.held.retain(|(sender, ..)| *sender != child);
        let mut answers = Vec::new();
        self.files.release(child, &mut answers);
        self.answer(answers);
        self.clients.release(child, now, &mut self.actions);
        self.sessions.release(child, &mut self.actions);
    }

    fn answer(&mut self, answers: Vec<(ChildId, FromBroker)>) {
        let actions = answers
            .into_iter()
            .map(|(child, message)| Action::child(child, message));
        self.actions.extend(actions);
    }

    /// A child whose loop runs has sent its state long ago. One that hangs may hold what others wait
    /// for: a connection the broker before passed to it, an open that nobody is checked against.
    fn end_overdue(&mut self, now: Duration) {
        let restoring = |record: &Child| record.phase == ChildPhase::Restoring;
        let overdue: Vec<ChildId> = self
            .children
            .iter()
            .filter(|(_, record)| restoring(record))
            .map(|(&child, _)| child)
            .collect();
        for child in overdue {
            if let Some(record) = self.children.get_mut(&child) {
                record.phase = ChildPhase::Ignored;
            }
            self.release(child, now);
            let reason = "it has not sent its state to the restarted broker".to_owned();
            let end = BrokerToSupervisor::End { child, reason };
            self.actions.push(Action::supervisor(end));
        }
    }

    fn is_restoring(&self) -> bool {
        let mut children = self.children.values();
        children.any(|record| record.phase == ChildPhase::Restoring)
    }

    fn run_if_restored(&mut self, now: Duration) {
        if matches!(self.service, Service::Restoring(_)) && !self.is_restoring() {
            self.run(now);
        }
    }

    fn run(&mut self, now: Duration) {
        self.service = Service::Running;
        while let Some((child, request, connection)) = self.held.pop_front() {
            let outcome = match self.children.get(&child).map(|record| record.phase) {
                Some(ChildPhase::Requesting) => self.request(child, request, connection, now),
                _ => Ok(()),
            };
            self.settle(child, outcome, now);
        }
    }
}
