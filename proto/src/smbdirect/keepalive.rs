//! The Idle Connection Timer and Connection.KeepaliveRequested, [MS-SMBD] 3.1.2 and 3.1.6.2.
//!
//! ```text
//! Quiet --interval--> Due --request sent--> Asked --reply timeout--> expired
//!   ^                  | reply timeout without a chance to send ------^
//!   +---- any message received, from every state
//! ```

use std::time::Duration;

use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct Keepalive {
    interval: Duration,
    reply_timeout: Duration,
    request: Request,
    deadline: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Quiet,
    Due,
    Asked,
}

impl Keepalive {
    pub(super) fn new(interval: Duration, reply_timeout: Duration, now: Timestamp) -> Self {
        Self {
            interval,
            reply_timeout,
            request: Request::Quiet,
            deadline: now.saturating_add(interval),
        }
    }

    pub(super) const fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// The next message to leave carries the request.
    pub(super) fn is_due(&self) -> bool {
        self.request == Request::Due
    }

    /// Any message is a sign of life.
    pub(super) fn message_received(&mut self, now: Timestamp) {
        self.request = Request::Quiet;
        self.deadline = now.saturating_add(self.interval);
    }

    /// The reply is waited for from when the request leaves, not from when it became due.
    pub(super) fn request_sent(&mut self, now: Timestamp) {
        self.request = Request::Asked;
        self.deadline = now.saturating_add(self.reply_timeout);
    }

    /// Time in which the peer had no buffer to send into does not count against it.
    pub(super) fn extend(&mut self, excused: Duration) {
        self.deadline = self.deadline.saturating_add(excused);
    }

    /// True where the peer has been silent for too long.
    pub(super) fn timed_out(&mut self, now: Timestamp) -> bool {
        if now < self.deadline {
            return false;
        }
        if self.request != Request::Quiet {
            return true;
        }
        self.request = Request::Due;
        self.deadline = now.saturating_add(self.reply_timeout);
        false
    }
}
