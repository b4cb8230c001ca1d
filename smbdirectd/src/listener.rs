//! A listener per address: RDMA has no wildcard that works for every device at once, and the port
//! depends on the device's transport (MS-SMBD 2.1: 445, on iWARP 5445). The gateway rescans when
//! the kernel says that addresses or devices came or went, and each second; an address that fails is complained
//! about once, with what to do. An interface is told of only while a connection to it can succeed:
//! listened on, and its device's port active. Devices are kept apart by identity, as names change.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use proto::control::gateway::{DeviceStatus, RdmaInterface, Unheard, UnheardAddress};
use shm::SystemError;

use crate::addresses::{Local, local_addresses};
use crate::config::Limits;
use crate::rdma::{
    Device, DeviceKey, DeviceLimits, EventChannel, Identifier, Port, ProtectionDomain, Transport,
};

/// Connection requests that may wait to be accepted, per address.
const BACKLOG: u16 = 64;
/// MS-SMBD 2.1.
const PORT: u16 = 445;
const PORT_IWARP: u16 = 5445;

/// A device in use, and the domain all its connections share.
#[derive(Debug)]
pub struct DeviceEntry {
    /// Its protection domain, and through it the device.
    pub domain: Rc<ProtectionDomain>,
    /// What it can do.
    pub limits: DeviceLimits,
    /// As it is now; read anew with each rescan.
    port: Cell<Port>,
}

impl DeviceEntry {
    fn new(device: &Rc<Device>) -> Result<DeviceEntry, SystemError> {
        Ok(DeviceEntry {
            limits: device.limits()?,
            port: Cell::new(device.port()?),
            domain: ProtectionDomain::new(device)?,
        })
    }

    /// Looks at what may change while it is in use; true if it did.
    fn refresh(&self) -> bool {
        let device = self.domain.device();
        let port = device.port().unwrap_or_default();
        let before = device.refresh_name();
        let name = device.name();
        if let Some(before) = &before {
            tracing::info!(
                device = &*name,
                before = &**before,
                "the device has another name now"
            );
        }
        if port == self.port.get() {
            return before.is_some();
        }
        match (port.active, self.port.get().active) {
            (true, false) => tracing::info!(device = &*name, "the device's port is active again"),
            (false, true) => tracing::warn!(
                device = &*name,
                "the device's port is not active; clients are not told of its addresses until it \
                 is (look at its cable, switch, and 'rdma link show')"
            ),
            _ => {}
        }
        self.port.set(port);
        true
    }

    /// For a status query.
    pub fn status(&self, limits: &Limits) -> DeviceStatus {
        DeviceStatus {
            name: self.domain.device().name().to_string(),
            iwarp: self.domain.device().transport() == Transport::Iwarp,
            max_work_requests: self.limits.max_work_requests,
            max_completions: self.limits.max_completions,
            max_reads: self.limits.max_initiator_depth,
            send_with_invalidate: self.limits.send_with_invalidate,
            speed: self.port.get().speed,
            mtu: self.port.get().mtu,
            lowered: limits.lowered(&self.limits),
        }
    }

    /// The domain of a new connection: the device's, but on iWARP its own, because there the peer
    /// has write access to memory of the domain.
    pub fn domain_of_connection(&self) -> Result<Rc<ProtectionDomain>, SystemError> {
        match self.domain.device().transport() {
            Transport::InfiniBand => Ok(self.domain.clone()),
            Transport::Iwarp => ProtectionDomain::new(self.domain.device()),
        }
    }
}

/// What a rescan found.
#[derive(Debug, Default)]
pub struct Rescan {
    /// The list of interfaces is not what it was.
    pub changed: bool,
    /// Devices that are being removed: their connections must end.
    pub removed: Vec<DeviceKey>,
    /// Sentences for an administrator, each said once.
    pub problems: Vec<String>,
}

#[derive(Debug)]
struct Listener {
    _identifier: Identifier,
    token: u64,
    key: DeviceKey,
    local: Local,
    port: u16,
}

