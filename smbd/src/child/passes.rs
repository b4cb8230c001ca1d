//! Connections that the broker passes to this process: judged, told of, and only then served.
//!
//! The broker keeps its duplicate until it has the answer, and gives the connection to somebody else
//! if this process dies first. So nothing is said to the client before the answer has left.

use proto::control::broker::PassAnswer;

use super::event_loop::EventLoop;
use crate::dispatch;
use crate::messaging::PassedConnection;
use crate::stop_point;

impl EventLoop {
    pub(super) fn judge_passed(&mut self, passed: PassedConnection) {
        stop_point::reach("owner-pass");
        let accepted = self.accepted.len();
        let answer = match &passed.binding {
            Some(binding) => self.child.judge_binding(binding, accepted, self.shutdown),
            None => self.child.judge_pass(accepted, self.shutdown),
        };
        match passed.binding {
            Some(_) => self.child.broker.answer_binding(passed.claim, answer),
            None => self.child.broker.answer(passed.claim, answer),
        }
        if let PassAnswer::Refused(reason) = answer {
            tracing::warn!(%reason, "a connection passed to this process is refused");
            return;
        }
        self.accepted.push(passed);
        self.take_accepted();
    }

    /// Serves passed connections once the broker has been told, not before: if this process dies
    /// after the first word to the client, nobody else may say it again.
    pub(super) fn take_accepted(&mut self) {
        if !self.accepted.is_empty() && self.child.broker.is_told() {
            stop_point::reach("owner-accepted");
            for passed in std::mem::take(&mut self.accepted) {
                self.take_passed(passed);
            }
        }
    }

    /// The broker died before it was told: the next one passes these connections again.
    pub(super) fn give_back_accepted(&mut self) {
        for passed in self.accepted.drain(..) {
            let counts = passed.binding.is_none();
            self.child.broker.forget_pass(passed.claim, counts);
        }
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
