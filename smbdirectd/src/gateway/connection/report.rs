//! What a connection says of itself when the administrator asks, and once it has ended. Only reads
//! what is counted anyway.

use proto::control::gateway::{
    ConnectionCounts, ConnectionCredits, ConnectionLimits, ConnectionStatus, EndedConnection,
};
use proto::relay::MessageName;
use proto::time::Timestamp;
use tracing::Level;

use super::{Connection, Stage};
use crate::memory::Attachment;

impl Connection {
    /// For a status query.
    pub fn status(&self, now: Timestamp) -> ConnectionStatus {
        let state = match self.stage {
            Stage::Open => self.machine.state().name(),
            Stage::Finishing { .. } => "closing",
            Stage::Draining { .. } => "draining",
            Stage::Drained { .. } => "drained",
        };
        let credits = self.machine.credits();
        let counters = self.machine.counters();
        ConnectionStatus {
            connection: self.number,
            peer: self.peer,
            local: self.local,
            device: self.device().name().to_string(),
            state: state.to_string(),
            child_pid: None,
            age_s: now.saturating_duration_since(self.accepted_at).as_secs(),
            limits: ConnectionLimits {
                max_send_payload: self.machine.max_send_payload(),
                max_receive_size: self.machine.receive_buffer_size(),
                max_fragmented_send_size: self.machine.peer_max_fragmented_size(),
                max_fragmented_receive_size: self.machine.max_fragmented_receive_size(),
                max_read_write_size: self.machine.max_read_write_size(),
                reads: self.send_queue.read_depth(),
                rdma_depth: self.send_queue.rdma_depth(),
                sends: self.machine.parameters().max_outstanding_sends,
            },
            credits: ConnectionCredits {
                held: credits.held,
                granted: credits.granted,
                target: credits.target,
                posted: credits.posted,
                granted_total: counters.credits_granted,
                received_total: counters.credits_received,
            },
            counts: self.counts(),
            region_bytes: self.attachment.as_ref().map_or(0, Attachment::granted),
        }
    }

    /// Once it has ended: how, `now` later.
    pub fn ended(&self, now: Timestamp) -> Option<EndedConnection> {
        let ending = self.ending.as_ref()?;
        let ended_at = self.ended_at.unwrap_or(now);
        let lived = ended_at.saturating_duration_since(self.accepted_at);
        Some(EndedConnection {
            connection: self.number,
            peer: self.peer,
            device: self.device().name().to_string(),
            ago_s: now.saturating_duration_since(ended_at).as_secs(),
            lived_s: lived.as_secs(),
            reason: format!("{:?}", ending.reason),
            message: format!(
                "{} on {}: {}",
                self.peer,
                self.device().name(),
                ending.sentence()
            ),
            counts: self.counts(),
        })
    }

    /// Logs something of a message under the id its child uses too; nothing where nobody wants it.
    pub(super) fn follow(&self, message: u64, event: impl FnOnce()) {
        if message != 0 && tracing::enabled!(Level::DEBUG) {
            let id = MessageName {
                connection: self.number.0,
                message,
            };
            tracing::debug_span!("message", %id).in_scope(event);
        }
    }

    fn counts(&self) -> ConnectionCounts {
        let counters = self.machine.counters();
        ConnectionCounts {
            messages_in: counters.messages_received,
            messages_out: counters.messages_sent,
            fragments_in: counters.fragments_received,
            fragments_out: counters.fragments_sent,
            empty_in: counters.empty_received,
            empty_out: counters.empty_sent,
            bytes_in: counters.bytes_received,
            bytes_out: counters.bytes_sent,
            keepalives_in: counters.keepalives_received,
            keepalives_out: counters.keepalives_sent,
            rdma_reads: self.moved.reads,
            rdma_read_bytes: self.moved.read_bytes,
            rdma_writes: self.moved.writes,
            rdma_write_bytes: self.moved.write_bytes,
        }
    }
}