/// What came of an address.
enum Outcome {
    Listening,
    /// It is no device's.
    NoDevice,
    /// Its device is not to be used.
    NotWanted,
    /// Its device is soft-RoCE on this port of the address's interface.
    DeviceOnPort(String),
}

/// All listeners, and the devices they are on.
#[derive(Debug)]
pub struct Listeners {
    channel: Rc<EventChannel>,
    wanted: Vec<String>,
    port_override: Option<u16>,
    listeners: HashMap<IpAddr, Listener>,
    devices: HashMap<DeviceKey, Rc<DeviceEntry>>,
    /// Every device an address was ever found to belong to, wanted or not: it is open from then on,
    /// until it is removed.
    opened: HashMap<DeviceKey, Rc<Device>>,
    /// Addresses of devices that are not listened on.
    unheard: HashMap<IpAddr, UnheardAddress>,
    new_devices: Vec<Rc<DeviceEntry>>,
    /// A listener went since the last rescan, with its device.
    dropped: bool,
    next_token: u64,
}

impl Listeners {
    /// None yet. `wanted` names the devices to use, all if empty; tokens count up from
    /// `first_token`.
    pub fn new(
        channel: &Rc<EventChannel>,
        wanted: Vec<String>,
        port_override: Option<u16>,
        first_token: u64,
    ) -> Listeners {
        Listeners {
            channel: channel.clone(),
            wanted,
            port_override,
            listeners: HashMap::new(),
            devices: HashMap::new(),
            opened: HashMap::new(),
            unheard: HashMap::new(),
            new_devices: Vec::new(),
            dropped: false,
            next_token: first_token,
        }
    }

    /// The device a connection request came in on.
    pub fn device(&self, identifier: &Identifier) -> Option<&Rc<DeviceEntry>> {
        self.devices.get(&DeviceKey::of(identifier)?)
    }

    /// Devices in use.
    pub fn devices(&self) -> impl Iterator<Item = &Rc<DeviceEntry>> {
        self.devices.values()
    }

    /// What clients can connect to, in a fixed order.
    pub fn interfaces(&self) -> Vec<RdmaInterface> {
        let found = self.listeners.values().filter_map(|listener| {
            let device = self.devices.get(&listener.key)?;
            let port = device.port.get();
            port.active.then(|| RdmaInterface {
                address: listener.local.address,
                device: device.domain.device().name().to_string(),
                port: listener.port,
                speed: port.speed,
                if_index: listener.local.if_index,
            })
        });
        let mut interfaces: Vec<RdmaInterface> = found.collect();
        interfaces.sort_by_key(|interface| (interface.if_index, interface.address));
        interfaces
    }

    /// Addresses of devices clients can't connect to, in a fixed order.
    pub fn unheard(&self) -> Vec<UnheardAddress> {
        let down = self.listeners.values().filter_map(|listener| {
            let device = self.devices.get(&listener.key)?;
            (!device.port.get().active).then(|| UnheardAddress {
                address: listener.local.address,
                why: Unheard::PortDown,
                text: format!(
                    "the port of {} is not active",
                    device.domain.device().name()
                ),
            })
        });
        let mut unheard: Vec<UnheardAddress> = self.unheard.values().cloned().chain(down).collect();
        unheard.sort_by_key(|unheard| unheard.address);
        unheard
    }

    /// The device of this listener is going, or its address moved: it is made anew if it comes back.
    pub fn drop_listener(&mut self, token: u64) {
        let mut listeners = self.listeners.iter();
        let Some((address, key)) = listeners
            .find(|(_, listener)| listener.token == token)
            .map(|(address, listener)| (*address, listener.key))
        else {
            return;
        };
        self.listeners.remove(&address);
        self.dropped = true;
        self.forget_unused(key);
    }

    /// Stops listening.
    pub fn clear(&mut self) {
        self.listeners.clear();
    }

