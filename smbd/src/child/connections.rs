//! A child's connections: taken from the supervisor or the broker, claimed, ended.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use proto::control::ConnectionKind;
use proto::control::broker::{BindingConnection, PassAnswer, Refusal};
use proto::control::child::{ChannelStatus, ChildStatus, Transport};
use proto::smb2::{Dialect, Guid, HEADER_SIZE, Header, NtStatus, SessionId};
use shm::SystemError;

use super::Child;
use super::passes::{MAX_UNAUTHENTICATED, Occupancy};
use crate::channel::{self, Channel, Reading, RelayChannel, TcpChannel};
use crate::handlers;
use crate::messaging::{Claim, ClaimRequest, LostSession};
use crate::security::spnego::LogonKind;
use crate::state::{Connection, Open, Session};
use crate::stop_point;

/// A message beyond the payload of the largest WRITE.
const MESSAGE_OVERHEAD: u32 = 64 * 1024;

impl Child {
    /// Makes a connection of a descriptor.
    pub(super) fn connect(
        &self,
        kind: ConnectionKind,
        descriptor: OwnedFd,
    ) -> Result<Rc<Connection>, SystemError> {
        let channel: Rc<dyn Channel> = match kind {
            ConnectionKind::Tcp => {
                let global = &self.config.global;
                let payload = global.smb2_max_write.max(global.smb2_max_trans);
                let longest = payload + MESSAGE_OVERHEAD;
                let buffers = self.buffers.clone();
                Rc::new(TcpChannel::new(descriptor, longest, buffers)?)
            }
            ConnectionKind::Relay => {
                Rc::new(RelayChannel::new(descriptor, Rc::clone(&self.region))?)
            }
        };
        let id = next_connection();
        let connection = Rc::new(Connection::new(id, channel));
        self.connections
            .borrow_mut()
            .insert(id, Rc::clone(&connection));
        Ok(connection)
    }

    /// What it has. `accepted`: how many were taken and are not served yet.
    pub(super) fn occupancy(&self, accepted: usize, ending: bool) -> Occupancy {
        Occupancy {
            connections: self.connections.borrow().len() + accepted,
            unauthenticated: self.unauthenticated() + accepted,
            ending,
        }
    }

    /// Whether a connection to be bound is taken. Its request is signed with the session's key, so it is
    /// no stranger's: the unauthenticated ones that are here already do not keep it out.
    pub(super) fn judge_binding(
        &self,
        binding: &BindingConnection,
        accepted: usize,
        shutdown: bool,
    ) -> PassAnswer {
        let is_signed = Header::decode(&binding.request).is_ok_and(|header| {
            let session = self.sessions.find(header.session_id);
            let key = session.and_then(|session| session.signing_key.clone());
            let split = binding.request.split_first_chunk::<HEADER_SIZE>();
            header.is_signed()
                && key
                    .zip(split)
                    .is_some_and(|(key, (head, rest))| key.verify(head, &[rest]))
        });
        let occupancy = self.occupancy(accepted, shutdown);
        match occupancy.judge() {
            _ if !is_signed => PassAnswer::Refused(Refusal::NoSession),
            PassAnswer::Refused(Refusal::TooManyUnauthenticated)
                if occupancy.unauthenticated < 2 * MAX_UNAUTHENTICATED =>
            {
                PassAnswer::Accepted
            }
            answer => answer,
        }
    }

    fn unauthenticated(&self) -> usize {
        let connections = self.connections.borrow();
        let all = connections.values();
        all.filter(|connection| !connection.is_authenticated())
            .count()
    }

    /// Finds out whether this process serves the connection, and reads on if so. An error is the
    /// answer to its NEGOTIATE; a connection that went to another process is ended without one.
    pub async fn claim(
        &self,
        connection: &Connection,
        client_guid: Guid,
        dialect: Dialect,
    ) -> Result<(), NtStatus> {
        // A client of 2.0.2 has no ClientGuid (MS-SMB2 3.3.5.4); what stands there is nobody's. Zeros
        // are nobody's either.
        let owned = connection.claimed.get()
            || !self.config.global.server_multi_channel_support
            || client_guid == Guid::ZERO
            || dialect == Dialect::Smb202;
        if !owned {
            stop_point::reach("child-negotiating");
            let duplicate = connection
                .channel
                .descriptor()
                .as_fd()
                .try_clone_to_owned()
                .map_err(|error| {
                    connection.end(format!("its socket can't be duplicated: {error}"));
                    NtStatus::INSUFFICIENT_RESOURCES
                })?;
            let request = ClaimRequest {
                client_guid: client_guid.0,
                dialect: dialect.into(),
                kind: connection.channel.kind(),
                preface: connection.channel.preface(),
            };
            match self.broker.claim(request, duplicate).await {
                Claim::Owner(_) => {
                    stop_point::reach("child-owner");
                    // Its client may have left meanwhile; the broker counts it all the same.
                    if !self.connections.borrow().contains_key(&connection.id) {
                        self.broker.channel_closed();
                        return Err(NtStatus::CONNECTION_DISCONNECTED);
                    }
                    connection.claimed.set(true);
                }
                Claim::HandedOver => {
                    stop_point::reach("child-handed-over");
                    connection.hand_over();
                    return Err(NtStatus::CONNECTION_DISCONNECTED);
                }
                // Anybody may say this ClientGuid and not log on. That must not keep its client out:
                // it is served here, apart from its other connections.
                Claim::Refused(reason @ Refusal::TooManyUnauthenticated, _) => {
                    tracing::warn!(
                        peer = %connection.channel.peer(),
                        %reason,
                        "a connection is served apart from its client's others"
                    );
                }
                Claim::Refused(reason, _) => {
                    tracing::warn!(peer = %connection.channel.peer(), %reason, "a connection is refused");
                    return Err(NtStatus::INSUFFICIENT_RESOURCES);
                }
            }
        }
        self.serve(connection, client_guid);
        Ok(())
    }

