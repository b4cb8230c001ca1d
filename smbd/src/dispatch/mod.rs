//! Dispatch: from a message of the client to the replies it gets.

mod progress;

pub use progress::Progress;
