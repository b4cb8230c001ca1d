//! When to start a service again that ended: at once the first time, later if it keeps ending.

use std::time::{Duration, Instant};

use crate::stop_point;

/// A service that ran this long had started well.
const SETTLED: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(30);

/// One service's history.
#[derive(Debug, Default)]
pub struct Restart {
    started: Option<Instant>,
    /// Ends in a row, each soon after its start.
    failures: u32,
}

impl Restart {
    /// It was started.
    pub fn started(&mut self, now: Instant) {
        self.started = Some(now);
    }

    /// It ended, or could not be started: how long to wait before the next start. 0, 1, 2, 4 …
    /// 30 s.
    pub fn delay(&mut self, now: Instant) -> Duration {
        let settled = self
            .started
            .is_some_and(|started| now.duration_since(started) >= SETTLED);
        if settled || stop_point::are_wanted() {
            self.failures = 0;
        }
        let delay = match self.failures {
            0 => Duration::ZERO,
            failures => Duration::from_secs(1 << (failures - 1).min(5)).min(LONGEST),
        };
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_a_failing_service_waits_longer_each_time() {
        let now = Instant::now();
        let mut restart = Restart::default();
        let delays: Vec<u64> = (0..9)
            .map(|_| {
                restart.started(now);
                restart.delay(now + Duration::from_secs(1)).as_secs()
            })
            .collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 16, 30, 30, 30]);
        restart.started(now);
        assert_eq!(restart.delay(now + SETTLED), Duration::ZERO);
    }
}
