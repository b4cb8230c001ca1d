//! The loop of a child: waits on one epoll, lets tasks run, pushes out what they queued.
//!
//! A turn: events → timers → tasks until none can go on → every channel and link flushed once, so
//! that all replies of a turn share system calls. The loop itself never blocks but in the wait.

use std::collections::HashMap;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::LocalPool;
use shm::SystemError;

use super::passes::Passes;
use super::patience::{Patience, Progress};
use super::{Child, ChildStart, ServerIdentity, Timers};
use crate::channel::ChannelError;
use crate::dispatch;
use crate::handlers::oplock_break;
use crate::messaging::{Broker, Supervisor, SupervisorEvent};
use crate::state::{Connection, Sessions};
use crate::stop_point;
use crate::sys::identity;
use crate::sys::memory;
use crate::sys::poll::{Interest, Poll, Ready};
use crate::sys::pool::Pool;
use crate::vfs::Transfers;

const POOL: u64 = 0;
const BROKER: u64 = 1;
const SUPERVISOR: u64 = 2;
/// Connections' tokens are their numbers above this.
const FIRST_CONNECTION: u64 = 16;

/// What an ended connection still owes must be gone by then.
const CLOSING_LIMIT: Duration = Duration::from_secs(5);
/// A loop that has had nothing to do for this long gives memory back.
const RELAXES_AFTER: Duration = Duration::from_secs(1);
/// Tasks of lost connections must have ended by then, once nothing else is served.
const TASKS_LIMIT: Duration = Duration::from_secs(30);

/// The loop and what it waits on.
pub(super) struct EventLoop {
    pub(super) child: Rc<Child>,
    executor: LocalPool,
    poll: Poll,
    served: HashMap<u64, Served>,
    broker_interest: Option<Interest>,
    supervisor_interest: Option<Interest>,
    /// Passed connections whose acceptance has not left yet.
    pub(super) passes: Passes,
    pub(super) shutdown: bool,
    /// When something last happened, until memory was given back since.
    active_since_relaxed: Option<Instant>,
}

/// A connection in the set.
struct Served {
    connection: Rc<Connection>,
    patience: Patience,
    /// Something has arrived since the last turn.
    heard_from: bool,
    interest: Interest,
    unsent: bool,
    /// Its NEGOTIATE is answered.
    negotiated: bool,
    /// Since when it is ending: what it owes is being sent, or smbdirectd lets go of its memory.
    ending_since: Option<Instant>,
    logged: bool,
}

impl EventLoop {
    pub(super) fn start(start: ChildStart) -> Result<EventLoop, SystemError> {
        if let Err(errno) = identity::give_up_resources() {
            tracing::warn!(
                "small writes may exceed a quota: a capability can't be given up ({errno})"
            );
        }
        if let Err(error) = shm::scheduling::gather_work() {
            tracing::warn!("requests of one client may be slower than they need be: {error}");
        }
        let executor = LocalPool::new();
        let processors = thread::available_parallelism().map_or(1, |count| count.get());
        let child = Rc::new(Child {
            identity: ServerIdentity::of(&start.config),
            config: start.config,
            pool: Pool::on(processors)?,
            transfers: Transfers::on(processors),
            broker: Broker::new(start.broker),
            supervisor: Supervisor::new(start.supervisor),
            interfaces: Default::default(),
            sessions: Sessions::default(),
            oplocks: Default::default(),
            timers: Timers::default(),
            region: Default::default(),
            buffers: Default::default(),
            connections: Default::default(),
            spawner: executor.spawner(),
            tasks: Default::default(),
            announced: Default::default(),
        });
        let mut event_loop = EventLoop {
            child,
            executor,
            poll: Poll::new()?,
            served: HashMap::new(),
            broker_interest: None,
            supervisor_interest: None,
            passes: Passes::default(),
            shutdown: false,
            active_since_relaxed: Some(Instant::now()),
        };
        event_loop
            .poll
            .add(event_loop.child.pool.descriptor(), POOL, Interest::Read)?;
        let connection = event_loop.child.connect(start.kind, start.connection)?;
        event_loop.serve(&connection)?;
        // The supervisor sends the list of interfaces before it orders the fork; a client that asks
        // at once must not be told that there are none.
        event_loop.supervisor_events();
        if !start.preface.is_empty() {
            event_loop.replay(&connection, &start.preface);
        }
        Ok(event_loop)
    }

