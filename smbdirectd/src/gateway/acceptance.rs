//! Which connections come to be: listeners kept in step with addresses and devices, connection
//! requests accepted or refused, and what else the connection manager says handed to whom it
//! concerns. Limits on newcomers are here; nothing of SMB Direct is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::control::ConnectionId;
use proto::control::gateway::FromGateway;
use proto::network::Network;
use proto::smbdirect::{ReadDepths, RequestedReads};
use proto::time::Timestamp;

use super::connection::{Connection, NotAccepted};
use super::ending::Ending;
use super::{Entry, Gateway, GatewayError, SETTLE, UNSETTLED, kind, token};
use crate::rdma::{CmEvent, CmEventKind, DeviceKey, Identifier, Transport};

/// How often addresses and devices are looked at again, without any news of them.
const RESCAN: Duration = Duration::from_secs(1);
/// A flood of refused connections is one log line in this time.
const REFUSAL_LOG: Duration = Duration::from_secs(10);
/// Unattached connections one client address may have.
const UNATTACHED_PER_ADDRESS: usize = 64;
/// Of one network: a /64 of IPv6, in which one machine can have any number of addresses.
const UNATTACHED_PER_NETWORK: usize = 256;

impl Gateway {
    pub(super) fn handle_manager(&mut self, now: Timestamp) -> Result<(), GatewayError> {
        while let Some(event) = self.channel.next()? {
            self.handle_manager_event(now, event);
        }
        Ok(())
    }

    fn handle_manager_event(&mut self, now: Timestamp, event: CmEvent) {
        if event.token >> 56 == kind::LISTENER {
            match event.kind {
                CmEventKind::ConnectRequest {
                    identifier,
                    initiator_depth,
                    responder_resources,
                    private_data,
                } => {
                    // What the peer serves is what we may have outstanding, and the other way round.
                    let told = ReadDepths {
                        served: initiator_depth,
                        outstanding: responder_resources,
                    };
                    self.accept(now, identifier, told, &private_data);
                }
                CmEventKind::DeviceRemoval | CmEventKind::AddressChanged => {
                    self.listeners.drop_listener(event.token);
                    self.unsettled_until = now.saturating_add(UNSETTLED);
                    self.rescan_at = now;
                }
                _ => {}
            }
            return;
        }
        let Some(index) = self.find(event.token) else {
            return;
        };
        let connection = &mut self.connections[index].connection;
        match event.kind {
            CmEventKind::Established { .. } => connection.handle_established(now),
            CmEventKind::Disconnected => connection.handle_disconnected(now, &mut self.shared),
            CmEventKind::Failed(what) => {
                let detail = format!(
                    "the connection was never made: {what} (status {}); \
                     the client gave up or the network loses packets",
                    event.status
                );
                connection.end(
                    now,
                    Ending {
                        reason: proto::relay::CloseReason::PeerDisconnected,
                        detail,
                    },
                );
            }
            CmEventKind::DeviceRemoval => connection.handle_device_removal(now),
            _ => {}
        }
        self.touch(index);
    }

    fn accept(
        &mut self,
        now: Timestamp,
        identifier: Identifier,
        told: ReadDepths,
        private_data: &[u8],
    ) {
        if let Err(why) = self.may_accept(&identifier) {
            self.refuse(now, identifier, &why);
            return;
        }
        let Some(device) = self.listeners.device(&identifier).cloned() else {
            self.refuse(now, identifier, "its device is not in use");
            return;
        };
        let name = device.domain.device().name();
        let name = &*name;
        let reads = match device.domain.device().transport() {
            Transport::Iwarp => RequestedReads::of_iwarp(told, private_data),
            Transport::InfiniBand => Ok(RequestedReads {
                peer: told,
                by_private_data: false,
            }),
        };
        let reads = match reads {
            Ok(reads) => reads,
            Err(none) => return self.refuse(now, identifier, &none.to_string()),
        };
        let number = ConnectionId(self.next_number);
        let limits = &self.shared.limits;
        let device_limits = device.limits;
        let domain = match device.domain_of_connection() {
            Ok(domain) => domain,
            Err(error) => return self.refuse(now, identifier, &error.to_string()),
        };
        let made = Connection::accept(
            number,
            identifier,
            &domain,
            device_limits,
            reads,
            limits,
            now,
        );
        let connection = match made {
            Ok(connection) => Box::new(connection),
            Err(error @ NotAccepted::GivenUp(_)) => {
                tracing::info!(device = name, "{error}");
                return;
            }
            Err(NotAccepted::Failed(error)) => {
                self.note_refusal(
                    now,
                    None,
                    &format!("on {name}: {}", Ending::from(error).detail),
                );
                return;
            }
        };
        self.next_number += 1;
        self.generation = (self.generation + 1) & 0x00ff_ffff;
        let index = self.connections.vacant_key();
        let token = token(kind::CONNECTION, self.generation, index);
        connection.set_token(token);
        if let Err(error) = self.watch(connection.completion_channel(), token, false) {
            tracing::warn!("a connection could not be watched: {error}");
            return;
        }
        self.shared.totals.accepted += 1;
        tracing::info!(
            connection = number.0,
            peer = %connection.peer(),
            local = %connection.local(),
            device = name,
            "accepted"
        );
        self.connections.insert(Entry {
            connection,
            generation: self.generation,
            dirty: false,
            unarmed: false,
            deadline: None,
            relay: None,
        });
        self.touch(index);
    }

