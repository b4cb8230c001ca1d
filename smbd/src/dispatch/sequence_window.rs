//! Connection.CommandSequenceWindow (MS-SMB2 3.3.1.1, 3.3.5.2.3): which MessageIds the client may
//! use now, and how many more each response lets it use. Pure; dispatch owns one per connection.
//!
//! The window is a run of identifiers from the lowest unused one up; a bit for each says whether
//! it was used. A new identifier is granted only at the upper end, so a client that leaves a low
//! one unused gets no more than the maximum beyond it.

use std::collections::VecDeque;

use proto::smb2::MessageId;

/// Credits a connection may hold before a session is authenticated on it.
pub const UNAUTHENTICATED_CREDITS: u16 = 10;

/// A MessageId the client was not granted, or used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "message id {id} (charge {charge}) is outside the window {low}..{high} (MS-SMB2 3.3.5.2.3)"
)]
pub struct OutOfWindow {
    id: u64,
    charge: u16,
    low: u64,
    high: u64,
}

/// Identifiers the client may use.
#[derive(Debug)]
pub struct SequenceWindow {
    /// The lowest identifier not used yet.
    low: u64,
    /// For each identifier from `low` up: whether it was used.
    used: VecDeque<bool>,
    /// How many identifiers the window may span.
    maximum: u16,
}

impl SequenceWindow {
    /// A new connection's window: MessageId 0 alone.
    pub fn new() -> SequenceWindow {
        SequenceWindow {
            low: 0,
            used: VecDeque::from([false]),
            maximum: UNAUTHENTICATED_CREDITS,
        }
    }

    /// The window of a connection whose NEGOTIATE, read by another process, carried `id`.
    pub fn starting_at(id: MessageId) -> SequenceWindow {
        SequenceWindow {
            low: id.0,
            ..SequenceWindow::new()
        }
    }

    /// The window of a connection that another process had: identifiers from `id` to before `end`
    /// are unused.
    pub fn resuming(id: MessageId, end: u64) -> SequenceWindow {
        let count = end
            .saturating_sub(id.0)
            .clamp(1, UNAUTHENTICATED_CREDITS.into());
        SequenceWindow {
            low: id.0,
            used: std::iter::repeat_n(false, count as usize).collect(),
            maximum: UNAUTHENTICATED_CREDITS,
        }
    }

    /// Where the window ends, if `id` is the last identifier used and no lower one is unused.
    pub fn end_after(&self, id: MessageId) -> Option<u64> {
        let is_last = id.0.checked_add(1) == Some(self.low) && !self.used.contains(&true);
        is_last.then(|| self.high())
    }

    /// Lets the window grow to `maximum`: a session is authenticated.
    pub fn widen(&mut self, maximum: u16) {
        self.maximum = self.maximum.max(maximum);
    }

    /// Uses `charge` identifiers from `id` on (MS-SMB2 3.3.5.2.3); a charge of 0 counts as 1.
    pub fn take(&mut self, id: MessageId, charge: u16) -> Result<(), OutOfWindow> {
        let charge = charge.max(1);
        let wrong = OutOfWindow {
            id: id.0,
            charge,
            low: self.low,
            high: self.high(),
        };
        let first = id.0.checked_sub(self.low).ok_or(wrong)?;
        let end = first.checked_add(u64::from(charge)).ok_or(wrong)?;
        if end > self.used.len() as u64 {
            return Err(wrong);
        }
        let range = first as usize..end as usize;
        if self.used.range(range.clone()).any(|used| *used) {
            return Err(wrong);
        }
        self.used.range_mut(range).for_each(|used| *used = true);
        while self.used.front() == Some(&true) {
            self.used.pop_front();
            self.low += 1;
        }
        Ok(())
    }