    /// Compares the addresses there are with those listened on.
    pub fn rescan(&mut self) -> Rescan {
        let mut found = Rescan::default();
        let locals = match local_addresses() {
            Ok(locals) => locals,
            Err(error) => {
                tracing::warn!("cannot list this machine's addresses: {error}");
                return found;
            }
        };
        found.changed = std::mem::take(&mut self.dropped);
        let absent = self.opened.iter();
        let absent = absent.filter(|(_, device)| !device.is_present());
        found.removed = absent.map(|(key, _)| *key).collect();
        for key in &found.removed {
            found.changed |= self.forget_device(*key);
        }
        for device in self.devices.values() {
            found.changed |= device.refresh();
        }
        let heard: Vec<IpAddr> = self.listeners.keys().copied().collect();
        for address in heard {
            let local = locals.iter().find(|local| local.address == address);
            let Some(why) = self.outdated(address, local) else {
                continue;
            };
            if let Some(listener) = self.listeners.remove(&address) {
                tracing::info!(%address, "no longer listening: {why}");
                self.forget_unused(listener.key);
                found.changed = true;
            }
        }
        self.unheard
            .retain(|address, _| locals.iter().any(|local| local.address == *address));
        for local in locals {
            if self.listeners.contains_key(&local.address) {
                continue;
            }
            match self.listen(&local) {
                Ok(Outcome::Listening) => {
                    self.unheard.remove(&local.address);
                    found.changed = true;
                }
                Ok(Outcome::NoDevice) => {
                    self.unheard.remove(&local.address);
                }
                Ok(Outcome::NotWanted) => {
                    let text = "rdma devices names others than its device".into();
                    self.note_unheard(local.address, Unheard::NotWanted, text);
                }
                Ok(Outcome::DeviceOnPort(text)) => {
                    if self.note_unheard(local.address, Unheard::DeviceOnPort, text.clone()) {
                        found.problems.push(text);
                    }
                }
                Err(error) => {
                    let text = explain(local.address, &error);
                    if self.note_unheard(local.address, why(&error), text.clone()) {
                        found.problems.push(text);
                    }
                }
            }
        }
        found
    }

    /// True if it was not known.
    fn note_unheard(&mut self, address: IpAddr, why: Unheard, text: String) -> bool {
        let new = UnheardAddress { address, why, text };
        let known = self.unheard.insert(address, new);
        known.is_none_or(|known| known.why != why)
    }