    pub(super) fn run(mut self) -> i32 {
        let mut ready = Vec::new();
        let mut idle_since = None;
        loop {
            self.finish_turn();
            if self.served.is_empty() && self.passes.is_empty() {
                let now = self.child.timers.now();
                let since = *idle_since.get_or_insert(now);
                let tasks = self.child.tasks.get();
                if tasks == 0 || now.duration_since(since) > TASKS_LIMIT {
                    if tasks > 0 {
                        tracing::warn!(tasks, "ending although requests are still under way");
                    }
                    self.last_words();
                    return 0;
                }
            } else {
                idle_since = None;
            }
            let timeout = self.timeout();
            if let Err(error) = self.poll.wait(&mut ready, timeout) {
                tracing::error!(%error, "the loop can't wait for events");
                return 1;
            }
            let now = Instant::now();
            self.child.timers.fire(now);
            for event in &ready {
                self.handle(*event);
            }
            self.take_unread();
            self.child.buffers.expire(now);
            if !ready.is_empty() {
                self.active_since_relaxed = Some(now);
            } else if self
                .active_since_relaxed
                .is_some_and(|active| now >= active + RELAXES_AFTER)
            {
                self.relax();
            }
        }
    }

    /// Nothing has happened for a while: gives back all memory that waits for more to do.
    fn relax(&mut self) {
        self.active_since_relaxed = None;
        for served in self.served.values() {
            served.connection.channel.relax();
        }
        self.child.broker.relax();
        self.child.supervisor.relax();
        self.child.pool.join_ended();
        memory::trim();
        memory::forget_program();
    }

    /// Everything that follows events: tasks, limits, flushes, what to wait for next.
    fn finish_turn(&mut self) {
        self.take_accepted();
        self.executor.run_until_stalled();
        if !self.child.transfers.is_empty() {
            self.child.transfers.run();
            self.executor.run_until_stalled();
        }
        let now = self.child.timers.now();
        let tokens: Vec<u64> = self.served.keys().copied().collect();
        for token in tokens {
            self.settle(token, now);
        }
        // A connection that ended may have let tasks go on.
        self.executor.run_until_stalled();
        self.flush_links();
    }

    fn handle(&mut self, event: Ready) {
        match event.token {
            POOL => self.child.pool.complete(),
            BROKER => {
                for passed in self.child.broker.on_readable() {
                    self.judge_passed(passed);
                }
                for lost in self.child.broker.lost_sessions() {
                    self.child.end_lost(lost);
                }
                for open in self.child.broker.oplock_breaks() {
                    oplock_break::begin(&self.child, open);
                }
                if self.child.broker.with_descriptor(|_| ()).is_none() {
                    self.broker_interest = None;
                    self.give_back_accepted();
                }
            }
            SUPERVISOR => self.supervisor_events(),
            token => {
                if event.readable {
                    if let Some(served) = self.served.get_mut(&token) {
                        served.heard_from = true;
                    }
                    self.receive(token, event.hung_up);
                }
            }
        }
    }

    fn supervisor_events(&mut self) {
        for event in self.child.supervisor.on_readable() {
            match event {
                SupervisorEvent::Interfaces(list) => {
                    self.child.interfaces.replace(list);
                }
                SupervisorEvent::Broker(link) => {
                    self.give_back_accepted();
                    self.child.broker.reconnect(link);
                    self.broker_interest = None;
                }
                SupervisorEvent::QueryStatus(query) => {
                    let status = self.child.status();
                    self.child.supervisor.status(query, status);
                }
                SupervisorEvent::Shutdown => self.shut_down("the server is shutting down"),
                SupervisorEvent::Lost(error) => {
                    tracing::warn!(%error, "the supervisor is gone");
                    self.shut_down("the server has ended");
                }
            }
        }
    }

