//! The error of a failed system call: which operation, and what the kernel answered.
//! Used by every module that touches the kernel; it never stands for a peer's fault.

use std::io;

/// An operation the kernel refused, with its errno.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}")]
pub struct SystemError {
    /// What was tried, in words a person can look for ("map the region").
    pub operation: &'static str,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl SystemError {
    /// Turns an errno of `operation` into an error; made for `map_err`.
    pub fn of<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> SystemError {
        move |source| SystemError {
            operation,
            source: source.into(),
        }
    }
}
