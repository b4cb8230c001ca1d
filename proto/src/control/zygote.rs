//! The supervisor and the zygote, which forks children and reaps them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ChildId, ConnectionKind, ControlMessage};

/// Supervisor to zygote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToZygote {
    /// Fork a child. Carries, in this order: its connection, its end of the supervisor's link,
    /// its end of the broker's link.
    Fork {
        child: ChildId,
        kind: ConnectionKind,
        /// What was already read from the connection: empty, unless the child that read it died
        /// while it was handing the connection over (see [`super::broker::ToBroker::Claim`]).
        preface: Vec<u8>,
    },
    /// Kill a child, if it still runs. Only its parent can know that the pid is still the child's.
    Kill { child: ChildId },
}

/// Zygote to supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromZygote {
    /// The child runs.
    Forked { child: ChildId, pid: i32 },
    /// The kernel refused; the descriptors are closed.
    ForkFailed { child: ChildId, errno: i32 },
    /// A child ended and is reaped.
    Exited {
        child: ChildId,
        pid: i32,
        end: ProcessEnd,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessEnd {
    /// It returned this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ControlMessage for ToZygote {
    fn descriptors(&self) -> usize {
        match self {
            Self::Fork { .. } => 3,
            Self::Kill { .. } => 0,
        }
    }
}

impl ControlMessage for FromZygote {
    fn descriptors(&self) -> usize {
        0
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "status {status}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
        }
    }
}
