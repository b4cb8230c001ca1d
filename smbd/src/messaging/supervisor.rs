//! A child's link to the supervisor: what it is told, and what it reports.

use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};

use proto::control::QueryId;
use proto::control::child::{ChildStatus, FromChild, NetworkInterface, ToChild};
use shm::link::Datagram;

use super::link::{ControlLink, ControlLinkError};

/// What the supervisor says.
#[derive(Debug)]
pub enum SupervisorEvent {
    /// What FSCTL_QUERY_NETWORK_INTERFACE_INFO answers from now on.
    Interfaces(Vec<NetworkInterface>),
    /// The end of a link to a restarted broker, for [`super::Broker::reconnect`].
    Broker(OwnedFd),
    /// To be answered with [`Supervisor::status`].
    QueryStatus(QueryId),
    /// Finish what is under way and end.
    Shutdown,
    /// The supervisor is gone: end. Reported once.
    Lost(ControlLinkError),
}

/// The child's end. Single-threaded.
#[derive(Debug)]
pub struct Supervisor {
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    link: Option<ControlLink<ToChild, FromChild>>,
    datagram: Datagram,
}

impl Supervisor {
    /// Takes this end of the link.
    pub fn new(socket: OwnedFd) -> Supervisor {
        Supervisor {
            state: RefCell::new(State {
                link: Some(ControlLink::new(socket)),
                datagram: Datagram::new(),
            }),
        }
    }

    /// Lends the descriptor to wait on, `None` once the supervisor is lost.
    pub fn with_descriptor<R>(&self, borrow: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        use std::os::fd::AsFd;
        self.state
            .borrow()
            .link
            .as_ref()
            .map(|link| borrow(link.as_fd()))
    }

    /// Reads what has arrived.
    pub fn on_readable(&self) -> Vec<SupervisorEvent> {
        let mut events = Vec::new();
        let state = &mut *self.state.borrow_mut();
        let Some(link) = state.link.as_mut() else {
            return events;
        };
        let outcome = link.receive(&mut state.datagram, |message, mut descriptors| {
            events.extend(match message {
                ToChild::Interfaces(list) => Some(SupervisorEvent::Interfaces(list)),
                ToChild::Broker => descriptors.pop().map(SupervisorEvent::Broker),
                ToChild::QueryStatus { query } => Some(SupervisorEvent::QueryStatus(query)),
                ToChild::Shutdown => Some(SupervisorEvent::Shutdown),
            });
        });
        if let Err(error) = outcome {
            state.link = None;
            events.push(SupervisorEvent::Lost(error));
        }
        events
    }

    /// This child serves that client from now on.
    pub fn serving(&self, client_guid: [u8; 16]) {
        self.send(&FromChild::Serving { client_guid });
    }

    /// A first session is authenticated. Until this is said, the child counts among the few
    /// unauthenticated ones its client's address may have.
    pub fn authenticated(&self) {
        self.send(&FromChild::Authenticated);
    }

    /// Answers [`SupervisorEvent::QueryStatus`].
    pub fn status(&self, query: QueryId, status: ChildStatus) {
        self.send(&FromChild::Status { query, status });
    }

    /// Pushes out what is queued; false when the rest waits for the socket to be writable.
    /// A link that fails is noticed by the next `on_readable`.
    pub fn flush(&self) -> bool {
        match self.state.borrow_mut().link.as_mut() {
            Some(link) => link.flush().unwrap_or(true),
            None => true,
        }
    }

    /// Gives back memory that only a busy link needs.
    pub fn relax(&self) {
        self.state.borrow_mut().datagram.release();
    }

    fn send(&self, message: &FromChild) {
        if let Some(link) = self.state.borrow_mut().link.as_mut() {
            link.send(message);
        }
    }
}
