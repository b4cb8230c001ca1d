//! The connection manager's event channel: one descriptor that reports what happened to every
//! identifier made on it. Taking an event lets every endpoint of the channel do its device's work.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};

use rustix::event::epoll::{self, EventData, EventFlags};
use shm::SystemError;
use shm::wakeup::Wakeup;

use super::endpoint::Endpoint;
use super::identifier::Identifier;
use super::settings::Fabric;

/// Where connection manager events come from.
#[derive(Debug)]
pub struct EventChannel {
    poller: OwnedFd,
    wakeup: Wakeup,
    events: RefCell<VecDeque<Queued>>,
    endpoints: RefCell<Vec<Weak<RefCell<Endpoint>>>>,
    /// Connections whose request is not whole, or not taken yet.
    arriving: RefCell<Vec<Rc<RefCell<Endpoint>>>>,
}

#[derive(Debug)]
enum Queued {
    Event(CmEvent),
    Request {
        endpoint: Rc<RefCell<Endpoint>>,
        listener: u64,
        initiator_depth: u8,
        responder_resources: u8,
        private_data: Box<[u8]>,
    },
}

/// What happened.
#[derive(Debug)]
pub enum CmEventKind {
    /// A peer wants to connect to the listener the event names; dropping `identifier` is no
    /// answer, reject it first.
    ConnectRequest {
        /// The new connection's identifier; its token is 0 until set.
        identifier: Identifier,
        /// RDMA READs this side may have outstanding; 0 if the peer did not say.
        initiator_depth: u8,
        /// RDMA READs the peer wants to have outstanding; 0 if it did not say.
        responder_resources: u8,
        /// What came with the request.
        private_data: Box<[u8]>,
    },
    /// Active: the peer's address belongs to this device now.
    AddressResolved,
    /// Active: there is a route to it.
    RouteResolved,
    /// The connection is up. Active side: with the peer's limits.
    Established {
        /// As in a request.
        initiator_depth: u8,
        /// As in a request.
        responder_resources: u8,
        /// What came with the acceptance.
        private_data: Box<[u8]>,
    },
    /// The connection is over.
    Disconnected,
    /// The connection could not be made; the text is the connection manager's name for why.
    Failed(&'static str),
    /// The device is being removed: everything on it must go.
    DeviceRemoval,
    /// The listener's or connection's address moved to another device.
    AddressChanged,
    /// The connection's identifiers may be used again. Nothing to do.
    TimewaitExit,
    /// Nothing this program waits for.
    Other(u32),
}

/// An event, and the token of the identifier it is about (a listener's for a request).
#[derive(Debug)]
pub struct CmEvent {
    /// As set by [`Identifier::set_token`].
    pub token: u64,
    /// The kernel's status: 0, a negative errno, or a reject reason.
    pub status: i32,
    /// What happened.
    pub kind: CmEventKind,
}

impl EventChannel {
    /// A channel that never blocks.
    pub fn new() -> Result<Rc<EventChannel>, SystemError> {
        Fabric::current()?;
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(SystemError::of("open an event channel"))?;
        let channel = EventChannel {
            poller,
            wakeup: Wakeup::new()?,
            events: RefCell::default(),
            endpoints: RefCell::default(),
            arriving: RefCell::default(),
        };
        channel.watch(channel.wakeup.as_fd(), EventFlags::IN)?;
        Ok(Rc::new(channel))
    }

    /// The next event, `None` when there is none now.
    pub fn next(self: &Rc<Self>) -> Result<Option<CmEvent>, SystemError> {
        if self.events.borrow().is_empty() {
            self.wakeup.clear();
            self.pump();
        }
        let next = self.events.borrow_mut().pop_front();
        Ok(next.map(|queued| match queued {
            Queued::Event(event) => event,
            Queued::Request {
                endpoint,
                listener,
                initiator_depth,
                responder_resources,
                private_data,
            } => {
                let fabric = endpoint.borrow().fabric.clone();
                CmEvent {
                    token: listener,
                    status: 0,
                    kind: CmEventKind::ConnectRequest {
                        identifier: Identifier::of(endpoint, fabric, self),
                        initiator_depth,
                        responder_resources,
                        private_data,
                    },
                }
            }
        }))
    }

    /// Lets every endpoint do what its device would have done by itself.
    fn pump(self: &Rc<Self>) {
        let mut alive: Vec<Rc<RefCell<Endpoint>>> = Vec::new();
        self.endpoints.borrow_mut().retain(|endpoint| {
            let strong = endpoint.upgrade();
            alive.extend(strong.iter().cloned());
            strong.is_some()
        });
        for endpoint in alive {
            self.accept(&endpoint);
            endpoint.borrow_mut().pump();
        }
        let arriving = std::mem::take(&mut *self.arriving.borrow_mut());
        for endpoint in arriving {
            endpoint.borrow_mut().pump();
            let request = endpoint.borrow_mut().take_request();
            match request {
                Some((listener, initiator_depth, responder_resources, private_data)) => {
                    self.events.borrow_mut().push_back(Queued::Request {
                        endpoint,
                        listener,
                        initiator_depth,
                        responder_resources,
                        private_data,
                    });
                }
                None if endpoint.borrow().is_over() => {}
                None => self.arriving.borrow_mut().push(endpoint),
            }
        }
    }

    /// Takes in what has connected to a listener.
    fn accept(self: &Rc<Self>, listener: &Rc<RefCell<Endpoint>>) {
        let mut listener = listener.borrow_mut();
        while let Some(socket) = listener.accept_socket() {
            let mut arrived = Endpoint::new(self, &listener.fabric);
            arrived.local = listener.local;
            if arrived.take_socket(socket, listener.token).is_ok() {
                let arrived = Rc::new(RefCell::new(arrived));
                self.look_after(&arrived);
                self.arriving.borrow_mut().push(arrived);
            }
        }
    }

    pub(super) fn look_after(&self, endpoint: &Rc<RefCell<Endpoint>>) {
        self.endpoints.borrow_mut().push(Rc::downgrade(endpoint));
    }

    pub(super) fn push(&self, event: CmEvent) {
        self.events.borrow_mut().push_back(Queued::Event(event));
        self.wakeup.signal();
    }

    pub(super) fn watch(
        &self,
        descriptor: BorrowedFd<'_>,
        flags: EventFlags,
    ) -> Result<(), SystemError> {
        watch(&self.poller, descriptor, flags)
    }
}

/// Adds a descriptor to an epoll instance, or changes what is waited for.
pub(super) fn watch(
    poller: &OwnedFd,
    descriptor: BorrowedFd<'_>,
    flags: EventFlags,
) -> Result<(), SystemError> {
    let data = EventData::new_u64(0);
    match epoll::modify(poller, descriptor, data, flags) {
        Err(rustix::io::Errno::NOENT) => epoll::add(poller, descriptor, data, flags),
        other => other,
    }
    .map_err(SystemError::of("wait for a simulated connection"))
}

impl AsFd for EventChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
