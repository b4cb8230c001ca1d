//! Answers the administrator's question: every connection as it is, the last ones that ended, the
//! devices, and the addresses nobody listens on. Counts nothing itself.

use std::collections::VecDeque;

use proto::control::QueryId;
use proto::control::gateway::{EndedConnection, FromGateway, GatewayTotals};
use proto::time::Timestamp;

use super::Gateway;
use super::connection::Connection;
use crate::rdma::live_objects;

/// Endings remembered.
const REMEMBERED: usize = 32;
/// Connections in one message: they fit a datagram behind a batch of others.
const CONNECTIONS_A_MESSAGE: usize = 64;

/// How the last connections ended, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<(Timestamp, EndedConnection)>);

impl Ended {
    /// A connection is about to be dropped.
    pub(super) fn note(&mut self, now: Timestamp, connection: &Connection) {
        if let Some(ended) = connection.ended(now) {
            while self.0.len() >= REMEMBERED {
                self.0.pop_front();
            }
            self.0.push_back((now, ended));
        }
    }

    /// As they look `now`.
    fn list(&self, now: Timestamp) -> impl Iterator<Item = EndedConnection> {
        self.0.iter().map(move |(noted, ended)| EndedConnection {
            ago_s: ended.ago_s + now.saturating_duration_since(*noted).as_secs(),
            ..ended.clone()
        })
    }
}

impl Gateway {
    pub(super) fn answer_status(&mut self, now: Timestamp, query: QueryId) {
        let mut connections = Vec::new();
        let mut ended: Vec<EndedConnection> = self.ended.list(now).collect();
        for (_, entry) in &self.connections {
            connections.push(entry.connection.status(now));
            ended.extend(entry.connection.ended(now));
        }
        ended.drain(..ended.len().saturating_sub(REMEMBERED));
        for some in connections.chunks(CONNECTIONS_A_MESSAGE) {
            let connections = some.to_vec();
            self.say(&FromGateway::Connections { query, connections });
        }
        let objects = live_objects();
        let totals = GatewayTotals {
            connections: self.connections.len() as u64,
            queue_pairs: objects.queue_pairs,
            memory_regions: objects.memory_regions,
            pinned_bytes: objects.pinned_bytes,
            region_bytes_copied: shm::region::bytes_copied(),
            ..self.shared.totals
        };
        let devices = self.listeners.devices();
        let devices = devices
            .map(|entry| entry.status(&self.shared.limits))
            .collect();
        let unheard = self.listeners.unheard();
        self.say(&FromGateway::Status {
            query,
            totals,
            devices,
            unheard,
            ended,
        });
    }
}
