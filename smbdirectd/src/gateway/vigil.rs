//! Whether the loop, with nothing left to do, looks again for a moment before it sleeps. To be woken
//! costs more than what it is woken for (tens of microseconds, and as much again for whoever wakes
//! it), so where something has come soon after most of the last turns it is worth waiting for with
//! open eyes. A loop that is idle, or waits for a slow disk, sleeps at once. Pure; the loop looks.

use std::time::Duration;

/// How long is looked for what comes next. More than a child needs for an answer from memory.
pub const LOOKS_FOR: Duration = Duration::from_micros(500);
/// Of the last eight turns so many were followed by another that soon.
const WORTH_WHILE: u32 = 3;

/// What became of the last waits.
#[derive(Debug, Default)]
pub struct Vigil {
    /// A bit for each of the last eight, the newest lowest: whether it was short.
    short: u8,
}

impl Vigil {
    /// A turn began so long after the one before it.
    pub fn note(&mut self, since_last_turn: Duration) {
        self.short = self.short << 1 | u8::from(since_last_turn <= LOOKS_FOR);
    }

    /// Whether to look before sleeping.
    pub fn is_worth_while(&self) -> bool {
        self.short.count_ones() >= WORTH_WHILE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(50);
    const LATE: Duration = Duration::from_millis(1);

    fn after(waits: impl IntoIterator<Item = Duration>) -> bool {
        let mut vigil = Vigil::default();
        waits.into_iter().for_each(|wait| vigil.note(wait));
        vigil.is_worth_while()
    }

    #[test]
    fn an_idle_loop_sleeps_at_once() {
        assert!(!Vigil::default().is_worth_while());
        assert!(!after([LATE; 20]));
        assert!(!after([SOON, SOON].into_iter().chain([LATE; 6])));
    }

    #[test]
    fn a_client_that_waits_for_each_answer_is_looked_out_for() {
        // Its request, the child's answer; and a moment until the next.
        assert!(after([SOON, LATE].repeat(8)));
        assert!(after([LATE, SOON, SOON].repeat(8)));
    }

    #[test]
    fn it_ends_soon_after_the_client_has_paused() {
        let mut vigil = Vigil::default();
        (0..100).for_each(|_| vigil.note(SOON));
        let looked = (0..100).filter(|_| {
            let looks = vigil.is_worth_while();
            vigil.note(LATE);
            looks
        });
        assert_eq!(looked.count(), 6);
    }
}
