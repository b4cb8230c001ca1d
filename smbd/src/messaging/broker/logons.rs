//! Turns of logons at the broker: when a user's proof may be judged, and that it was right.

use std::future::Future;
use std::time::Duration;

use futures::channel::oneshot;
use proto::control::broker::{AttemptId, LogonKey, ToBroker};

use super::{Broker, PendingLogon, answered, milliseconds};

impl Broker {
    /// Asks when a user's proof may be judged; it counts as failed until [`Broker::logged_on`].
    /// `None`: so much later that nobody would wait. `delay` is what a failure costs.
    pub fn logon(
        &self,
        key: LogonKey,
        delay: Duration,
    ) -> impl Future<Output = Option<Duration>> + use<> {
        let (reply, answer) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let attempt = AttemptId(state.next_attempt);
        state.next_attempt += 1;
        let delay_ms = milliseconds(delay);
        state.send(&ToBroker::Logon {
            attempt,
            key,
            delay_ms,
        });
        let pending = PendingLogon {
            key,
            delay_ms,
            reply,
        };
        state.attempts.insert(attempt, pending);
        answered(answer)
    }

    /// The proof was judged and is right: it cost nothing.
    pub fn logged_on(&self, key: LogonKey, delay: Duration) {
        let delay_ms = milliseconds(delay);
        let message = ToBroker::LoggedOn { key, delay_ms };
        self.state.borrow_mut().send(&message);
    }
}