    fn shut_down(&mut self, why: &str) {
        self.shutdown = true;
        for served in self.served.values() {
            served.connection.end(why);
        }
    }

    /// Reads what another process read of a connection, as if it had just arrived.
    pub(super) fn replay(&mut self, connection: &Rc<Connection>, preface: &[u8]) {
        let child = Rc::clone(&self.child);
        let outcome = connection.channel.replay(preface, &mut |message| {
            dispatch::deliver_first(&child, connection, message);
        });
        if let Err(error) = outcome {
            connection.end(error.to_string());
        }
    }

    pub(super) fn serve(&mut self, connection: &Rc<Connection>) -> Result<(), SystemError> {
        let token = FIRST_CONNECTION + connection.id;
        self.poll
            .add(connection.channel.descriptor(), token, Interest::Read)?;
        let now = self.child.timers.now();
        self.served.insert(
            token,
            Served {
                connection: Rc::clone(connection),
                patience: Patience::begin(now, self.child.config.global.deadtime),
                heard_from: false,
                interest: Interest::Read,
                unsent: false,
                negotiated: false,
                ending_since: None,
                logged: false,
            },
        );
        Ok(())
    }

    fn receive(&mut self, token: u64, hung_up: bool) {
        let Some(served) = self.served.get(&token) else {
            return;
        };
        let connection = Rc::clone(&served.connection);
        if hung_up && !connection.channel.wants_read() {
            connection.end(ChannelError::Closed.to_string());
            self.forget(token);
            return;
        }
        let child = Rc::clone(&self.child);
        let outcome = connection
            .channel
            .receive(&mut |message| dispatch::deliver(&child, &connection, message));
        if let Err(error) = outcome {
            connection.end(error.to_string());
            if connection.channel.is_drained() {
                self.forget(token);
            }
        }
    }

    /// Messages that were read before and not taken: nothing would wake the loop for them.
    fn take_unread(&mut self) {
        let tokens: Vec<u64> = self
            .served
            .iter()
            .filter(|(_, served)| {
                served.connection.channel.has_unread() && served.connection.wants_read()
            })
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            self.receive(token, false);
        }
    }

    /// Flushes a connection, holds it to its limits, and lets it go once it has ended.
    fn settle(&mut self, token: u64, now: Instant) {
        let Some(served) = self.served.get_mut(&token) else {
            return;
        };
        let connection = Rc::clone(&served.connection);
        let channel = &connection.channel;
        let progress = served.progress();
        let silent = served.patience.is_silent(now, progress);
        if std::mem::take(&mut served.heard_from) || (silent && has_opens(&self.child, &connection))
        {
            served.patience.heard(now);
        }
        if served.ending_since.is_none()
            && let Some(limit) = served.patience.exceeded(now, progress)
        {
            connection.end(limit);
        }
        let flushed = match connection.is_handed_over() {
            true => Ok(true),
            false => channel.flush(),
        };
        served.unsent = !matches!(flushed, Ok(true));
        if !served.unsent && !served.negotiated && connection.negotiated.get().is_some() {
            served.negotiated = true;
            stop_point::reach("owner-answered");
        }
        if let Err(error) = &flushed {
            connection.end(error.to_string());
        }
        if connection.ended().is_some() {
            served.log_end();
            self.child.disconnect(&connection);
            let since = *served.ending_since.get_or_insert(now);
            let is_done = !served.unsent && channel.is_drained();
            let is_over = flushed.is_err() && channel.is_drained();
            let timed_out = now.duration_since(since) > CLOSING_LIMIT;
            if is_done || is_over || timed_out || connection.is_handed_over() {
                self.forget(token);
                return;
            }
        }
        let interest = match (served.unsent, connection.wants_read()) {
            (true, true) => Interest::ReadWrite,
            (true, false) => Interest::Write,
            (false, true) => Interest::Read,
            (false, false) => Interest::Nothing,
        };
        if interest != served.interest {
            served.interest = interest;
            if let Err(error) = self.poll.modify(channel.descriptor(), token, interest) {
                connection.end(error.to_string());
            }
        }
    }

    /// Lets a connection go: its descriptor leaves the set first, since a duplicate of it may live
    /// on elsewhere.
    fn forget(&mut self, token: u64) {
        if let Some(mut served) = self.served.remove(&token) {
            served.log_end();
            self.child.disconnect(&served.connection);
            let channel = &served.connection.channel;
            if let Err(error) = self.poll.remove(channel.descriptor()) {
                tracing::debug!(%error, "a descriptor had left the set already");
            }
            // Requests under way hold the channel; the client shall not wait for them.
            if !served.connection.is_handed_over() {
                channel.hang_up();
            }
        }
    }

    fn flush_links(&mut self) {
        let broker = match self.child.broker.flush() {
            true => Interest::Read,
            false => Interest::ReadWrite,
        };
        let poll = &self.poll;
        let known = &mut self.broker_interest;
        self.child
            .broker
            .with_descriptor(|descriptor| watch(poll, descriptor, BROKER, broker, known));
        let supervisor = match self.child.supervisor.flush() {
            true => Interest::Read,
            false => Interest::ReadWrite,
        };
        let known = &mut self.supervisor_interest;
        self.child
            .supervisor
            .with_descriptor(|descriptor| watch(poll, descriptor, SUPERVISOR, supervisor, known));
    }

    /// The last messages to broker and supervisor, as far as their sockets take them.
    fn last_words(&mut self) {
        self.child.broker.flush();
        self.child.supervisor.flush();
    }

    /// Counted from the start of the turn: a wait that is too long by a turn harms nobody.
    fn timeout(&self) -> Option<Duration> {
        let now = self.child.timers.now();
        let unread = self
            .served
            .values()
            .any(|served| served.connection.channel.has_unread() && served.connection.wants_read());
        if unread || !self.child.transfers.is_empty() {
            return Some(Duration::ZERO);
        }
        let limits = self.served.values().filter_map(Served::next_limit);
        let idle = self.served.is_empty().then(|| now + Duration::from_secs(1));
        let relaxes = self
            .active_since_relaxed
            .map(|active| active + RELAXES_AFTER);
        limits
            .chain(relaxes)
            .chain(self.child.timers.next_deadline())
            .chain(self.child.buffers.deadline())
            .chain(idle)
            .min()
            .map(|deadline| deadline.saturating_duration_since(now))
    }
}

