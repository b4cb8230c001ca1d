//! Timers of the loop: futures that resolve at a time, and when the next one does.
//!
//! Only tasks of the loop's thread sleep here; the loop asks for the next deadline before it
//! waits and calls [`Timers::fire`] after, once a turn: that is the only reading of the clock that
//! a request needs. A dropped sleep leaves nothing behind but a stale heap entry, discarded when
//! its time comes.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// All sleeps of the process.
#[derive(Debug)]
pub struct Timers {
    /// When this turn of the loop began.
    now: Cell<Instant>,
    deadlines: RefCell<BinaryHeap<Reverse<(Instant, u64)>>>,
    sleepers: RefCell<HashMap<u64, Waker>>,
    last: Cell<u64>,
}

/// Resolves when its time has come.
#[derive(Debug)]
pub struct Sleep<'a> {
    timers: &'a Timers,
    deadline: Instant,
    /// Its number, once it was waited for.
    number: Option<u64>,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers {
            now: Cell::new(Instant::now()),
            deadlines: RefCell::default(),
            sleepers: RefCell::default(),
            last: Cell::default(),
        }
    }
}

impl Timers {
    /// When this turn of the loop began.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Resolves `duration` from now.
    pub fn sleep(&self, duration: Duration) -> Sleep<'_> {
        Sleep {
            timers: self,
            deadline: self.now() + duration,
            number: None,
        }
    }

    /// When the next sleep ends.
    pub fn next_deadline(&self) -> Option<Instant> {
        let mut deadlines = self.deadlines.borrow_mut();
        let sleepers = self.sleepers.borrow();
        while let Some(Reverse((deadline, number))) = deadlines.peek() {
            if sleepers.contains_key(number) {
                return Some(*deadline);
            }
            deadlines.pop();
        }
        None
    }

    /// A turn begins: wakes every sleep that has ended by `now`.
    pub fn fire(&self, now: Instant) {
        self.now.set(now);
        loop {
            let mut deadlines = self.deadlines.borrow_mut();
            match deadlines.peek() {
                Some(Reverse((deadline, _))) if *deadline <= now => {}
                _ => return,
            }
            let Some(Reverse((_, number))) = deadlines.pop() else {
                return;
            };
            drop(deadlines);
            let waker = self.sleepers.borrow_mut().remove(&number);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.timers.now() >= self.deadline {
            return Poll::Ready(());
        }
        let number = match self.number {
            Some(number) => number,
            None => {
                let number = self.timers.last.get() + 1;
                self.timers.last.set(number);
                self.number = Some(number);
                let entry = Reverse((self.deadline, number));
                self.timers.deadlines.borrow_mut().push(entry);
                number
            }
        };
        let mut sleepers = self.timers.sleepers.borrow_mut();
        sleepers.insert(number, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.timers.sleepers.borrow_mut().remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_sleep_ends_at_its_time_and_a_dropped_one_is_forgotten() {
        let timers = Timers::default();
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        let mut long = Box::pin(timers.sleep(Duration::from_secs(3600)));
        assert!(long.poll_unpin(&mut cx).is_pending());
        let first = timers.next_deadline().unwrap();
        let mut short = Box::pin(timers.sleep(Duration::from_millis(1)));
        assert!(short.poll_unpin(&mut cx).is_pending());
        assert!(timers.next_deadline().unwrap() < first);
        std::thread::sleep(Duration::from_millis(2));
        timers.fire(Instant::now());
        assert!(short.poll_unpin(&mut cx).is_ready());
        assert_eq!(timers.next_deadline(), Some(first));
        drop(long);
        assert_eq!(timers.next_deadline(), None);
    }
}
