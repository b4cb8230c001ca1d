//! What of a relay's queue is worth waking the child for. Pure; the connection flushes.

use std::time::Duration;

use proto::time::Timestamp;

/// A child waits so long at most for memory of a reply that is known to have left.
const SENT_DELAY: Duration = Duration::from_millis(2);
/// A message waits so long at most for its payload, to be told with it.
const PAYLOAD_DELAY: Duration = Duration::from_millis(2);
/// So many `sent` records are worth a datagram of their own.
const MAX_SENT: u32 = 16;

/// What is queued for the child since its link was flushed. A `sent` alone would wake the child for
/// nothing: it waits for the next record to ride with, or a moment, or until there are many. Nor can
/// the child do anything with a request whose payload is on its way.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// A record of another kind.
    pub(super) urgent: bool,
    sent: u32,
    due: Option<Timestamp>,
}

impl Owed {
    /// The end of a reply was queued.
    pub(super) fn sent(&mut self, now: Timestamp) {
        self.sent += 1;
        self.set_due(now.saturating_add(SENT_DELAY));
    }

    /// A message was queued whose payload is being fetched.
    pub(super) fn ahead(&mut self, now: Timestamp) {
        self.set_due(now.saturating_add(PAYLOAD_DELAY));
    }

    fn set_due(&mut self, by: Timestamp) {
        self.due = Some(self.due.map_or(by, |due| due.min(by)));
    }

    /// Nothing else is likely to come that it could ride with.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        if self.sent > 0 {
            self.due = Some(now);
        }
    }

    /// When it is to be sent at the latest.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.due
    }

    /// It is to be sent now.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.urgent || self.sent >= MAX_SENT || self.due.is_some_and(|by| by <= now)
    }
}
