//! What follows from a negotiate message: the checks of [MS-SMBD] 3.1.5.6 and 3.1.5.7 in their
//! order, and the values both sides then use. Pure functions of a message and the own parameters.

use super::messages::{NegotiateRequest, NegotiateResponse, VERSION};
use super::parameters::{
    Parameters, SMALLEST_FRAGMENTED_SIZE, SMALLEST_RECEIVE_SIZE, payload_capacity,
};
use super::violation::PeerViolation;

/// STATUS_NOT_SUPPORTED: no common version, [MS-SMBD] 3.1.5.6.
pub(super) const STATUS_NOT_SUPPORTED: u32 = 0xC000_00BB;

/// STATUS_INSUFFICIENT_RESOURCES: not one receive could be posted, [MS-SMBD] 3.1.5.6.
pub(super) const STATUS_INSUFFICIENT_RESOURCES: u32 = 0xC000_009A;

/// Sizes in force after negotiation, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Negotiated {
    /// Longest message this side sends, header included.
    pub(super) max_send_size: u32,
    /// Size of this side's receive buffers.
    pub(super) max_receive_size: u32,
    /// Longest upper-layer message the peer reassembles.
    pub(super) max_fragmented_send_size: u32,
    pub(super) max_read_write_size: u32,
}

impl Negotiated {
    pub(super) const fn max_send_payload(&self) -> u32 {
        payload_capacity(self.max_send_size)
    }
}

/// What the passive side does with a request that was not simply wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accept {
        negotiated: Negotiated,
        credits_requested: u16,
    },
    Refuse {
        status: u32,
    },
}

/// [MS-SMBD] 3.1.5.6, for the passive side.
pub(super) fn answer_request(message: &[u8], own: &Parameters) -> Result<Answer, PeerViolation> {
    let request = NegotiateRequest::decode(message)?;
    if !(request.min_version..=request.max_version).contains(&VERSION) {
        return Ok(Answer::Refuse {
            status: STATUS_NOT_SUPPORTED,
        });
    }
    if request.credits_requested == 0 {
        return Err(PeerViolation::NoCreditsRequested);
    }
    check_sizes(request.max_receive_size, request.max_fragmented_size)?;
    Ok(Answer::Accept {
        negotiated: Negotiated {
            max_send_size: own.max_send_size.min(request.max_receive_size),
            max_receive_size: own
                .max_receive_size
                .min(request.preferred_send_size)
                .max(SMALLEST_RECEIVE_SIZE),
            max_fragmented_send_size: request.max_fragmented_size,
            max_read_write_size: own.max_read_write_size,
        },
        credits_requested: request.credits_requested,
    })
}

/// The request of the active side, [MS-SMBD] 3.1.5.2.
pub(super) fn request(own: &Parameters) -> NegotiateRequest {
    NegotiateRequest {
        min_version: VERSION,
        max_version: VERSION,
        credits_requested: own.send_credit_target,
        preferred_send_size: own.max_send_size,
        max_receive_size: own.max_receive_size,
        max_fragmented_size: own.max_fragmented_receive_size,
    }
}

/// The answer of the passive side, granting `credits_granted`.
pub(super) fn response(
    own: &Parameters,
    negotiated: &Negotiated,
    credits_granted: u16,
) -> NegotiateResponse {
    NegotiateResponse {
        min_version: VERSION,
        max_version: VERSION,
        negotiated_version: VERSION,
        credits_requested: own.send_credit_target,
        credits_granted,
        status: 0,
        max_read_write_size: negotiated.max_read_write_size,
        preferred_send_size: negotiated.max_send_size,
        max_receive_size: negotiated.max_receive_size,
        max_fragmented_size: own.max_fragmented_receive_size,
    }
}

/// [MS-SMBD] 3.1.5.7, for the active side. The status is looked at before the fields a refusal
/// leaves zero, so that the error names the refusal.
pub(super) fn accept_response(
    message: &[u8],
    own: &Parameters,
) -> Result<(Negotiated, NegotiateResponse), PeerViolation> {
    let response = NegotiateResponse::decode(message)?;
    if response.status != 0 {
        return Err(PeerViolation::NegotiateRefused {
            status: response.status,
        });
    }
    if response.negotiated_version != VERSION {
        return Err(PeerViolation::NegotiatedVersion {
            received: response.negotiated_version,
        });
    }
    check_sizes(response.max_receive_size, response.max_fragmented_size)?;
    if response.credits_requested == 0 {
        return Err(PeerViolation::NoCreditsRequested);
    }
    if response.credits_granted == 0 {
        return Err(PeerViolation::NoCreditsGranted);
    }
    if response.preferred_send_size > own.max_receive_size {
        return Err(PeerViolation::PreferredSendSize {
            received: response.preferred_send_size,
            maximum: own.max_receive_size,
        });
    }
    let negotiated = Negotiated {
        max_send_size: own.max_send_size.min(response.max_receive_size),
        max_receive_size: response.preferred_send_size.max(SMALLEST_RECEIVE_SIZE),
        max_fragmented_send_size: response.max_fragmented_size,
        max_read_write_size: own.max_read_write_size.min(response.max_read_write_size),
    };
    Ok((negotiated, response))
}

fn check_sizes(max_receive_size: u32, max_fragmented_size: u32) -> Result<(), PeerViolation> {
    if max_receive_size < SMALLEST_RECEIVE_SIZE {
        return Err(PeerViolation::MaxReceiveSize {
            received: max_receive_size,
        });
    }
    if max_fragmented_size < SMALLEST_FRAGMENTED_SIZE {
        return Err(PeerViolation::MaxFragmentedSize {
            received: max_fragmented_size,
        });
    }
    Ok(())
}
