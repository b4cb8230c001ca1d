//! A connection manager identifier: a listener, or one end of a connection before and beside its
//! queue pair. The connection ends when it is dropped.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use shm::SystemError;

use super::endpoint::Endpoint;
use super::event_channel::EventChannel;
use super::settings::Fabric;

/// An identifier and the channel its events come from.
#[derive(Debug)]
pub struct Identifier {
    endpoint: Rc<RefCell<Endpoint>>,
    fabric: Rc<Fabric>,
    _channel: Rc<EventChannel>,
}

impl Identifier {
    /// A new one, for listening or connecting.
    pub fn new(channel: &Rc<EventChannel>) -> Result<Identifier, SystemError> {
        let fabric = Fabric::current()?;
        let endpoint = Rc::new(RefCell::new(Endpoint::new(channel, &fabric)));
        channel.look_after(&endpoint);
        Ok(Identifier::of(endpoint, fabric, channel))
    }

    pub(super) fn of(
        endpoint: Rc<RefCell<Endpoint>>,
        fabric: Rc<Fabric>,
        channel: &Rc<EventChannel>,
    ) -> Identifier {
        Identifier {
            endpoint,
            fabric,
            _channel: channel.clone(),
        }
    }

    pub(super) fn endpoint(&self) -> &RefCell<Endpoint> {
        &self.endpoint
    }

    pub(super) fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The number its events carry.
    pub fn set_token(&self, token: u64) {
        self.endpoint.borrow_mut().token = token;
    }

    /// Takes a local address: afterwards the identifier belongs to the device of that address,
    /// or the error says that it belongs to none (ENODEV).
    pub fn bind(&self, address: SocketAddr) -> Result<(), SystemError> {
        self.endpoint.borrow_mut().bind(address)
    }

    /// Starts to listen on the bound address.
    pub fn listen(&self, _backlog: u16) -> Result<(), SystemError> {
        self.endpoint.borrow_mut().listen()
    }

    /// Active: asks which device reaches `to`; `AddressResolved` or `Failed` follows.
    pub fn resolve_address(&self, to: SocketAddr, _timeout_ms: u16) -> Result<(), SystemError> {
        self.endpoint.borrow_mut().resolve_address(to);
        Ok(())
    }

    /// Active: asks for the way there; `RouteResolved` follows.
    pub fn resolve_route(&self, _timeout_ms: u16) -> Result<(), SystemError> {
        self.endpoint.borrow_mut().resolve_route();
        Ok(())
    }

    /// Passive: refuses the request this identifier came with.
    pub fn reject(self) -> Result<(), SystemError> {
        self.endpoint.borrow_mut().reject();
        Ok(())
    }

    /// Ends the connection; its queue pair goes to error.
    pub fn disconnect(&self) -> Result<(), SystemError> {
        self.endpoint.borrow_mut().disconnect()
    }

    /// The address of this end.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.endpoint.borrow().local
    }

    /// The address of the other end.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.endpoint.borrow().peer
    }
}
