//! A child's link to the broker: claims, passed connections, opens, turns of logons.
//!
//! Every request is kept until it is answered, and every open until it is closed, so that
//! [`Broker::reconnect`] can tell a restarted broker everything again. A pass that comes twice
//! because of that is answered and dropped: one connection is never served twice.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use futures::channel::oneshot;
use proto::control::ConnectionKind;
use proto::control::broker::{
    AttemptId, BindingConnection, ClaimId, ClaimKey, FileKey, FromBroker, LogonKey, OpenId,
    OpenMode, Oplock, PassAnswer, Refusal, ShareDenied, ToBroker,
};
use shm::link::Datagram;

use super::first_word;
use super::link::ControlLink;

mod logons;
mod opens;
mod sessions;

pub use sessions::LostSession;
use sessions::{PendingBinding, PendingEnding};

/// Passes remembered as taken; a restarted broker repeats only those it had under way.
const REMEMBERED_PASSES: usize = 64;

/// What a claim says of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    pub client_guid: [u8; 16],
    /// The dialect NEGOTIATE would choose.
    pub dialect: u16,
    pub kind: ConnectionKind,
    /// What was read: for TCP the NEGOTIATE message without its length prefix, for a relay the
    /// raw datagrams. At most `proto::control::MAX_PREFACE` bytes.
    pub preface: Vec<u8>,
}

/// A claim's outcome.
#[derive(Debug)]
pub enum Claim {
    /// This process serves the client; go on with the connection.
    Owner(OwnedFd),
    /// Another process has it, or had it and has spoken on it. Its descriptor here is closed already.
    HandedOver,
    /// Nobody may serve it; the connection is for an error reply.
    Refused(Refusal, OwnedFd),
}

/// Another connection of the client this process owns. Answer it at once.
#[derive(Debug)]
pub struct PassedConnection {
    /// For [`Broker::answer`].
    pub claim: ClaimKey,
    pub kind: ConnectionKind,
    /// The dialect its first process would choose; another one than this client's other
    /// connections have fails at SESSION_SETUP, not here (MS-SMB2 3.3.5.5).
    pub dialect: u16,
    /// To be read as if it had just arrived.
    pub preface: Vec<u8>,
    /// Where it is to be bound to a session of this process: how far it is. Then nothing else here
    /// says anything, and it is answered with [`Broker::answer_binding`].
    pub binding: Option<BindingConnection>,
    pub connection: OwnedFd,
}

/// A granted open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Names it to `close` and `set_delete_pending`.
    pub open: OpenId,
    /// Somebody, in this process or another, has the file open too.
    pub other_opens: bool,
    /// What it got of the oplock it asked for.
    pub oplock: Oplock,
}

/// What a close leaves to do.
#[derive(Debug)]
pub enum Closing {
    /// Nothing.
    Done,
    /// The file is delete-pending and this was its last open: delete it, then drop the duty.
    Delete(DeleteDuty),
}

/// This process deletes the file; nobody can open it while the duty lives.
#[derive(Debug)]
pub struct DeleteDuty {
    broker: Broker,
    open: OpenId,
}

/// The child's end; clones share it. Single-threaded.
#[derive(Debug, Clone)]
pub struct Broker {
    state: Rc<RefCell<State>>,
}

#[derive(Debug)]
struct State {
    /// None between one broker's death and the next one's link.
    link: Option<ControlLink<FromBroker, ToBroker>>,
    datagram: Datagram,
    owner: Option<Owner>,
    claims: BTreeMap<ClaimId, PendingClaim>,
    opens: BTreeMap<OpenId, OpenRecord>,
    taken: VecDeque<ClaimKey>,
    /// Sessions the broker was told of.
    sessions: BTreeSet<u64>,
    bindings: BTreeMap<ClaimId, PendingBinding>,
    endings: BTreeMap<ClaimId, PendingEnding>,
    /// Until `lost_sessions` takes them.
    lost: Vec<LostSession>,
    /// Oplocks the broker wants back, until `oplock_breaks` takes them.
    breaks: Vec<OpenId>,
    attempts: BTreeMap<AttemptId, PendingLogon>,
    next_claim: u64,
    next_open: u64,
    next_attempt: u64,
}

#[derive(Debug)]
struct PendingLogon {
    key: LogonKey,
    delay_ms: u32,
    reply: oneshot::Sender<Option<Duration>>,
}

#[derive(Debug)]
struct Owner {
    client_guid: [u8; 16],
    dialect: u16,
    channels: u32,
}

#[derive(Debug)]
struct PendingClaim {
    request: ClaimRequest,
    connection: OwnedFd,
    reply: oneshot::Sender<Claim>,
}

