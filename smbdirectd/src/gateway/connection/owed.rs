//! What of a relay's queue is worth waking the child for. Pure; the connection flushes.

use std::time::Duration;

use proto::time::Timestamp;

/// A child waits so long at most for memory of a reply that is known to have left.
const SENT_DELAY: Duration = Duration::from_millis(2);
/// So many `sent` records are worth a datagram of their own.
const MAX_SENT: u32 = 16;

/// What is queued for the child since its link was flushed. A `sent` alone would wake the child for
/// nothing: it waits for the next record to ride with, or a moment, or until there are many.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// A record of another kind.
    pub(super) urgent: bool,
    sent: u32,
    sent_by: Option<Timestamp>,
}

impl Owed {
    /// The end of a reply was queued.
    pub(super) fn sent(&mut self, now: Timestamp) {
        self.sent += 1;
        self.sent_by.get_or_insert(now.saturating_add(SENT_DELAY));
    }

    /// Nothing else is likely to come that it could ride with.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        if self.sent > 0 {
            self.sent_by = Some(now);
        }
    }

    /// When it is to be sent at the latest.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.sent_by
    }

    /// It is to be sent now.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.urgent || self.sent >= MAX_SENT || self.sent_by.is_some_and(|by| by <= now)
    }
}
