//! Which record a child may send in which phase of its relay, in one table. Anything else ends
//! the connection.
//!
//! ```text
//! Greeted --attach--> Attached --mapped--> Mapped
//!    |  `---attach--> Refused                 |
//!    `------- close from every phase ---------'--> Closing
//! ```

use proto::relay::{Body, ToGateway};

/// How far the child has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has `hello` and messages: it may answer inline, and ask for more.
    Greeted,
    /// It was given a region and has not said that it mapped it.
    Attached,
    /// It may use RDMA.
    Mapped,
    /// There was no memory for it: inline for good.
    Refused,
    /// It has asked for the end.
    Closing,
}

/// A record that may not come now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the child sent `{record}` while {phase}")]
pub struct Breach {
    record: &'static str,
    phase: &'static str,
}

impl Phase {
    /// Checks `record` against the table.
    #[rustfmt::skip]
    pub fn allows(self, record: &ToGateway<'_>) -> Result<(), Breach> {
        let uses_region = uses_region(record);
        let allowed = match (self, record) {
            (Phase::Closing, ToGateway::Release { .. })      => true,
            (Phase::Closing, _)                              => false,
            (_, ToGateway::Release { .. })                   => true,
            (_, ToGateway::Close { .. })                     => true,
            (Phase::Greeted, ToGateway::Attach)              => true,
            (Phase::Attached, ToGateway::Mapped)             => true,
            (Phase::Mapped, ToGateway::ReadPayload { .. })   => true,
            (Phase::Mapped, ToGateway::Expect { .. })        => true,
            (Phase::Mapped, ToGateway::Lend { .. })          => true,
            (Phase::Mapped, ToGateway::Recall)               => true,
            (Phase::Mapped, ToGateway::Grow { .. })          => true,
            (phase, ToGateway::Reply { .. })                 => phase == Phase::Mapped || !uses_region,
            _                                                => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(Breach { record: name(record), phase: self.name() })
        }
    }

    /// The child is known to have authenticated a session.
    pub fn is_authenticated(self) -> bool {
        !matches!(self, Phase::Greeted)
    }

    fn name(self) -> &'static str {
        match self {
            Phase::Greeted => "not attached",
            Phase::Attached => "attached and not mapped",
            Phase::Mapped => "mapped",
            Phase::Refused => "refused RDMA memory",
            Phase::Closing => "closing",
        }
    }
}

fn uses_region(record: &ToGateway<'_>) -> bool {
    match record {
        ToGateway::Reply { writes, body, .. } => {
            !writes.is_empty() || matches!(body, Body::InRegion(_))
        }
        _ => false,
    }
}

fn name(record: &ToGateway<'_>) -> &'static str {
    match record {
        ToGateway::Attach => "attach",
        ToGateway::Mapped => "mapped",
        ToGateway::Release { .. } => "release",
        ToGateway::ReadPayload { .. } => "read_payload",
        ToGateway::Expect { .. } => "expect",
        ToGateway::Lend { .. } => "lend",
        ToGateway::Recall => "recall",
        ToGateway::Reply { .. } if uses_region(record) => "reply from the region",
        ToGateway::Reply { .. } => "reply",
        ToGateway::Grow { .. } => "grow",
        ToGateway::Close { .. } => "close",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::relay::{CloseReason, MessageSequence, OperationId, Outline, RegionRange};

    const RANGE: RegionRange = RegionRange {
        offset: 0,
        length: 1,
    };

    fn reply(body: Body<'static>) -> ToGateway<'static> {
        ToGateway::Reply {
            operation: OperationId(1),
            invalidate: None,
            writes: Vec::new(),
            body,
        }
    }

    fn records() -> Vec<ToGateway<'static>> {
        vec![
            ToGateway::Attach,
            ToGateway::Mapped,
            ToGateway::Release {
                through: MessageSequence(1),
            },
            ToGateway::ReadPayload {
                operation: OperationId(1),
                target: RANGE,
                descriptors: &[],
            },
            ToGateway::Expect {
                outline: Outline {
                    words: Vec::new(),
                    length_at: 0,
                    descriptors_at: 0,
                    descriptors: 1,
                },
            },
            ToGateway::Lend {
                operation: OperationId(1),
                target: RANGE,
            },
            ToGateway::Recall,
            reply(Body::Inline(b"x")),
            reply(Body::InRegion(RANGE)),
            ToGateway::Grow { parts: 1 },
            ToGateway::Close {
                reason: CloseReason::ServerClosed,
            },
        ]
    }

    #[test]
    fn the_table_is_this() {
        let allowed = |phase: Phase| -> String {
            records()
                .iter()
                .map(|record| {
                    if phase.allows(record).is_ok() {
                        'y'
                    } else {
                        '-'
                    }
                })
                .collect()
        };
        // attach mapped release read_payload expect lend recall reply reply-from-region grow close
        assert_eq!(allowed(Phase::Greeted), "y-y----y--y");
        assert_eq!(allowed(Phase::Attached), "-yy----y--y");
        assert_eq!(allowed(Phase::Mapped), "--yyyyyyyyy");
        assert_eq!(allowed(Phase::Refused), "--y----y--y");
        assert_eq!(allowed(Phase::Closing), "--y--------");
    }

    #[test]
    fn a_breach_names_record_and_phase() {
        let breach = Phase::Attached.allows(&ToGateway::Attach).unwrap_err();
        assert_eq!(
            breach.to_string(),
            "the child sent `attach` while attached and not mapped"
        );
    }
}