#[derive(Debug)]
struct OpenRecord {
    file: FileKey,
    mode: OpenMode,
    delete_pending: bool,
    phase: Phase,
    /// `SetDeletePending` requests under way, in order.
    settings: VecDeque<(bool, oneshot::Sender<()>)>,
}

#[derive(Debug)]
enum Phase {
    Opening(oneshot::Sender<Result<Grant, ShareDenied>>),
    Open,
    Closing(oneshot::Sender<Closing>),
    Deleting,
}

impl Broker {
    /// Takes this end of the link.
    pub fn new(socket: OwnedFd) -> Broker {
        let state = State {
            link: Some(ControlLink::new(socket)),
            datagram: Datagram::new(),
            owner: None,
            claims: BTreeMap::new(),
            opens: BTreeMap::new(),
            taken: VecDeque::new(),
            sessions: BTreeSet::new(),
            bindings: BTreeMap::new(),
            endings: BTreeMap::new(),
            lost: Vec::new(),
            breaks: Vec::new(),
            attempts: BTreeMap::new(),
            next_claim: 1,
            next_open: 1,
            next_attempt: 1,
        };
        Broker {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Lends the descriptor to wait on; `None` while there is no broker. It changes with
    /// [`Broker::reconnect`].
    pub fn with_descriptor<R>(&self, borrow: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        self.state
            .borrow()
            .link
            .as_ref()
            .map(|link| borrow(link.as_fd()))
    }

    /// Reads what has arrived, wakes the futures it answers, and returns connections passed to
    /// this process. A broker that is gone closes the descriptor; requests wait for the next.
    pub fn on_readable(&self) -> Vec<PassedConnection> {
        let mut messages = Vec::new();
        {
            let state = &mut *self.state.borrow_mut();
            if let Some(link) = state.link.as_mut() {
                let outcome = link.receive(&mut state.datagram, |message, descriptors| {
                    messages.push((message, descriptors));
                });
                if let Err(error) = outcome {
                    tracing::warn!(%error, "the broker is gone; requests wait for the next one");
                    state.link = None;
                }
            }
        }
        // Replies run what hangs on their receivers (a dropped one closes its open again), so
        // nothing is borrowed while they are sent.
        messages
            .into_iter()
            .filter_map(|(message, descriptors)| self.handle(message, descriptors))
            .collect()
    }

    /// Pushes out what is queued; false when the rest waits for the socket to be writable.
    /// A link that fails is noticed by the next `on_readable`.
    pub fn flush(&self) -> bool {
        match self.state.borrow_mut().link.as_mut() {
            Some(link) => link.flush().unwrap_or(true),
            None => true,
        }
    }

    /// Gives back memory that only a busy link needs.
    pub fn relax(&self) {
        self.state.borrow_mut().datagram.release();
    }

    /// Whether everything said to the broker has left: it has it, if it lives.
    pub fn is_told(&self) -> bool {
        match self.state.borrow_mut().link.as_mut() {
            Some(link) => link.flush().unwrap_or(false),
            None => false,
        }
    }

    /// Goes on with a restarted broker: it gets this process's state and every open request.
    pub fn reconnect(&self, socket: OwnedFd) {
        let state = &mut *self.state.borrow_mut();
        state.link = Some(ControlLink::new(socket));
        state.restore();
    }

    /// Asks who serves the client. Keeps the connection until the answer.
    pub fn claim(
        &self,
        request: ClaimRequest,
        connection: OwnedFd,
    ) -> impl Future<Output = Claim> + use<> {
        let (reply, answer) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let claim = ClaimId(state.next_claim);
        state.next_claim += 1;
        let pending = PendingClaim {
            request,
            connection,
            reply,
        };
        state.send_claim(claim, &pending);
        state.claims.insert(claim, pending);
        answered(answer)
    }

    /// Answers a passed connection: before it is served, so that the answer never waits for it.
    pub fn answer(&self, claim: ClaimKey, answer: PassAnswer) {
        let state = &mut *self.state.borrow_mut();
        if answer == PassAnswer::Accepted {
            state.remember(claim);
            if let Some(owner) = state.owner.as_mut() {
                owner.channels = owner.channels.saturating_add(1);
            }
        }
        state.send(&ToBroker::PassAnswer { claim, answer });
    }

    /// An acceptance did not reach the broker, which is gone: the next one asks again. `counts` is
    /// false for a connection to be bound.
    pub fn forget_pass(&self, claim: ClaimKey, counts: bool) {
        let state = &mut *self.state.borrow_mut();
        state.taken.retain(|taken| *taken != claim);
        if let Some(owner) = state.owner.as_mut().filter(|_| counts) {
            owner.channels = owner.channels.saturating_sub(1);
        }
    }

    /// One of the client's connections (claimed or passed) ended.
    pub fn channel_closed(&self) {
        let state = &mut *self.state.borrow_mut();
        if let Some(owner) = state.owner.as_mut().filter(|owner| owner.channels > 0) {
            owner.channels -= 1;
            state.send(&ToBroker::ChannelClosed);
        }
    }

    /// Connections that the broker counts for this process's client.
    pub fn channels(&self) -> u32 {
        let state = self.state.borrow();
        state.owner.as_ref().map_or(0, |owner| owner.channels)
    }

    fn handle(
        &self,
        message: FromBroker,
        mut descriptors: Vec<OwnedFd>,
    ) -> Option<PassedConnection> {
        match message {
            FromBroker::Claimed { claim } => {
                let (connection, reply) = {
                    let state = &mut *self.state.borrow_mut();
                    let pending = state.claims.remove(&claim)?;
                    match state.owner.as_mut() {
                        Some(owner) => owner.channels = owner.channels.saturating_add(1),
                        None => {
                            state.owner = Some(Owner {
                                client_guid: pending.request.client_guid,
                                dialect: pending.request.dialect,
                                channels: 1,
                            });
                        }
                    }
                    (pending.connection, pending.reply)
                };
                // An owner before this one may have spoken, and it and its broker may have died.
                let outcome = match first_word::take(&connection) {
                    true => Claim::Owner(connection),
                    false => {
                        self.channel_closed();
                        Claim::HandedOver
                    }
                };
                let _ = reply.send(outcome);
            }
            FromBroker::HandedOver { claim } => {
                let binding = self.state.borrow_mut().bindings.remove(&claim);
                if let Some(binding) = binding {
                    let _ = binding.reply.send(Claim::HandedOver);
                    return None;
                }
                let pending = self.state.borrow_mut().claims.remove(&claim)?;
                drop(pending.connection);
                let _ = pending.reply.send(Claim::HandedOver);
            }
            FromBroker::Refused { claim, reason } => {
                let binding = self.state.borrow_mut().bindings.remove(&claim);
                if let Some(binding) = binding {
                    binding.refused(reason);
                    return None;
                }
                let pending = self.state.borrow_mut().claims.remove(&claim)?;
                let outcome = match first_word::take(&pending.connection) {
                    true => Claim::Refused(reason, pending.connection),
                    false => Claim::HandedOver,
                };
                let _ = pending.reply.send(outcome);
            }
            FromBroker::Pass {
                claim,
                kind,
                dialect,
                preface,
            } => {
                let connection = descriptors.pop()?;
                let state = &mut *self.state.borrow_mut();
                if state.taken.contains(&claim) {
                    let answer = PassAnswer::Accepted;
                    state.send(&ToBroker::PassAnswer { claim, answer });
                    return None;
                }
                return Some(PassedConnection {
                    claim,
                    kind,
                    dialect,
                    preface,
                    binding: None,
                    connection,
                });
            }
            FromBroker::PassBinding {
                claim,
                connection: binding,
            } => {
                let connection = descriptors.pop()?;
                if self.state.borrow().taken.contains(&claim) {
                    self.answer_binding(claim, PassAnswer::Accepted);
                    return None;
                }
                return Some(PassedConnection {
                    claim,
                    kind: ConnectionKind::Tcp,
                    dialect: 0,
                    preface: Vec::new(),
                    binding: Some(binding),
                    connection,
                });
            }
            FromBroker::EndSession {
                claim,
                session,
                user,
                uid,
            } => self.state.borrow_mut().lost.push(LostSession {
                claim,
                session,
                user,
                uid,
            }),
            FromBroker::PreviousEnded { claim } => {
                let pending = self.state.borrow_mut().endings.remove(&claim)?;
                let _ = pending.reply.send(());
            }
            FromBroker::BreakOplock { open } => self.state.borrow_mut().breaks.push(open),
            FromBroker::Granted {
                open,
                other_opens,
                oplock,
            } => {
                let reply = {
                    let state = &mut *self.state.borrow_mut();
                    let record = state.opens.get_mut(&open)?;
                    record.mode.oplock = oplock;
                    match std::mem::replace(&mut record.phase, Phase::Open) {
                        Phase::Opening(reply) => reply,
                        other => {
                            record.phase = other;
                            return None;
                        }
                    }
                };
                let grant = Grant {
                    open,
                    other_opens,
                    oplock,
                };
                if reply.send(Ok(grant)).is_err() {
                    drop(self.close(open));
                }
            }
            FromBroker::Denied { open, reason } => {
                let record = self.state.borrow_mut().opens.remove(&open)?;
                if let Phase::Opening(reply) = record.phase {
                    let _ = reply.send(Err(reason));
                }
            }
            FromBroker::LogonTurn { attempt, wait_ms } => {
                let pending = self.state.borrow_mut().attempts.remove(&attempt)?;
                let wait = wait_ms.map(|wait| Duration::from_millis(wait.into()));
                let _ = pending.reply.send(wait);
            }
            FromBroker::DeletePendingSet { open } => {
                let (_, reply) = {
                    let state = &mut *self.state.borrow_mut();
                    state.opens.get_mut(&open)?.settings.pop_front()?
                };
                let _ = reply.send(());
            }
            FromBroker::DeletePending { open, on } => {
                let state = &mut *self.state.borrow_mut();
                state.opens.get_mut(&open)?.delete_pending = on;
            }
            FromBroker::Closed { open, delete } => {
                let reply = {
                    let state = &mut *self.state.borrow_mut();
                    let record = state.opens.get_mut(&open)?;
                    let phase = std::mem::replace(&mut record.phase, Phase::Deleting);
                    if !delete {
                        state.opens.remove(&open);
                    }
                    match phase {
                        Phase::Closing(reply) => reply,
                        _ => return None,
                    }
                };
                let _ = reply.send(match delete {
                    true => Closing::Delete(DeleteDuty {
                        broker: self.clone(),
                        open,
                    }),
                    false => Closing::Done,
                });
            }
        }
        None
    }
}

impl State {
    fn remember(&mut self, claim: ClaimKey) {
        if self.taken.len() == REMEMBERED_PASSES {
            self.taken.pop_front();
        }
        self.taken.push_back(claim);
    }

    fn send(&mut self, message: &ToBroker) {
        if let Some(link) = self.link.as_mut() {
            link.send(message);
        }
    }

    /// Sends a duplicate of the connection, so that the claim can be sent again.
    fn send_claim(&mut self, claim: ClaimId, pending: &PendingClaim) {
        let Some(link) = self.link.as_mut() else {
            return;
        };
        let message = ToBroker::Claim {
            claim,
            client_guid: pending.request.client_guid,
            dialect: pending.request.dialect,
            kind: pending.request.kind,
            preface: pending.request.preface.clone(),
        };
        match pending.connection.try_clone() {
            Ok(duplicate) => link.send_with(&message, vec![duplicate]),
            Err(error) => tracing::error!(
                %error,
                "can't duplicate a connection for the broker: raise the limit of open files"
            ),
        }
    }

    fn restore(&mut self) {
        self.opens
            .retain(|_, record| !matches!(record.phase, Phase::Deleting));
        let mut messages = Vec::new();
        if let Some(owner) = &self.owner {
            messages.push(ToBroker::OwnerState {
                client_guid: owner.client_guid,
                dialect: owner.dialect,
                channels: owner.channels,
            });
        }
        let mut requests = Vec::new();
        for (&open, record) in &self.opens {
            let (file, mode) = (record.file, record.mode);
            if matches!(record.phase, Phase::Opening(_)) {
                requests.push(ToBroker::Open { open, file, mode });
                continue;
            }
            messages.push(ToBroker::OpenState {
                open,
                file,
                mode,
                delete_pending: record.delete_pending,
            });
            let settings = record.settings.iter();
            requests.extend(settings.map(|&(on, _)| ToBroker::SetDeletePending { open, on }));
            if matches!(record.phase, Phase::Closing(_)) {
                requests.push(ToBroker::Close { open });
            }
        }
        messages.push(ToBroker::Restored);
        requests.extend(
            self.attempts
                .iter()
                .map(|(&attempt, pending)| ToBroker::Logon {
                    attempt,
                    key: pending.key,
                    delay_ms: pending.delay_ms,
                }),
        );
        messages
            .iter()
            .chain(&requests)
            .for_each(|message| self.send(message));
        let claims = std::mem::take(&mut self.claims);
        for (&claim, pending) in &claims {
            self.send_claim(claim, pending);
        }
        self.claims = claims;
        self.restore_sessions();
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Waits for an answer. The sender is dropped only with the whole [`Broker`], at the process's
/// end, when nobody is left to be answered.
async fn answered<T>(answer: oneshot::Receiver<T>) -> T {
    match answer.await {
        Ok(value) => value,
        Err(oneshot::Canceled) => std::future::pending().await,
    }
}
