//! Sessions at the broker, for clients that come back under another ClientGuid: connections to be
//! bound to another process's session, and lost sessions of other processes.

use std::future::Future;
use std::os::fd::OwnedFd;

use futures::channel::oneshot;
use proto::control::broker::{BindingConnection, ClaimId, ClaimKey, PassAnswer, ToBroker};

use super::{Broker, Claim, State, answered};

/// A session of this process that its user has lost, as another process was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostSession {
    /// For [`Broker::session_ended`].
    pub claim: ClaimKey,
    pub session: u64,
    /// Only this user's session ends.
    pub user: String,
    pub uid: u32,
}

#[derive(Debug)]
pub(super) struct PendingBinding {
    session: u64,
    state: BindingConnection,
    connection: OwnedFd,
    pub(super) reply: oneshot::Sender<Claim>,
}

#[derive(Debug)]
pub(super) struct PendingEnding {
    session: u64,
    user: String,
    uid: u32,
    pub(super) reply: oneshot::Sender<()>,
}

impl Broker {
    /// A user has logged on.
    pub fn session_opened(&self, session: u64) {
        let state = &mut *self.state.borrow_mut();
        state.sessions.insert(session);
        state.send(&ToBroker::SessionOpened { session });
    }

    /// A session is over.
    pub fn session_closed(&self, session: u64) {
        let state = &mut *self.state.borrow_mut();
        if state.sessions.remove(&session) {
            state.send(&ToBroker::SessionClosed { session });
        }
    }

    /// Offers a connection to the process that has the session. Keeps it until the answer.
    pub fn bind(
        &self,
        session: u64,
        binding: BindingConnection,
        connection: OwnedFd,
    ) -> impl Future<Output = Claim> + use<> {
        let (reply, answer) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let claim = state.fresh_claim();
        let pending = PendingBinding {
            session,
            state: binding,
            connection,
            reply,
        };
        state.send_binding(claim, &pending);
        state.bindings.insert(claim, pending);
        answered(answer)
    }

    /// Ends a session of another process, if it is this user's, and waits until its files are closed.
    pub fn end_previous(
        &self,
        session: u64,
        user: String,
        uid: u32,
    ) -> impl Future<Output = ()> + use<> {
        let (reply, answer) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let claim = state.fresh_claim();
        let pending = PendingEnding {
            session,
            user,
            uid,
            reply,
        };
        state.send_ending(claim, &pending);
        state.endings.insert(claim, pending);
        answered(answer)
    }

    /// Lost sessions, as told since the last call.
    pub fn lost_sessions(&self) -> Vec<LostSession> {
        std::mem::take(&mut self.state.borrow_mut().lost)
    }

    /// A lost session is over, or was not this user's.
    pub fn session_ended(&self, claim: ClaimKey) {
        let message = ToBroker::SessionEnded { claim };
        self.state.borrow_mut().send(&message);
    }

    /// Answers a connection to be bound. It counts for nobody's ClientGuid.
    pub fn answer_binding(&self, claim: ClaimKey, answer: PassAnswer) {
        let state = &mut *self.state.borrow_mut();
        if answer == PassAnswer::Accepted {
            state.remember(claim);
        }
        state.send(&ToBroker::PassAnswer { claim, answer });
    }
}

impl State {
    /// Tells a restarted broker everything again.
    pub(super) fn restore_sessions(&mut self) {
        let sessions: Vec<u64> = self.sessions.iter().copied().collect();
        for session in sessions {
            self.send(&ToBroker::SessionOpened { session });
        }
        let endings = std::mem::take(&mut self.endings);
        for (&claim, pending) in &endings {
            self.send_ending(claim, pending);
        }
        self.endings = endings;
        let bindings = std::mem::take(&mut self.bindings);
        for (&claim, pending) in &bindings {
            self.send_binding(claim, pending);
        }
        self.bindings = bindings;
    }

    fn fresh_claim(&mut self) -> ClaimId {
        let claim = ClaimId(self.next_claim);
        self.next_claim += 1;
        claim
    }

    fn send_ending(&mut self, claim: ClaimId, pending: &PendingEnding) {
        self.send(&ToBroker::EndPrevious {
            claim,
            session: pending.session,
            user: pending.user.clone(),
            uid: pending.uid,
        });
    }

    fn send_binding(&mut self, claim: ClaimId, pending: &PendingBinding) {
        let Some(link) = self.link.as_mut() else {
            return;
        };
        let message = ToBroker::Bind {
            claim,
            session: pending.session,
            connection: pending.state.clone(),
        };
        match pending.connection.try_clone() {
            Ok(duplicate) => link.send_with(&message, vec![duplicate]),
            Err(error) => tracing::error!(
                %error,
                "can't duplicate a connection for the broker: raise the limit of open files"
            ),
        }
    }
}

impl PendingBinding {
    /// Gives the connection back with the answer.
    pub(super) fn refused(self, reason: proto::control::broker::Refusal) {
        let _ = self.reply.send(Claim::Refused(reason, self.connection));
    }
}
