//! Connections that the broker passes to this process: judged, told of, and only then served.
//!
//! The broker keeps its duplicate until it has the answer, and gives the connection to somebody else
//! if this process dies first. So nothing is said to the client before the answer has left.

use proto::control::broker::{PassAnswer, Refusal};

use super::event_loop::EventLoop;
use crate::broker::clients::MAX_CONNECTIONS;
use crate::dispatch;
use crate::messaging::{Broker, PassedConnection, first_word};
use crate::stop_point;

/// Of a client's connections, those on which no session is authenticated yet.
pub const MAX_UNAUTHENTICATED: usize = 16;

/// Connections that were taken and are not served yet: the broker has not been told.
#[derive(Debug, Default)]
pub struct Passes {
    accepted: Vec<PassedConnection>,
}

/// What a process has, those it took and does not serve yet included.
#[derive(Debug, Clone, Copy)]
pub struct Occupancy {
    pub connections: usize,
    /// Nobody has logged on over these.
    pub unauthenticated: usize,
    /// It is about to end.
    pub ending: bool,
}

impl Occupancy {
    /// Whether another connection is taken. A process whose last connection has just ended takes it
    /// too: a client that reconnects must not find a closed door.
    pub fn judge(self) -> PassAnswer {
        if self.ending {
            PassAnswer::Refused(Refusal::Ending)
        } else if self.connections >= MAX_CONNECTIONS as usize {
            PassAnswer::Refused(Refusal::TooManyConnections)
        } else if self.unauthenticated >= MAX_UNAUTHENTICATED {
            PassAnswer::Refused(Refusal::TooManyUnauthenticated)
        } else {
            PassAnswer::Accepted
        }
    }
}

impl Passes {
    /// How many wait to be served.
    pub fn len(&self) -> usize {
        self.accepted.len()
    }

    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    /// Answers a passed connection, and keeps one that is taken.
    pub fn answer(&mut self, broker: &Broker, passed: PassedConnection, answer: PassAnswer) {
        match passed.binding {
            Some(_) => broker.answer_binding(passed.claim, answer),
            None => broker.answer(passed.claim, answer),
        }
        if let PassAnswer::Refused(reason) = answer {
            tracing::warn!(%reason, "a connection passed to this process is refused");
            return;
        }
        self.accepted.push(passed);
    }

    /// Gives out what is to be served, once the broker has been told, not before: if this process dies
    /// after the first word to the client, nobody else may say it again.
    pub fn told(&mut self, broker: &Broker) -> Vec<PassedConnection> {
        if self.accepted.is_empty() || !broker.is_told() {
            return Vec::new();
        }
        stop_point::reach("owner-accepted");
        let mut served = std::mem::take(&mut self.accepted);
        // One to be bound has been spoken on, by the process that answered its NEGOTIATE.
        served.retain(|passed| {
            let silent = passed.binding.is_some() || first_word::take(&passed.connection);
            if !silent {
                tracing::warn!("a connection whose process died behind its first word is closed");
                broker.channel_closed();
            }
            silent
        });
        served
    }

    /// The broker died before it was told: the next one passes these connections again.
    pub fn give_back(&mut self, broker: &Broker) {
        for passed in self.accepted.drain(..) {
            let counts = passed.binding.is_none();
            broker.forget_pass(passed.claim, counts);
        }
    }
}

impl EventLoop {
    pub(super) fn judge_passed(&mut self, passed: PassedConnection) {
        stop_point::reach("owner-pass");
        let accepted = self.passes.len();
        let answer = match &passed.binding {
            Some(binding) => self.child.judge_binding(binding, accepted, self.shutdown),
            None => self.child.occupancy(accepted, self.shutdown).judge(),
        };
        self.passes.answer(&self.child.broker, passed, answer);
        self.take_accepted();
    }

    /// Serves what may be served.
    pub(super) fn take_accepted(&mut self) {
        for passed in self.passes.told(&self.child.broker) {
            self.take_passed(passed);
        }
    }

    pub(super) fn give_back_accepted(&mut self) {
        self.passes.give_back(&self.child.broker);
    }

    fn take_passed(&mut self, passed: PassedConnection) {
        let connected = self.child.connect(passed.kind, passed.connection);
        let served = connected.and_then(|connection| {
            connection.claimed.set(passed.binding.is_none());
            self.serve(&connection).map(|()| connection)
        });
        match (served, passed.binding) {
            (Ok(connection), None) => self.replay(&connection, &passed.preface),
            (Ok(connection), Some(binding)) => dispatch::resume(&self.child, &connection, binding),
            (Err(error), binding) => {
                tracing::error!(%error, "a connection passed to this process can't be served");
                if binding.is_none() {
                    self.child.broker.channel_closed();
                }
            }
        }
    }
}
