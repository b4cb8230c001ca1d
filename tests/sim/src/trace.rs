//! What a run did, step by step. Off unless a run is replayed: a failed run is run again with the trace
//! on, since all of it follows from its seed.

use std::cell::RefCell;

thread_local! {
    static STEPS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Adds a line to the trace. The arguments are only looked at while it is on.
#[macro_export]
macro_rules! note {
    ($($argument:tt)*) => {
        if $crate::trace::is_on() {
            $crate::trace::push(format!($($argument)*));
        }
    };
}

pub fn is_on() -> bool {
    STEPS.with_borrow(Option::is_some)
}

pub fn push(step: String) {
    STEPS.with_borrow_mut(|steps| {
        if let Some(steps) = steps {
            steps.push(step);
        }
    });
}

/// Switches the trace on.
pub fn begin() {
    STEPS.set(Some(Vec::new()));
}

/// Switches the trace off; what it holds.
pub fn end() -> Vec<String> {
    STEPS.take().unwrap_or_default()
}
