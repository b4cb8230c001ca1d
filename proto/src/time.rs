//! Time as the protocol machines see it: a monotonic count of microseconds the driver hands in.
//! Nothing here reads a clock; a test invents its own timestamps.

use std::fmt;
use std::time::Duration;

/// Microseconds since an origin the driver chose once. Only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const ZERO: Self = Self(0);

    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// `None` where the sum no longer fits, some 584,000 years after the origin.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let micros = u64::try_from(duration.as_micros()).ok()?;
        self.0.checked_add(micros).map(Self)
    }

    /// As `checked_add`, but a sum that does not fit becomes a moment that never comes.
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self(u64::MAX))
    }

    /// `None` where `earlier` is later.
    pub fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_micros)
    }

    /// Zero where `earlier` is later.
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}.{:06}s",
            self.0 / 1_000_000,
            self.0 % 1_000_000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addition_counts_microseconds_and_drops_what_is_finer() {
        let start = Timestamp::from_micros(5);
        assert_eq!(
            start.checked_add(Duration::from_nanos(2_999)),
            Some(Timestamp::from_micros(7))
        );
    }

    #[test]
    fn addition_past_the_end_is_refused_or_saturates() {
        let late = Timestamp::from_micros(u64::MAX - 1);
        assert_eq!(late.checked_add(Duration::from_micros(2)), None);
        assert_eq!(Timestamp::ZERO.checked_add(Duration::MAX), None);
        assert_eq!(
            late.saturating_add(Duration::MAX),
            Timestamp::from_micros(u64::MAX)
        );
    }

    #[test]
    fn a_difference_never_goes_below_zero() {
        let early = Timestamp::from_micros(10);
        let late = Timestamp::from_micros(25);
        assert_eq!(
            late.checked_duration_since(early),
            Some(Duration::from_micros(15))
        );
        assert_eq!(early.checked_duration_since(late), None);
        assert_eq!(early.saturating_duration_since(late), Duration::ZERO);
    }

    #[test]
    fn display_is_seconds_with_six_places() {
        assert_eq!(Timestamp::from_micros(5_000_001).to_string(), "5.000001s");
    }
}
