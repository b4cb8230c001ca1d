//! A device, its protection domains, and the connection manager's name of a connection: names and
//! numbers.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use shm::SystemError;

use super::queue_pair::Queues;

/// What carries the RDMA protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    InfiniBand,
    Iwarp,
}

/// As `smbdirectd::rdma::DeviceLimits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    pub max_work_requests: u32,
    pub max_completions: u32,
    pub max_sge: u32,
    pub max_initiator_depth: u8,
    pub max_responder_resources: u8,
    pub send_with_invalidate: bool,
    pub max_message: u32,
    pub speed: u64,
}

#[derive(Debug)]
pub struct Device {
    transport: Transport,
}

#[derive(Debug)]
pub struct ProtectionDomain {
    number: u64,
    device: Rc<Device>,
}

/// One connection at the connection manager.
#[derive(Debug)]
pub struct Identifier {
    peer: SocketAddr,
    pub(super) queues: Rc<RefCell<Queues>>,
}

thread_local! {
    static NEXT_DOMAIN: Cell<u64> = const { Cell::new(1) };
}

impl Device {
    pub fn new(transport: Transport) -> Rc<Device> {
        Rc::new(Device { transport })
    }

    pub fn name(&self) -> Rc<str> {
        "simulated".into()
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }
}

impl ProtectionDomain {
    pub fn new(device: &Rc<Device>) -> Rc<ProtectionDomain> {
        Rc::new(ProtectionDomain {
            number: NEXT_DOMAIN.replace(NEXT_DOMAIN.get() + 1),
            device: device.clone(),
        })
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn device(&self) -> &Rc<Device> {
        &self.device
    }
}

impl Identifier {
    /// Of a client's request; the queues are the simulation's to work on.
    pub fn new(peer: SocketAddr, queues: &Rc<RefCell<Queues>>) -> Identifier {
        Identifier {
            peer,
            queues: queues.clone(),
        }
    }

    pub fn peer_address(&self) -> Option<SocketAddr> {
        Some(self.peer)
    }

    pub fn local_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::from(([192, 0, 2, 1], 445)))
    }

    pub fn set_token(&self, _token: u64) {}

    pub fn reject(self) -> Result<(), SystemError> {
        Ok(())
    }

    pub fn disconnect(&self) -> Result<(), SystemError> {
        let mut queues = self.queues.borrow_mut();
        queues.disconnects = true;
        queues.fail();
        Ok(())
    }
}
