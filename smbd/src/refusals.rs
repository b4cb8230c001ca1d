//! The log of what one connection's client is refused: one line a cause, with the client and what
//! to do about it, so that whoever runs the server can tell a mistake from an attack.
//!
//! Handlers, dispatch and the file layer tell it why; it never decides anything. The same cause is
//! logged again only after [`QUIET`], with the number of times it was not: a client that insists
//! fills no disk.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use proto::smb2::NtStatus;

/// How long a cause is not logged again.
const QUIET: Duration = Duration::from_secs(10);

/// What is told of one connection. Shared with pool threads.
#[derive(Debug)]
pub struct Refusals {
    peer: SocketAddr,
    /// Bounded by the causes there are: each is a literal of this crate.
    told: Mutex<HashMap<&'static str, Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    unsaid: u64,
}

impl Refusals {
    /// Of a client's connection.
    pub fn of(peer: SocketAddr) -> Refusals {
        Refusals {
            peer,
            told: Mutex::default(),
        }
    }

    /// Logs that `what` is refused, and why; gives the status back.
    pub fn tell(&self, what: impl fmt::Display, why: &'static str, status: NtStatus) -> NtStatus {
        if let Some(unsaid) = self.is_due(why, Instant::now()) {
            let unsaid = (unsaid > 0).then_some(unsaid);
            tracing::warn!(peer = %self.peer, %what, why, %status, unsaid, "a request is refused");
        }
        status
    }

    /// Whether a cause is logged now; then how often it was not since the last time.
    fn is_due(&self, why: &'static str, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().ok()?;
        match told.get_mut(why) {
            Some(last) if now.saturating_duration_since(last.at) < QUIET => {
                last.unsaid += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.unsaid))
            }
            None => {
                told.insert(why, Told { at: now, unsaid: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_and_counted_until_it_is_told_again() {
        let refusals = Refusals::of(([127, 0, 0, 1], 1).into());
        let start = Instant::now();
        assert_eq!(refusals.is_due("full", start), Some(0));
        assert_eq!(refusals.is_due("full", start), None);
        assert_eq!(refusals.is_due("full", start + QUIET / 2), None);
        assert_eq!(refusals.is_due("outside", start + QUIET / 2), Some(0));
        assert_eq!(refusals.is_due("full", start + QUIET), Some(2));
        assert_eq!(refusals.is_due("full", start + QUIET * 2), Some(0));
    }
}