    /// Reads on: the connection is this process's to serve.
    pub fn serve(&self, connection: &Connection, client_guid: Guid) {
        let (serving, authenticated) = self.announced.get();
        if !serving {
            self.supervisor.serving(client_guid.0);
            self.announced.set((true, authenticated));
        }
        connection.channel.read_on(Reading::Freely);
    }

    /// A session was authenticated on a connection.
    pub fn authenticated(&self, connection: &Connection) {
        let credits = u16::try_from(self.config.global.smb2_max_credits).unwrap_or(u16::MAX);
        connection.set_authenticated(credits);
        let (serving, authenticated) = self.announced.get();
        if !authenticated {
            self.supervisor.authenticated();
            self.announced.set((serving, true));
        }
    }

    /// Takes a session out: nobody finds it or its tree connects any more. Gives its opens, to be
    /// released one by one. Its client is told on all channels but the one it asked on.
    pub fn take_session(&self, session: &Session, asked_on: Option<&Connection>) -> Vec<Rc<Open>> {
        self.sessions.remove(session.id);
        handlers::logoff::notify(self, session, asked_on);
        self.broker.session_closed(session.id.0);
        session.trees.end();
        session.opens.remove_all(None)
    }

    /// Ends a session whose client does not wait for it: opens are released in the background.
    pub fn end_session(self: &Rc<Child>, session: &Session, asked_on: Option<&Connection>) {
        let opens = self.take_session(session, asked_on);
        if opens.is_empty() {
            return;
        }
        let child = Rc::clone(self);
        self.spawn_detached(async move {
            for open in opens {
                handlers::close::release(&child, open).await;
            }
        });
    }

    /// A session that its user has lost, and that another process has its place of, ends.
    pub fn end_lost(self: &Rc<Child>, lost: LostSession) {
        let found = self.sessions.find(SessionId(lost.session)).filter(|found| {
            let user = found.user();
            user.kind == LogonKind::User
                && user.identity.uid == lost.uid
                && user.name.to_lowercase() == lost.user.to_lowercase()
        });
        let opens = found.map(|session| self.take_session(&session, None));
        let child = Rc::clone(self);
        self.spawn_detached(async move {
            for open in opens.unwrap_or_default() {
                handlers::close::release(&child, open).await;
            }
            child.broker.session_ended(lost.claim);
        });
    }

    /// A connection is gone: what hangs from it goes too.
    pub(super) fn disconnect(self: &Rc<Child>, connection: &Connection) {
        if self
            .connections
            .borrow_mut()
            .remove(&connection.id)
            .is_none()
        {
            return;
        }
        connection.requests.borrow().cancel_all();
        connection.logons.take();
        for session in self.sessions.all() {
            if !session.has_channel(connection.id) {
                continue;
            }
            if session.remove_channel(connection.id) {
                self.end_session(&session, None);
            } else {
                handlers::oplock_break::repeat(self, &session);
            }
        }
        if connection.claimed.get() {
            self.broker.channel_closed();
        }
    }

    /// What `smbd status` shows of this process.
    pub(super) fn status(&self) -> ChildStatus {
        let connections = self.connections();
        let sessions = self.sessions.all();
        let negotiated = connections
            .iter()
            .find_map(|connection| connection.negotiated.get());
        ChildStatus {
            client_guid: negotiated.map_or([0; 16], |found| found.client_guid.0),
            dialect: negotiated.map_or(0, |found| found.dialect.into()),
            sessions: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
            opens: sessions
                .iter()
                .map(|session| u32::try_from(session.opens.len()).unwrap_or(u32::MAX))
                .fold(0, u32::saturating_add),
            region_bytes_copied: shm::region::bytes_copied(),
            channels: connections
                .iter()
                .map(|connection| channel_status(connection, &sessions))
                .collect(),
        }
    }
}

fn channel_status(connection: &Connection, sessions: &[Rc<Session>]) -> ChannelStatus {
    let channel = &connection.channel;
    let negotiated = connection.negotiated.get();
    let bound = || {
        let sessions = sessions.iter();
        sessions.filter(|session| session.has_channel(connection.id))
    };
    ChannelStatus {
        transport: match channel.transport() {
            channel::Transport::Tcp => Transport::Tcp,
            channel::Transport::Rdma => Transport::Rdma,
        },
        peer: channel.peer(),
        local: channel.local(),
        device: channel.device().unwrap_or_default(),
        connection: channel
            .gateway_connection()
            .map(proto::control::ConnectionId),
        users: bound().map(|session| session.user().name.clone()).collect(),
        must_protect: bound().any(|session| session.signing_required.get() || session.encrypt_data),
        rdma_transform: negotiated
            .is_some_and(|found| found.rdma_transforms.signing || found.rdma_transforms.encryption),
    }
}

fn next_connection() -> u64 {
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    LAST.with(|last| {
        last.set(last.get() + 1);
        last.get()
    })
}
