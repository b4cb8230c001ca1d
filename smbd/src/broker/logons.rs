//! When a proof may be judged: each failed logon keeps its user and network waiting, and each network
//! has so many failures before it waits whatever the user.
//!
//! Called by [`super::machine`]; no I/O, no clock. Nobody is listed: two tables of fixed size say from
//! when on the next attempt may be judged, and a keyed hash says which place is whose. So memory
//! never grows, nothing is ever evicted, and a flood can make a stranger wait as long as itself but
//! never make room for itself. An attempt takes its time when it asks; a success gives it back.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use proto::control::broker::LogonKey;

/// Places for a user at a network: more than all failures the machine can judge within a delay.
const PAIRS: usize = 1 << 16;
/// Places for a network.
const NETWORKS: usize = 1 << 14;
/// Failures a network has at once. Attempts that are being judged count until they succeed.
pub const BURST: u32 = 128;
/// After that, one failure of a network in this time.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Nobody waits longer than this: clients give up after 20 s and more. Such an attempt is refused,
/// and takes no time.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The most that a failure may be configured to cost.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The two tables, in milliseconds since the machine's start.
#[derive(Debug)]
pub struct Logons<S = RandomState> {
    hasher: S,
    /// From when on the next attempt may be judged.
    pairs: Vec<u64>,
    /// When all failures of a network are paid for.
    networks: Vec<u64>,
}

impl<S: BuildHasher + Default> Default for Logons<S> {
    fn default() -> Self {
        Logons {
            hasher: S::default(),
            // Zeros, so that the kernel gives a page when its first place is used.
            pairs: vec![0; PAIRS],
            networks: vec![0; NETWORKS],
        }
    }
}

impl<S: BuildHasher> Logons<S> {
    /// How long from `now` an attempt waits; `None` if too long. A failure costs its pair `delay`.
    pub fn turn(&mut self, key: &LogonKey, delay: Duration, now: Duration) -> Option<Duration> {
        let (delay, now) = (milliseconds(delay.min(MAX_DELAY)), milliseconds(now));
        let (pair, network) = self.places(key)?;
        let paid = (*network).max(now);
        let start = (*pair)
            .max(paid.saturating_sub(milliseconds(INTERVAL * (BURST - 1))))
            .max(now);
        let wait = Duration::from_millis(start - now);
        if wait > PATIENCE {
            return None;
        }
        *pair = start + delay;
        *network = paid + milliseconds(INTERVAL);
        Some(wait)
    }

    /// An attempt did not fail: what it took is given back.
    pub fn succeeded(&mut self, key: &LogonKey, delay: Duration) {
        if let Some((pair, network)) = self.places(key) {
            *pair = pair.saturating_sub(milliseconds(delay.min(MAX_DELAY)));
            *network = network.saturating_sub(milliseconds(INTERVAL));
        }
    }

