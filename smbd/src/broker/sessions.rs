//! Which child has which session (GlobalSessionTable, MS-SMB2 3.3.1.5): a client that says another
//! ClientGuid than before finds its sessions all the same.
//!
//! A connection to be bound goes to the session's child like any other pass; who says a session's
//! number proves nothing, and the child that has it checks everything. A session whose child dies
//! is over, and whoever waits for an answer of that child is answered.

use std::collections::BTreeMap;
use std::rc::Rc;

use proto::control::ChildId;
use proto::control::broker::{BindingConnection, ClaimKey, FromBroker, PassAnswer, Refusal};

use super::machine::Action;

/// Sessions of one child: a few more than it ever has.
const MAX_SESSIONS: usize = 8192;

/// The sessions of every child.
#[derive(Debug, Default)]
pub struct Sessions {
    owners: BTreeMap<u64, ChildId>,
    counts: BTreeMap<ChildId, usize>,
    /// What a child was asked and has not answered.
    asked: BTreeMap<ClaimKey, (ChildId, Question)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Binding,
    Ending,
}

impl Sessions {
    /// A child has a session. Of two with one number, the second is not found from elsewhere.
    pub fn opened(&mut self, child: ChildId, session: u64) {
        let count = self.counts.entry(child).or_default();
        if *count < MAX_SESSIONS && !self.owners.contains_key(&session) {
            *count += 1;
            self.owners.insert(session, child);
        }
    }

    /// A session is over.
    pub fn closed(&mut self, child: ChildId, session: u64) {
        if self.owners.get(&session) == Some(&child) {
            self.owners.remove(&session);
            if let Some(count) = self.counts.get_mut(&child) {
                *count -= 1;
            }
        }
    }

    /// A connection wants to be a channel of a session.
    pub fn bind<C>(
        &mut self,
        key: ClaimKey,
        session: u64,
        state: BindingConnection,
        connection: C,
        actions: &mut Vec<Action<C>>,
    ) {
        match self.owners.get(&session) {
            Some(&owner) if owner != key.child => {
                self.asked.insert(key, (owner, Question::Binding));
                actions.push(Action::ToChild {
                    child: owner,
                    message: FromBroker::PassBinding {
                        claim: key,
                        connection: state,
                    },
                    connection: Some(Rc::new(connection)),
                });
            }
            _ => actions.push(refused(key, Refusal::NoSession)),
        }
    }

    /// A child's answer to a pass; `None` if the pass was not one of these.
    pub fn answer<C>(
        &mut self,
        child: ChildId,
        key: ClaimKey,
        answer: PassAnswer,
    ) -> Option<Action<C>> {
        if self.asked.get(&key) != Some(&(child, Question::Binding)) {
            return None;
        }
        self.asked.remove(&key);
        Some(match answer {
            PassAnswer::Accepted => {
                let claim = key.claim;
                Action::child(key.child, FromBroker::HandedOver { claim })
            }
            PassAnswer::Refused(reason) => refused(key, reason),
        })
    }

    /// A user has lost a session.
    pub fn end<C>(
        &mut self,
        key: ClaimKey,
        session: u64,
        user: String,
        uid: u32,
        actions: &mut Vec<Action<C>>,
    ) {
        match self.owners.get(&session) {
            Some(&owner) if owner != key.child => {
                self.asked.insert(key, (owner, Question::Ending));
                let message = FromBroker::EndSession {
                    claim: key,
                    session,
                    user,
                    uid,
                };
                actions.push(Action::child(owner, message));
            }
            _ => actions.push(previous_ended(key)),
        }
    }

    /// A child has dealt with a lost session; `None` if it was not asked to.
    pub fn ended<C>(&mut self, child: ChildId, key: ClaimKey) -> Option<Action<C>> {
        if self.asked.get(&key) != Some(&(child, Question::Ending)) {
            return None;
        }
        self.asked.remove(&key);
        Some(previous_ended(key))
    }

    /// A child died.
    pub fn release<C>(&mut self, child: ChildId, actions: &mut Vec<Action<C>>) {
        if self.counts.remove(&child).is_some() {
            self.owners.retain(|_, owner| *owner != child);
        }
        self.asked.retain(|key, (owner, question)| {
            if *owner == child && key.child != child {
                actions.push(match question {
                    Question::Binding => refused(*key, Refusal::NoSession),
                    Question::Ending => previous_ended(*key),
                });
            }
            *owner != child
        });
    }
}

fn refused<C>(key: ClaimKey, reason: Refusal) -> Action<C> {
    let claim = key.claim;
    Action::child(key.child, FromBroker::Refused { claim, reason })
}

fn previous_ended<C>(key: ClaimKey) -> Action<C> {
    let claim = key.claim;
    Action::child(key.child, FromBroker::PreviousEnded { claim })
}