    fn may_accept(&self, identifier: &Identifier) -> Result<(), String> {
        if self.shutdown_by.is_some() {
            return Err("this server is shutting down".into());
        }
        let most = self.shared.limits.settings().max_connections as usize;
        if self.connections.len() >= most {
            return Err(format!(
                "{} RDMA connections are open of the {most} that are allowed; {}",
                self.connections.len(),
                self.shared.limits.connections_advice()
            ));
        }
        let Some(peer) = identifier.peer_address().map(|peer| peer.ip()) else {
            return Err("it has no address".into());
        };
        let unattached = |is_meant: &dyn Fn(IpAddr) -> bool| {
            self.connections
                .iter()
                .filter(|(_, entry)| entry.connection.is_unattached())
                .filter(|(_, entry)| is_meant(entry.connection.peer().ip()))
                .count()
        };
        let of_address = unattached(&|other| other == peer);
        let of_network = unattached(&|other| Network::of(other) == Network::of(peer));
        for (whose, count, most) in [
            ("address", of_address, UNATTACHED_PER_ADDRESS),
            ("network", of_network, UNATTACHED_PER_NETWORK),
        ] {
            if count >= most {
                return Err(format!(
                    "its {whose} has {count} connections on which nobody has logged on"
                ));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, now: Timestamp, identifier: Identifier, why: &str) {
        self.note_refusal(now, identifier.peer_address(), why);
        let _ = identifier.reject();
    }

    fn note_refusal(&mut self, now: Timestamp, peer: Option<SocketAddr>, why: &str) {
        self.shared.totals.refused += 1;
        let quiet = self
            .refusal_logged
            .is_some_and(|logged| now < logged.saturating_add(REFUSAL_LOG));
        if !quiet {
            self.refusal_logged = Some(now);
            let refused = self.shared.totals.refused;
            tracing::warn!(?peer, refused, "connection refused: {why}");
        }
    }

    fn end_connections_on(&mut self, now: Timestamp, removed: &[DeviceKey]) {
        if removed.is_empty() {
            return;
        }
        let on_removed = |entry: &Entry| removed.contains(&entry.connection.device().key());
        let connections = self.connections.iter();
        let indexes: Vec<usize> = connections
            .filter(|(_, entry)| on_removed(entry))
            .map(|(index, _)| index)
            .collect();
        for index in indexes {
            self.connections[index]
                .connection
                .handle_device_removal(now);
            self.touch(index);
        }
    }

    pub(super) fn rescan(&mut self, first: bool) {
        let now = self.now();
        let pause = match now < self.unsettled_until {
            true => SETTLE,
            false => RESCAN,
        };
        self.rescan_at = now.saturating_add(pause);
        let found = self.listeners.rescan();
        if !found.removed.is_empty() {
            // Its removal may wait until it is let go of, which its connections do first.
            self.rescan_at = now.saturating_add(SETTLE);
        }
        self.end_connections_on(now, &found.removed);
        for text in found.problems {
            tracing::warn!("{text}");
            self.say(&FromGateway::Problem { text });
        }
        for device in self.listeners.take_new_devices() {
            for lowered in device.status(&self.shared.limits).lowered {
                tracing::info!(device = &*device.domain.device().name(), "{lowered}");
            }
        }
        for device in self.listeners.devices() {
            while let Some(event) = device.domain.device().next_event() {
                let name = device.domain.device().name();
                tracing::info!(device = &*name, event, "the device reports an event");
            }
        }
        if found.changed || first {
            let interfaces = self.listeners.interfaces();
            self.say(&FromGateway::Interfaces(interfaces));
        }
    }
}
