//! The established connection: Data Transfer messages in, [MS-SMBD] 3.1.5.8, and out, 3.1.5.1.

use super::super::messages::{DataTransferHeader, PAYLOAD_OFFSET, RESPONSE_REQUESTED};
use super::super::outgoing::{Header, Outgoing};
use super::super::violation::PeerViolation;
use super::{Connection, Received};
use crate::time::Timestamp;

impl Connection {
    /// [MS-SMBD] 3.1.5.8.
    pub(super) fn receive_data(
        &mut self,
        now: Timestamp,
        message: &[u8],
    ) -> Result<Received, PeerViolation> {
        let header = DataTransferHeader::decode(message)?;
        if header.credits_requested == 0 {
            return Err(PeerViolation::NoCreditsRequested);
        }
        if !header.data_offset.is_multiple_of(8) {
            return Err(PeerViolation::DataOffsetAlignment {
                received: header.data_offset,
            });
        }
        let data =
            header
                .payload_range(message.len())
                .ok_or(PeerViolation::DataOutsideMessage {
                    data_offset: header.data_offset,
                    data_length: header.data_length,
                    message_length: message.len(),
                })?;
        let place = self.reassembly.accept(now, &header)?;

        self.receive_credits.take_credited()?;
        self.receive_credits.set_requested(header.credits_requested);
        self.add_send_credits(header.credits_granted)?;
        self.keepalive.message_received(now);
        if self.receive_credits.posted() == 0 {
            self.muted_since = Some(now);
        }
        if header.response_requested() {
            self.response_due = true;
            self.counters.keepalives_received += 1;
        }

        let Some(place) = place else {
            self.counters.empty_received += 1;
            return Ok(Received::Empty);
        };
        self.receive_credits.note_data();
        self.counters.fragments_received += 1;
        self.counters.messages_received += u64::from(place.last);
        self.counters.bytes_received += u64::from(header.data_length);
        Ok(Received::Fragment {
            data,
            message_length: place.message_length,
            offset_in_message: place.offset,
            last: place.last,
        })
    }

    /// [MS-SMBD] 3.1.5.1. An empty message is sent only when no message is queued, which also
    /// keeps it out from between two fragments.
    pub(super) fn send_data(&mut self, now: Timestamp) -> Option<Outgoing> {
        let held = self.send_credits.held();
        let wanted = self.has_reason_to_send() || self.receive_credits.grant_is_urgent();
        if held == 0 || !wanted {
            return None;
        }
        let regular = self.receive_credits.grantable(false);
        let grant = self.receive_credits.grantable(self.last_credit_is_needed());
        // The last credit may only be spent on a message that grants: two sides that both spent
        // theirs otherwise could never speak again.
        if held == 1 && grant == 0 {
            return None;
        }

        let fragment = self.queue.next_fragment(self.max_send_payload());
        let keepalive = self.keepalive.is_due();
        if keepalive {
            self.keepalive.request_sent(now);
            self.counters.keepalives_sent += 1;
        }
        self.response_due = false;
        self.counters.last_credit_grants += u64::from(grant > regular);
        self.send_credits.spend();
        self.grant(grant);

        let mut header = DataTransferHeader {
            credits_requested: self.parameters.send_credit_target,
            credits_granted: grant,
            flags: if keepalive { RESPONSE_REQUESTED } else { 0 },
            remaining_data_length: 0,
            data_offset: 0,
            data_length: 0,
        };
        let Some(fragment) = fragment else {
            self.counters.empty_sent += 1;
            return Some(Outgoing::without_payload(Header::padded(
                header.encode(),
                20,
            )));
        };
        let range = &fragment.payload.range;
        header.remaining_data_length = fragment.remaining;
        header.data_offset = PAYLOAD_OFFSET;
        header.data_length = range.end - range.start;
        let last_of_message = fragment.remaining == 0;
        self.counters.fragments_sent += 1;
        self.counters.messages_sent += u64::from(last_of_message);
        self.counters.bytes_sent += u64::from(header.data_length);
        Some(Outgoing {
            header: Header::padded(header.encode(), 24),
            last_of_message,
            invalidate: fragment.invalidate,
            payload: Some(fragment.payload),
            disconnect_after: false,
        })
    }
}