    fn places(&mut self, key: &LogonKey) -> Option<(&mut u64, &mut u64)> {
        let pair = place(self.hasher.hash_one(key), PAIRS);
        let network = place(self.hasher.hash_one(key.network), NETWORKS);
        Some((self.pairs.get_mut(pair)?, self.networks.get_mut(network)?))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn place(hash: u64, places: usize) -> usize {
    usize::try_from(hash % places as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use super::*;

    const DELAY: Duration = Duration::from_secs(2);
    const NOW: Duration = Duration::from_secs(100);

    /// With one seed for all runs, so that no two keys of a test ever share a place by chance.
    type Seeded = Logons<BuildHasherDefault<DefaultHasher>>;

    fn key(user: u32, network: u32) -> LogonKey {
        let bytes = |number: u32| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            bytes
        };
        LogonKey {
            user: bytes(user),
            network: bytes(network),
        }
    }

    #[test]
    fn guesses_of_one_user_from_one_network_are_judged_a_delay_apart() {
        let mut logons = Seeded::default();
        let mut judged = Vec::new();
        for _ in 0..6 {
            let wait = logons.turn(&key(1, 1), DELAY, NOW).unwrap();
            judged.push(wait.as_secs());
        }
        assert_eq!(judged, [0, 2, 4, 6, 8, 10]);
        assert_eq!(logons.turn(&key(1, 1), DELAY, NOW), None, "too long");
        let later = NOW + DELAY;
        assert_eq!(
            logons.turn(&key(1, 1), DELAY, later),
            Some(PATIENCE),
            "what was refused took no time"
        );
    }

    #[test]
    fn another_user_and_another_network_do_not_wait() {
        let mut logons = Seeded::default();
        logons.turn(&key(1, 1), DELAY, NOW).unwrap();
        assert_eq!(logons.turn(&key(2, 1), DELAY, NOW), Some(Duration::ZERO));
        assert_eq!(logons.turn(&key(1, 2), DELAY, NOW), Some(Duration::ZERO));
    }

    #[test]
    fn a_success_costs_nothing() {
        let mut logons = Seeded::default();
        for _ in 0..10_000 {
            let wait = logons.turn(&key(1, 1), DELAY, NOW);
            assert_eq!(wait, Some(Duration::ZERO));
            logons.succeeded(&key(1, 1), DELAY);
        }
    }

    #[test]
    fn a_success_does_not_make_an_earlier_failure_undone() {
        let mut logons = Seeded::default();
        logons.turn(&key(1, 1), DELAY, NOW).unwrap();
        assert_eq!(logons.turn(&key(1, 1), DELAY, NOW), Some(DELAY));
        logons.succeeded(&key(1, 1), DELAY);
        assert_eq!(logons.turn(&key(1, 1), DELAY, NOW), Some(DELAY));
    }

    #[test]
    fn a_network_that_tries_many_users_waits_after_its_burst() {
        let mut logons = Seeded::default();
        for user in 0..BURST {
            let wait = logons.turn(&key(user, 1), DELAY, NOW);
            assert_eq!(wait, Some(Duration::ZERO), "{user}");
        }
        assert_eq!(logons.turn(&key(1000, 1), DELAY, NOW), Some(INTERVAL));
        assert_eq!(logons.turn(&key(1001, 1), DELAY, NOW), Some(INTERVAL * 2));
        assert_eq!(logons.turn(&key(1002, 2), DELAY, NOW), Some(Duration::ZERO));
        let calm = NOW + INTERVAL * (BURST + 2);
        assert_eq!(
            logons.turn(&key(1003, 1), DELAY, calm),
            Some(Duration::ZERO)
        );
    }

    /// A simulated day of one network that keeps as many guesses under way as it can.
    #[test]
    fn a_day_of_guessing_gives_no_more_than_the_rates_promise() {
        let mut logons = Seeded::default();
        let (mut of_user, mut of_network) = (0u32, 0u32);
        let mut now = NOW;
        let mut user = 0;
        while now < NOW + Duration::from_secs(86_400) {
            of_user += u32::from(logons.turn(&key(0, 1), DELAY, now).is_some());
            for _ in 0..4 {
                user += 1;
                of_network += u32::from(logons.turn(&key(user, 2), DELAY, now).is_some());
            }
            now += Duration::from_millis(500);
        }
        assert!((43_200..=43_210).contains(&of_user), "{of_user}");
        let expected = 86_400..=86_400 + BURST + 20;
        assert!(expected.contains(&of_network), "{of_network}");
    }

    /// What a hundred thousand addresses do within one delay cannot free a place of anybody's.
    #[test]
    fn a_flood_neither_grows_the_tables_nor_ends_anybodys_delay() {
        let mut logons = Seeded::default();
        assert_eq!(logons.turn(&key(7, 7), DELAY, NOW), Some(Duration::ZERO));
        for network in 1000..101_000 {
            logons.turn(&key(network, network), DELAY, NOW);
        }
        assert_eq!(
            (logons.pairs.len(), logons.networks.len()),
            (PAIRS, NETWORKS)
        );
        let wait = logons.turn(&key(7, 7), DELAY, NOW);
        assert!(wait.is_none_or(|wait| wait >= DELAY), "{wait:?}");
        // Nor does it keep a stranger out for long: what each attempt took, time gives back.
        let calm = NOW + PATIENCE + DELAY;
        assert_eq!(logons.turn(&key(8, 8), DELAY, calm), Some(Duration::ZERO));
    }

    #[test]
    fn a_child_cannot_ask_for_a_delay_that_never_ends() {
        let mut logons = Seeded::default();
        logons.turn(&key(1, 1), Duration::MAX, NOW).unwrap();
        assert_eq!(
            logons.turn(&key(1, 1), DELAY, NOW + MAX_DELAY),
            Some(Duration::ZERO)
        );
    }
}