    /// Grants up to `wanted` more identifiers; says how many. Never leaves the client without any.
    pub fn grant(&mut self, wanted: u16) -> u16 {
        let possible = usize::from(self.maximum).saturating_sub(self.used.len());
        let possible = u16::try_from(possible).unwrap_or(u16::MAX);
        // u64::MAX is what unsolicited messages carry, never granted.
        let left = u64::MAX - 1 - self.high().min(u64::MAX - 1);
        let granted = wanted
            .min(possible)
            .min(u16::try_from(left).unwrap_or(u16::MAX));
        self.used
            .extend(std::iter::repeat_n(false, usize::from(granted)));
        granted
    }

    /// Identifiers granted and not used.
    pub fn available(&self) -> usize {
        self.used.iter().filter(|used| !**used).count()
    }

    fn high(&self) -> u64 {
        self.low.saturating_add(self.used.len() as u64)
    }
}

impl Default for SequenceWindow {
    fn default() -> SequenceWindow {
        SequenceWindow::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_may_send_message_0_and_nothing_else() {
        let mut window = SequenceWindow::new();
        assert!(window.take(MessageId(1), 1).is_err());
        assert!(window.take(MessageId(0), 2).is_err());
        assert!(window.take(MessageId(0), 1).is_ok());
        assert!(window.take(MessageId(0), 1).is_err(), "a second time");
        assert_eq!(window.available(), 0);
    }

    #[test]
    fn a_window_goes_on_in_another_process_where_nothing_is_left_behind() {
        let mut window = SequenceWindow::new();
        window.take(MessageId(0), 1).unwrap();
        window.grant(4);
        window.take(MessageId(1), 1).unwrap();
        assert_eq!(window.end_after(MessageId(1)), Some(5));
        let mut resumed = SequenceWindow::resuming(MessageId(1), 5);
        assert_eq!(resumed.available(), 4);
        assert!(resumed.take(MessageId(0), 1).is_err(), "used there");
        assert!(resumed.take(MessageId(5), 1).is_err(), "not granted");
        resumed.take(MessageId(1), 4).unwrap();
        window.take(MessageId(3), 1).unwrap();
        assert_eq!(window.end_after(MessageId(3)), None, "2 is unused");
        assert_eq!(window.end_after(MessageId(1)), None, "3 is used");
        let bounded = SequenceWindow::resuming(MessageId(7), u64::MAX);
        assert_eq!(bounded.available(), usize::from(UNAUTHENTICATED_CREDITS));
    }

    #[test]
    fn a_charge_uses_as_many_identifiers_in_any_order() {
        let mut window = SequenceWindow::new();
        window.take(MessageId(0), 1).unwrap();
        assert_eq!(window.grant(8), 8);
        window.take(MessageId(4), 3).unwrap();
        assert!(window.take(MessageId(3), 2).is_err(), "4 is used");
        window.take(MessageId(1), 3).unwrap();
        assert!(window.take(MessageId(7), 3).is_err(), "9 is not granted");
        window.take(MessageId(7), 2).unwrap();
        assert_eq!(window.available(), 0);
    }

    #[test]
    fn an_unused_low_identifier_stops_the_grants_at_the_maximum() {
        let mut window = SequenceWindow::new();
        assert_eq!(window.grant(u16::MAX), UNAUTHENTICATED_CREDITS - 1);
        window.widen(512);
        assert_eq!(window.grant(u16::MAX), 512 - UNAUTHENTICATED_CREDITS);
        for id in 1..512 {
            window.take(MessageId(id), 1).unwrap();
        }
        assert_eq!(window.grant(1), 0, "0 is still unused");
        assert_eq!(window.available(), 1);
        window.take(MessageId(0), 1).unwrap();
        assert_eq!(window.grant(1), 1);
    }

    #[test]
    fn the_last_identifiers_are_never_granted() {
        let mut window = SequenceWindow {
            low: u64::MAX - 3,
            used: VecDeque::from([false]),
            maximum: 100,
        };
        assert_eq!(window.grant(50), 1);
        assert!(window.take(MessageId(u64::MAX), 1).is_err());
        assert!(window.take(MessageId(u64::MAX - 2), u16::MAX).is_err());
    }
}
