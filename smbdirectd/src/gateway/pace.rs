//! Whether requests come so densely that a turn had better begin by letting others run: whoever else
//! is ready on this processor then adds to what the turn takes up, and wakes, datagrams and chains
//! serve many requests instead of one. Pure; the loop yields the processor. Where nobody else is
//! ready, that is one short system call. Where somebody only computes it is a wait for nothing, so
//! now and then it is timed, and given up for a while when it took long.

use std::time::Duration;

/// Turns with one request each after which the client is taken to wait for its answers.
const PATIENCE: u32 = 8;
/// One in so many yields is timed.
const TIMED: u32 = 16;
/// One that takes longer brings nothing: clients and children have less to do than that.
const TOO_LONG: Duration = Duration::from_millis(4);
/// Turns without a yield after one that took too long.
const PAUSE: u32 = 512;

/// How a turn begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// At once.
    AtOnce,
    /// After a yield.
    Yield,
    /// After a yield whose time is to be told by [`Pace::note_yield`].
    TimedYield,
}

/// What the last turns brought.
#[derive(Debug, Default)]
pub struct Pace {
    /// Requests passed on in this turn.
    requests: u32,
    /// Turns left in which more than one is hoped for.
    dense: u32,
    /// Yields left until one is timed.
    untimed: u32,
    /// Turns left without a yield.
    pause: u32,
}

impl Pace {
    /// A request was passed on to a child.
    pub fn note_request(&mut self) {
        self.requests += 1;
    }

    /// A turn has ended.
    pub fn end_turn(&mut self) {
        self.dense = match std::mem::take(&mut self.requests) {
            0 => self.dense,
            1 => self.dense.saturating_sub(1),
            _ => PATIENCE,
        };
    }

    /// A turn begins.
    pub fn begin_turn(&mut self) -> Beginning {
        if self.dense == 0 {
            return Beginning::AtOnce;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return Beginning::AtOnce;
        }
        if self.untimed > 0 {
            self.untimed -= 1;
            return Beginning::Yield;
        }
        self.untimed = TIMED - 1;
        Beginning::TimedYield
    }

    /// A timed yield took so long.
    pub fn note_yield(&mut self, took: Duration) {
        if took > TOO_LONG {
            self.pause = PAUSE;
            self.untimed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(pace: &mut Pace, requests: u32) -> Beginning {
        let beginning = pace.begin_turn();
        (0..requests).for_each(|_| pace.note_request());
        pace.end_turn();
        beginning
    }

    #[test]
    fn a_client_that_waits_for_each_answer_is_never_kept_waiting() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(turn(&mut pace, 1), Beginning::AtOnce);
            assert_eq!(turn(&mut pace, 0), Beginning::AtOnce);
        }
    }

    #[test]
    fn requests_side_by_side_are_dense_until_they_come_singly_again() {
        let mut pace = Pace::default();
        turn(&mut pace, 2);
        for _ in 0..PATIENCE {
            assert_ne!(turn(&mut pace, 0), Beginning::AtOnce);
            assert_ne!(turn(&mut pace, 1), Beginning::AtOnce);
        }
        assert_eq!(turn(&mut pace, 1), Beginning::AtOnce);
    }

    #[test]
    fn beside_somebody_who_computes_hardly_any_turn_is_kept_waiting() {
        let mut pace = Pace::default();
        let mut yields = 0;
        for _ in 0..10 * PAUSE {
            match turn(&mut pace, 5) {
                Beginning::AtOnce => {}
                Beginning::Yield => yields += 1,
                Beginning::TimedYield => {
                    yields += 1;
                    pace.note_yield(TOO_LONG * 2);
                }
            }
        }
        assert_eq!(yields, 10);
    }
}