impl Served {
    fn progress(&self) -> Progress {
        Progress {
            negotiating: self.connection.negotiating.get(),
            authenticated: self.connection.is_authenticated(),
            partial_since: self.connection.channel.partial_since(),
        }
    }

    /// The next time at which a limit may be exceeded.
    fn next_limit(&self) -> Option<Instant> {
        match self.ending_since {
            Some(since) => Some(since + CLOSING_LIMIT + Duration::from_millis(1)),
            None => self.patience.next_limit(self.progress()),
        }
    }

    /// One line per connection, saying why it ended.
    fn log_end(&mut self) {
        let connection = &self.connection;
        if std::mem::replace(&mut self.logged, true) || connection.is_handed_over() {
            return;
        }
        tracing::info!(
            peer = %connection.channel.peer(),
            transport = ?connection.channel.transport(),
            connection = connection.id,
            seconds = self.patience.age(Instant::now()).as_secs(),
            reason = connection.ended().unwrap_or("closed by the other end"),
            "connection ended"
        );
    }
}

/// Whether a session of this connection has a file open.
fn has_opens(child: &Child, connection: &Connection) -> bool {
    let sessions = child.sessions.all();
    sessions
        .iter()
        .any(|session| session.has_channel(connection.id) && !session.opens.is_empty())
}

/// Waits for a control link, which may be another descriptor than before.
fn watch(
    poll: &Poll,
    descriptor: std::os::fd::BorrowedFd<'_>,
    token: u64,
    wanted: Interest,
    known: &mut Option<Interest>,
) {
    let outcome = match *known {
        Some(interest) if interest == wanted => return,
        Some(_) => poll.modify(descriptor, token, wanted),
        None => poll.add(descriptor, token, wanted),
    };
    match outcome {
        Ok(()) => *known = Some(wanted),
        Err(error) => tracing::error!(%error, "a control link can't be waited for"),
    }
}
