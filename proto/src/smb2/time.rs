//! FILETIME (MS-DTYP 2.3.3): 100 ns steps since 1601-01-01 UTC, to and from Unix time.
//! No clock is read here; whoever has a time passes it in.

/// A FILETIME. The protocol's special values 0 (leave unchanged), -1 and -2 are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileTime(pub u64);

const TICKS_PER_SECOND: i128 = 10_000_000;
/// Seconds from 1601-01-01 to 1970-01-01.
const EPOCH_DIFFERENCE_SECONDS: i128 = 11_644_473_600;

impl FileTime {
    /// In SET_INFO: leave this time as it is (MS-FSCC 2.4.7).
    pub const UNCHANGED: Self = Self(0);
    /// In SET_INFO: stop implicit updates of this time through this open (MS-FSCC 2.4.7).
    pub const FREEZE: Self = Self(u64::MAX);
    /// In SET_INFO: resume implicit updates of this time through this open (MS-FSCC 2.4.7).
    pub const THAW: Self = Self(u64::MAX - 1);

    /// From seconds and nanoseconds of Unix time, clamped to what FILETIME can express.
    pub fn from_unix(seconds: i64, nanoseconds: u32) -> Self {
        let ticks = (i128::from(seconds) + EPOCH_DIFFERENCE_SECONDS) * TICKS_PER_SECOND
            + i128::from(nanoseconds / 100);
        Self(ticks.clamp(0, i128::from(i64::MAX)) as u64)
    }

    /// Seconds and nanoseconds of Unix time, the nanoseconds always below one second.
    pub fn to_unix(self) -> (i64, u32) {
        let ticks = i128::from(self.0) - EPOCH_DIFFERENCE_SECONDS * TICKS_PER_SECOND;
        let seconds = ticks.div_euclid(TICKS_PER_SECOND);
        let nanoseconds = ticks.rem_euclid(TICKS_PER_SECOND) * 100;
        (seconds as i64, nanoseconds as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unix_epoch_is_the_known_constant() {
        assert_eq!(FileTime::from_unix(0, 0), FileTime(116_444_736_000_000_000));
        assert_eq!(FileTime(0).to_unix(), (-11_644_473_600, 0));
    }

    #[test]
    fn times_before_and_after_1970_round_trip_at_100_ns() {
        for (seconds, nanoseconds) in [(1_700_000_000, 123_456_700), (-1, 999_999_900), (-5, 0)] {
            let time = FileTime::from_unix(seconds, nanoseconds);
            assert_eq!(time.to_unix(), (seconds, nanoseconds));
        }
    }

    #[test]
    fn what_cannot_be_expressed_is_clamped() {
        assert_eq!(FileTime::from_unix(i64::MIN, 0), FileTime(0));
        assert_eq!(FileTime::from_unix(i64::MAX, 0), FileTime(i64::MAX as u64));
    }
}
