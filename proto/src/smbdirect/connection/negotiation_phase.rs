//! The connection until it is established, [MS-SMBD] 3.1.5.6 and 3.1.5.7: when which negotiate
//! message is sent, and what a received one changes. What they say is `negotiation`'s affair.

use super::super::messages::NegotiateResponse;
use super::super::negotiation::{self, Answer, STATUS_INSUFFICIENT_RESOURCES};
use super::super::outgoing::{Header, Outgoing};
use super::super::state::{Event, State};
use super::super::violation::{CloseReason, PeerViolation};
use super::{Connection, Received};
use crate::time::Timestamp;

impl Connection {
    pub(super) fn receive_request(&mut self, message: &[u8]) -> Result<Received, PeerViolation> {
        self.receive_credits.take_uncredited();
        let answer = negotiation::answer_request(message, &self.parameters)?;
        self.answer = Some(answer);
        self.transition(Event::RequestReceived);
        match answer {
            Answer::Accept {
                negotiated,
                credits_requested,
            } => {
                self.negotiated = Some(negotiated);
                self.receive_credits.set_requested(credits_requested);
                Ok(Received::Negotiated)
            }
            Answer::Refuse { status } => Ok(Received::Refused { status }),
        }
    }

    pub(super) fn receive_response(
        &mut self,
        now: Timestamp,
        message: &[u8],
    ) -> Result<Received, PeerViolation> {
        self.receive_credits.take_uncredited();
        let (negotiated, response) = negotiation::accept_response(message, &self.parameters)?;
        self.negotiated = Some(negotiated);
        self.receive_credits
            .set_requested(response.credits_requested);
        self.add_send_credits(response.credits_granted)?;
        self.keepalive.message_received(now);
        self.transition(Event::ResponseAccepted);
        Ok(Received::Negotiated)
    }

    /// The active side asks only once the answer has a buffer to land in.
    pub(super) fn send_request(&mut self) -> Option<Outgoing> {
        if self.receive_credits.posted() == 0 {
            return None;
        }
        self.transition(Event::RequestSent);
        self.send_credits.spend_room();
        let request = negotiation::request(&self.parameters).encode();
        Some(Outgoing::without_payload(Header::padded(request, 20)))
    }

    /// The answer grants as many credits as receives are posted, and waits for at least one: a
    /// driver that is not ready for a connection's messages simply posts nothing yet.
    pub(super) fn send_answer(&mut self, now: Timestamp) -> Option<Outgoing> {
        match self.answer? {
            Answer::Refuse { status } => {
                self.answer = None;
                self.transition(Event::RefusalSent);
                let reason = match status {
                    STATUS_INSUFFICIENT_RESOURCES => CloseReason::NoReceiveBuffers,
                    _ => CloseReason::VersionNotSupported,
                };
                self.closed.get_or_insert(reason);
                self.send_credits.spend_room();
                let response = NegotiateResponse::refusal(status).encode();
                Some(Outgoing {
                    disconnect_after: true,
                    ..Outgoing::without_payload(Header::padded(response, 32))
                })
            }
            Answer::Accept { negotiated, .. } => {
                let granted = self.receive_credits.grantable(false);
                if granted == 0 {
                    return None;
                }
                self.answer = None;
                self.transition(Event::ResponseSent);
                self.keepalive.message_received(now);
                self.send_credits.spend_room();
                self.grant(granted);
                let response =
                    negotiation::response(&self.parameters, &negotiated, granted).encode();
                Some(Outgoing::without_payload(Header::padded(response, 32)))
            }
        }
    }

    pub(super) fn check_negotiate_timer(&mut self, now: Timestamp) {
        if now < self.negotiate_deadline {
            return;
        }
        let unposted = self.state == State::Answering && self.receive_credits.available() == 0;
        if unposted && matches!(self.answer, Some(Answer::Accept { .. })) {
            self.answer = Some(Answer::Refuse {
                status: STATUS_INSUFFICIENT_RESOURCES,
            });
            self.negotiate_deadline = now.saturating_add(self.parameters.negotiate_timeout);
        } else {
            self.close(CloseReason::NegotiateTimeout);
        }
    }
}
