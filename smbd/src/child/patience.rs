//! How long a child waits for each of its connections. Pure: the loop says what time it is and how far
//! the connection has come, and is told which limit that exceeds and when the next one may be.

use std::time::{Duration, Instant};

/// A first NEGOTIATE must be whole by then.
const NEGOTIATE_LIMIT: Duration = Duration::from_secs(5);
/// A session must be authenticated by then.
const AUTHENTICATION_LIMIT: Duration = Duration::from_secs(45);
/// A message that began must be whole by then, or, from an authenticated client, go on arriving.
const PARTIAL_LIMIT: Duration = Duration::from_secs(10);

/// The times of one connection.
pub(super) struct Patience {
    since: Instant,
    last_heard: Instant,
    /// `deadtime`, unless it is 0.
    deadtime: Option<Duration>,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// Its first NEGOTIATE is whole.
    pub negotiating: bool,
    pub authenticated: bool,
    /// Since when a message is arriving that is not whole.
    pub partial_since: Option<Instant>,
}

impl Patience {
    /// For a connection that begins now; `deadtime` in minutes, 0 for none.
    pub(super) fn begin(now: Instant, deadtime: u32) -> Patience {
        Patience {
            since: now,
            last_heard: now,
            deadtime: (deadtime > 0).then(|| Duration::from_secs(u64::from(deadtime) * 60)),
        }
    }

    /// The age of the connection.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Something has arrived, or a file is open, which counts as much.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Nothing has arrived for `deadtime` on a connection somebody has logged on over.
    pub(super) fn is_silent(&self, now: Instant, progress: Progress) -> bool {
        let silence = now.saturating_duration_since(self.last_heard);
        progress.authenticated && self.deadtime.is_some_and(|limit| silence >= limit)
    }

    /// What limit is exceeded, in words for the log.
    pub(super) fn exceeded(&self, now: Instant, progress: Progress) -> Option<&'static str> {
        let mut limits = self.limits(progress).into_iter().flatten();
        limits.find(|(at, _)| *at <= now).map(|(_, what)| what)
    }

    /// The next time at which a limit may be exceeded.
    pub(super) fn next_limit(&self, progress: Progress) -> Option<Instant> {
        let limits = self.limits(progress).into_iter().flatten();
        limits.map(|(at, _)| at).min()
    }

    fn limits(&self, progress: Progress) -> [Option<(Instant, &'static str)>; 4] {
        let Progress {
            negotiating,
            authenticated,
            partial_since,
        } = progress;
        [
            (!negotiating).then(|| (self.since + NEGOTIATE_LIMIT, "no NEGOTIATE within 5 s")),
            (!authenticated).then(|| {
                (
                    self.since + AUTHENTICATION_LIMIT,
                    "no session authenticated within 45 s",
                )
            }),
            partial_since.map(|since| (since + PARTIAL_LIMIT, "a message not whole within 10 s")),
            self.deadtime.filter(|_| authenticated).map(|limit| {
                (
                    self.last_heard + limit,
                    "nothing heard for `deadtime` minutes, and no file is open",
                )
            }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Progress = Progress {
        negotiating: false,
        authenticated: false,
        partial_since: None,
    };
    const NEGOTIATED: Progress = Progress {
        negotiating: true,
        ..NOTHING
    };
    const LOGGED_ON: Progress = Progress {
        authenticated: true,
        ..NEGOTIATED
    };

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// Not exceeded a moment before it is due, exceeded when it is, and the loop knows when to look.
    #[track_caller]
    fn ends_at(patience: &Patience, progress: Progress, due: Instant, why: &str) {
        let before = due - Duration::from_millis(1);
        assert_eq!(patience.exceeded(before, progress), None);
        assert!(patience.exceeded(due, progress).unwrap().contains(why));
        assert_eq!(patience.next_limit(progress), Some(due));
    }

    #[test]
    fn who_says_nothing_is_waited_for_five_seconds() {
        let start = Instant::now();
        let patience = Patience::begin(start, 15);
        ends_at(&patience, NOTHING, start + seconds(5), "no NEGOTIATE");
    }

    #[test]
    fn who_logs_on_nobody_is_waited_for_forty_five() {
        let start = Instant::now();
        let mut patience = Patience::begin(start, 15);
        patience.heard(start + seconds(44));
        ends_at(&patience, NEGOTIATED, start + seconds(45), "authenticated");
    }

    #[test]
    fn a_message_that_does_not_end_is_waited_for_ten() {
        let start = Instant::now();
        let patience = Patience::begin(start, 15);
        let progress = Progress {
            partial_since: Some(start + seconds(7)),
            ..LOGGED_ON
        };
        ends_at(&patience, progress, start + seconds(17), "not whole");
    }

    #[test]
    fn silence_ends_at_deadtime_minutes_after_the_last_word() {
        let start = Instant::now();
        let mut patience = Patience::begin(start, 15);
        let heard = start + seconds(600);
        patience.heard(heard);
        let due = heard + seconds(15 * 60);
        ends_at(&patience, LOGGED_ON, due, "`deadtime`");
        assert!(!patience.is_silent(due - seconds(1), LOGGED_ON));
        assert!(patience.is_silent(due, LOGGED_ON));
        assert!(!patience.is_silent(due, NEGOTIATED));
    }

    #[test]
    fn deadtime_zero_lets_everybody_be_silent() {
        let start = Instant::now();
        let patience = Patience::begin(start, 0);
        assert_eq!(patience.next_limit(LOGGED_ON), None);
        assert!(!patience.is_silent(start + seconds(1 << 30), LOGGED_ON));
    }
}