    /// Why nobody should listen any longer as it is done on this address. A listener stays with the device
    /// it was bound to, also where the address has moved to another meanwhile.
    fn outdated(&mut self, address: IpAddr, local: Option<&Local>) -> Option<&'static str> {
        let Some(local) = local else {
            return Some("the address is gone");
        };
        let now = self.device_of(address).map(|device| device.key());
        let listener = self.listeners.get(&address)?;
        if listener.local.if_index != local.if_index {
            return Some("the address is another interface's now");
        }
        now.is_ok_and(|key| key != listener.key)
            .then_some("the address is another device's now")
    }

    /// Listens on an address if it belongs to a device that is wanted.
    fn listen(&mut self, local: &Local) -> Result<Outcome, SystemError> {
        let device = match self.device_of(local.address) {
            Ok(device) => device,
            Err(error) if is_no_device(&error) => return Ok(Outcome::NoDevice),
            Err(error) => return Err(error),
        };
        let name = device.name();
        if !device.is_present() {
            return Ok(Outcome::NoDevice);
        }
        if !self.wanted.is_empty() && !self.wanted.iter().any(|wanted| **wanted == *name) {
            return Ok(Outcome::NotWanted);
        }
        if let Some(port) = device.soft_interface()
            && !local.arrives_on(&port)
        {
            return Ok(Outcome::DeviceOnPort(explain_port(local, &name, &port)));
        }
        let key = device.key();
        let entry = match self.devices.get(&key) {
            Some(entry) => entry.clone(),
            None => Rc::new(DeviceEntry::new(&device)?),
        };
        let by_transport = match entry.domain.device().transport() {
            Transport::InfiniBand => PORT,
            Transport::Iwarp => PORT_IWARP,
        };
        let port = self.port_override.unwrap_or(by_transport);
        let identifier = Identifier::new(&self.channel)?;
        let token = self.next_token;
        identifier.set_token(token);
        identifier.bind(SocketAddr::new(local.address, port))?;
        identifier.listen(BACKLOG)?;
        self.next_token += 1;
        if self.devices.insert(key, entry.clone()).is_none() {
            self.new_devices.push(entry);
        }
        tracing::info!(address = %local.address, port, device = &*name, "listening for SMB Direct");
        let listener = Listener {
            _identifier: identifier,
            token,
            key,
            local: local.clone(),
            port,
        };
        self.listeners.insert(local.address, listener);
        Ok(Outcome::Listening)
    }

    /// The one kept of all that are made of the same device's addresses.
    fn device_of(&mut self, address: IpAddr) -> Result<Rc<Device>, SystemError> {
        let found = Device::of_address(&self.channel, address, 0)?;
        let kept = self.opened.entry(found.key()).or_insert(found);
        Ok(kept.clone())
    }

    /// Devices that came into use since the last call.
    pub fn take_new_devices(&mut self) -> Vec<Rc<DeviceEntry>> {
        std::mem::take(&mut self.new_devices)
    }

    /// What is left of a device that is being removed goes, its last trace once no connection uses
    /// it; true if it was in use.
    fn forget_device(&mut self, key: DeviceKey) -> bool {
        self.listeners.retain(|_, listener| listener.key != key);
        let was_in_use = self.devices.remove(&key).is_some();
        if let Some(device) = self.opened.get(&key) {
            if was_in_use {
                tracing::info!(device = &*device.name(), "the device is being removed");
            }
            device.abandon();
            if Rc::strong_count(device) == 1 {
                self.opened.remove(&key);
            }
        }
        was_in_use
    }

    fn forget_unused(&mut self, key: DeviceKey) {
        let mut listeners = self.listeners.values();
        if !listeners.any(|listener| listener.key == key) {
            self.devices.remove(&key);
        }
    }
}

/// What the connection manager answers for an address without an RDMA device.
fn is_no_device(error: &SystemError) -> bool {
    matches!(
        error.source.raw_os_error(),
        Some(libc::ENODEV | libc::EADDRNOTAVAIL | libc::ENOENT)
    )
}

fn why(error: &SystemError) -> Unheard {
    match error.source.raw_os_error() {
        Some(libc::EADDRINUSE) => Unheard::PortTaken,
        Some(libc::EACCES | libc::EPERM) => Unheard::NotPermitted,
        Some(libc::ENOMEM) => Unheard::MemoryLock,
        _ => Unheard::Other,
    }
}

fn explain(address: IpAddr, error: &SystemError) -> String {
    let advice = match why(error) {
        Unheard::PortTaken => {
            "another server has the port (ksmbd?): stop it, or set another RDMA port"
        }
        Unheard::NotPermitted => "a port below 1024 needs CAP_NET_BIND_SERVICE: start smbd as root",
        Unheard::MemoryLock => crate::config::MEMORY_LOCK_ADVICE,
        _ => "see the kernel's log (dmesg); it is tried again each second",
    };
    format!("no SMB Direct on {address}: {error}; {advice}")
}

fn explain_port(local: &Local, device: &str, port: &str) -> String {
    let Local {
        address, interface, ..
    } = local;
    format!(
        "no SMB Direct on {address}: {device} is soft-RoCE on {port} and takes no packets of \
         {interface}; put it on {interface} itself: rdma link delete {device}, rdma link add \
         {device} type rxe netdev {interface}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_address_says_what_to_do() {
        let error = SystemError {
            operation: "listen on an RDMA address",
            source: std::io::Error::from_raw_os_error(libc::EADDRINUSE),
        };
        let text = explain("10.9.0.1".parse().unwrap(), &error);
        assert!(
            text.contains("10.9.0.1") && text.contains("stop it"),
            "{text}"
        );
    }
}
