//! Why a connection ends: one reason for the child, one sentence for the log, taken from whoever
//! knows. The first ending of a connection stays.

use proto::relay::{CloseReason, RelayError};
use proto::smbdirect;
use shm::SystemError;
use shm::link::LinkError;

use crate::relay::{Breach, TooFewBytes};

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What the child is told.
    pub reason: CloseReason,
    /// What the log says; empty for an ordinary end.
    pub detail: String,
}

impl Ending {
    /// The client went away in order.
    pub fn disconnected() -> Ending {
        Ending::ordinary(CloseReason::PeerDisconnected)
    }

    /// The client went away in the middle of this.
    pub fn left_during(what: &str) -> Ending {
        Ending {
            reason: CloseReason::PeerDisconnected,
            detail: format!(
                "the client left during {what} and did not say why: it may have refused that access to its memory, or failed; see its own log"
            ),
        }
    }

    /// Why, in words: the detail, or what an ordinary end means.
    pub fn sentence(&self) -> &str {
        if !self.detail.is_empty() {
            return &self.detail;
        }
        match self.reason {
            CloseReason::PeerDisconnected => "the client disconnected",
            CloseReason::ServerClosed => "the server closed it",
            CloseReason::PeerViolation => "the client broke the protocol; smbd's log says where",
            CloseReason::TimedOut => "the client took too long",
            CloseReason::DeviceError => "the device failed",
            CloseReason::RelayViolation => "its child broke the relay's rules",
            CloseReason::LimitReached => "a limit was reached; smbd's log says which",
        }
    }

    /// Nothing a log need explain.
    pub fn ordinary(reason: CloseReason) -> Ending {
        Ending {
            reason,
            detail: String::new(),
        }
    }

    /// The child broke a rule of the relay.
    pub fn relay(detail: impl ToString) -> Ending {
        Ending {
            reason: CloseReason::RelayViolation,
            detail: format!(
                "{}; only this connection ends (a fault of smbd's, or a child taken over)",
                detail.to_string()
            ),
        }
    }

    /// A limit was reached.
    pub fn limit(detail: impl ToString) -> Ending {
        Ending {
            reason: CloseReason::LimitReached,
            detail: detail.to_string(),
        }
    }

    /// The client took too long.
    pub fn timed_out(detail: impl ToString) -> Ending {
        Ending {
            reason: CloseReason::TimedOut,
            detail: detail.to_string(),
        }
    }

    /// A receive failed with this status of the device's.
    pub fn failed_receive(status: u32, name: &str) -> Ending {
        match status {
            // A local length error; rxe calls it a local operation error.
            1 | 2 => Ending {
                reason: CloseReason::PeerViolation,
                detail: format!(
                    "a receive failed: {name} ({status}): the client sent more than the buffers \
                     hold that it was told of"
                ),
            },
            _ => Ending::failed_request("a receive", status, name),
        }
    }

    /// A work request failed with this status of the device's.
    pub fn failed_request(what: &str, status: u32, name: &str) -> Ending {
        // ibv_wc_status: 9 to 11 are the peer's refusal, 12 its silence.
        let (reason, meaning) = match status {
            9..=11 => (
                CloseReason::PeerViolation,
                "the client gave memory it does not allow this access to, or took it back",
            ),
            12 => (
                CloseReason::TimedOut,
                "the client's device no longer answers",
            ),
            13 => (
                CloseReason::PeerViolation,
                "the client granted a credit without a buffer behind it",
            ),
            _ => (CloseReason::DeviceError, "see the device's own log (dmesg)"),
        };
        Ending {
            reason,
            detail: format!("{what} failed: {name} ({status}): {meaning}"),
        }
    }
}

impl From<SystemError> for Ending {
    fn from(error: SystemError) -> Ending {
        let detail = match error.source.raw_os_error() {
            Some(libc::ENOMEM) => format!("{error}; {}", crate::config::MEMORY_LOCK_ADVICE),
            _ => error.to_string(),
        };
        Ending {
            reason: CloseReason::DeviceError,
            detail,
        }
    }
}

impl From<RelayError> for Ending {
    fn from(error: RelayError) -> Ending {
        Ending::relay(error)
    }
}

impl From<Breach> for Ending {
    fn from(breach: Breach) -> Ending {
        Ending::relay(breach)
    }
}

impl From<TooFewBytes> for Ending {
    fn from(error: TooFewBytes) -> Ending {
        Ending::relay(error)
    }
}

impl From<LinkError> for Ending {
    fn from(error: LinkError) -> Ending {
        match error {
            LinkError::Closed => Ending {
                reason: CloseReason::ServerClosed,
                detail: "its child ended (smbd's log says why); the client will reconnect".into(),
            },
            LinkError::Oversized => Ending::relay(error),
            LinkError::Backlog { .. } => Ending::limit(format!(
                "its child reads nothing: {error}; the child hangs or is starved"
            )),
            LinkError::System(error) => Ending::from(error),
        }
    }
}

impl From<smbdirect::PeerViolation> for Ending {
    fn from(violation: smbdirect::PeerViolation) -> Ending {
        Ending::from(smbdirect::CloseReason::Violation(violation))
    }
}

impl From<smbdirect::CloseReason> for Ending {
    fn from(reason: smbdirect::CloseReason) -> Ending {
        use smbdirect::CloseReason as Machine;
        let to_child = match reason {
            Machine::Violation(_) | Machine::VersionNotSupported => CloseReason::PeerViolation,
            Machine::NegotiateTimeout
            | Machine::KeepaliveTimeout
            | Machine::PartialMessageTimeout => CloseReason::TimedOut,
            Machine::NoReceiveBuffers => CloseReason::LimitReached,
            Machine::PeerDisconnected => return Ending::disconnected(),
            Machine::TransportError => CloseReason::DeviceError,
            Machine::Local => CloseReason::ServerClosed,
        };
        Ending {
            reason: to_child,
            detail: reason.to_string(),
        }
    }
}
