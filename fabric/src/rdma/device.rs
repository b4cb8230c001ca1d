//! Devices and protection domains: here little more than names and numbers.

use std::cell::Cell;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use shm::SystemError;
use shm::wakeup::Wakeup;

use super::event_channel::EventChannel;
use super::identifier::Identifier;
use super::refused;
use super::settings::{Fabric, SimulatedDevice};

/// What carries the RDMA protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// InfiniBand or RoCE.
    InfiniBand,
    /// iWARP: RDMA READ sinks need remote write access.
    Iwarp,
}

/// What a device can do, as far as SMB Direct asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Work requests one queue holds.
    pub max_work_requests: u32,
    /// Completions one completion queue holds.
    pub max_completions: u32,
    /// Scatter elements of one work request.
    pub max_sge: u32,
    /// RDMA READs we may have outstanding.
    pub max_initiator_depth: u8,
    /// RDMA READs of the peer's we serve at a time.
    pub max_responder_resources: u8,
    /// SEND_WITH_INV works.
    pub send_with_invalidate: bool,
    /// Longest message of a port, in bytes.
    pub max_message: u32,
    /// Active speed of the port, bit/s.
    pub speed: u64,
}

/// A device's port as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Port {
    /// It carries traffic.
    pub active: bool,
    /// Bit/s; 0 if unknown.
    pub speed: u64,
    /// Bytes of a packet's payload; 0 if unknown.
    pub mtu: u32,
}

/// Tells one device in use from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceKey(IpAddr);

impl DeviceKey {
    /// Of the device a connection's identifier came in on.
    pub fn of(identifier: &Identifier) -> Option<DeviceKey> {
        let local = identifier.local_address()?.ip();
        let fabric = Fabric::current().ok()?;
        fabric.device_at(local).map(|_| DeviceKey(local))
    }
}

/// A device in use.
#[derive(Debug)]
pub struct Device {
    settings: SimulatedDevice,
    address: IpAddr,
    /// Never signalled: nothing happens to a simulated device.
    events: Wakeup,
}

/// Memory regions and queue pairs of one domain may be used together, others never.
#[derive(Debug)]
pub struct ProtectionDomain {
    number: u64,
    device: Rc<Device>,
}

thread_local! {
    static NEXT_DOMAIN: Cell<u64> = const { Cell::new(1) };
}

impl Device {
    /// The device `address` belongs to; ENODEV where it belongs to none.
    pub fn of_address(
        _channel: &Rc<EventChannel>,
        address: IpAddr,
        _scope: u32,
    ) -> Result<Rc<Device>, SystemError> {
        let fabric = Fabric::current()?;
        let settings = fabric
            .device_at(address)
            .ok_or_else(|| refused("find the device of an address", libc::ENODEV))?;
        Ok(Rc::new(Device {
            settings: settings.clone(),
            address,
            events: Wakeup::new()?,
        }))
    }

    /// Its name.
    pub fn name(&self) -> Rc<str> {
        self.settings.name.as_str().into()
    }

    /// Its name stays.
    pub fn refresh_name(&self) -> Option<Rc<str>> {
        None
    }

    /// It is not soft-RoCE.
    pub fn soft_interface(&self) -> Option<String> {
        None
    }

    /// It is never removed.
    pub fn is_present(&self) -> bool {
        true
    }

    /// Nothing of it is open.
    pub fn abandon(&self) {}

    /// Its identity: a simulated device has one address.
    pub fn key(&self) -> DeviceKey {
        DeviceKey(self.address)
    }

    /// Its port, which is never down.
    pub fn port(&self) -> Result<Port, SystemError> {
        Ok(Port {
            active: true,
            speed: self.settings.limits.speed,
            mtu: 4096,
        })
    }

    /// What carries it.
    pub fn transport(&self) -> Transport {
        self.settings.transport
    }

    /// What it can do.
    pub fn limits(&self) -> Result<DeviceLimits, SystemError> {
        Ok(self.settings.limits)
    }

    /// The next asynchronous event: there is never one.
    pub fn next_event(&self) -> Option<u32> {
        None
    }

    /// Readable when [`Device::next_event`] has something.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl ProtectionDomain {
    /// A new domain.
    pub fn new(device: &Rc<Device>) -> Result<Rc<ProtectionDomain>, SystemError> {
        Ok(Rc::new(ProtectionDomain {
            number: NEXT_DOMAIN.replace(NEXT_DOMAIN.get() + 1),
            device: device.clone(),
        }))
    }

    /// Never used for another domain of this thread.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The device it is on.
    pub fn device(&self) -> &Rc<Device> {
        &self.device
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events()
    }
}
