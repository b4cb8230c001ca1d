//! A listener per address: RDMA has no wildcard that works for every device at once, and the port
//! depends on the device's transport (MS-SMBD 2.1: 445, on iWARP 5445). The gateway rescans when
//! the kernel says that addresses or devices came or went, and each second; an address that fails is complained
//! about once, with what to do.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use proto::control::gateway::RdmaInterface;
use shm::SystemError;

use crate::addresses::{Local, local_addresses};
use crate::rdma::{Device, DeviceLimits, EventChannel, Identifier, ProtectionDomain, Transport};

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
}

impl DeviceEntry {
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
    /// Sentences for an administrator, each said once.
    pub problems: Vec<String>,
}

#[derive(Debug)]
struct Listener {
    _identifier: Identifier,
    token: u64,
    interface: RdmaInterface,
}

/// All listeners, and the devices they are on.
#[derive(Debug)]
pub struct Listeners {
    channel: Rc<EventChannel>,
    wanted: Vec<String>,
    port_override: Option<u16>,
    listeners: HashMap<IpAddr, Listener>,
    devices: HashMap<String, Rc<DeviceEntry>>,
    complained: HashSet<IpAddr>,
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
            complained: HashSet::new(),
            dropped: false,
            next_token: first_token,
        }
    }

    /// The device a connection request came in on.
    pub fn device(&self, name: &str) -> Option<&Rc<DeviceEntry>> {
        self.devices.get(name)
    }

    /// Devices in use.
    pub fn devices(&self) -> impl Iterator<Item = &Rc<DeviceEntry>> {
        self.devices.values()
    }

    /// What is listened on, in a fixed order.
    pub fn interfaces(&self) -> Vec<RdmaInterface> {
        let mut interfaces: Vec<RdmaInterface> = self
            .listeners
            .values()
            .map(|listener| listener.interface.clone())
            .collect();
        interfaces.sort_by_key(|interface| (interface.if_index, interface.address));
        interfaces
    }

    /// The device of this listener is going, or its address moved: it is made anew if it comes back.
    pub fn drop_listener(&mut self, token: u64) {
        let Some((address, device)) = self
            .listeners
            .iter()
            .find(|(_, listener)| listener.token == token)
            .map(|(address, listener)| (*address, listener.interface.device.clone()))
        else {
            return;
        };
        self.listeners.remove(&address);
        self.dropped = true;
        self.forget_unused(&device);
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
        let gone: Vec<IpAddr> = self
            .listeners
            .keys()
            .filter(|address| !locals.iter().any(|local| local.address == **address))
            .copied()
            .collect();
        for address in gone {
            if let Some(listener) = self.listeners.remove(&address) {
                tracing::info!(%address, "no longer listening: the address is gone");
                self.forget_unused(&listener.interface.device);
                found.changed = true;
            }
        }
        self.complained
            .retain(|address| locals.iter().any(|local| local.address == *address));
        for local in locals {
            if self.listeners.contains_key(&local.address) {
                continue;
            }
            match self.listen(local) {
                Ok(true) => {
                    self.complained.remove(&local.address);
                    found.changed = true;
                }
                Ok(false) => {}
                Err(error) => {
                    if self.complained.insert(local.address) {
                        found.problems.push(explain(local.address, &error));
                    }
                }
            }
        }
        found
    }

    /// Listens on an address if it belongs to a device that is wanted.
    fn listen(&mut self, local: Local) -> Result<bool, SystemError> {
        let device = match Device::of_address(&self.channel, local.address, 0) {
            Ok(device) => device,
            Err(error) if is_no_device(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let name = device.name().to_string();
        if !self.wanted.is_empty() && !self.wanted.contains(&name) {
            return Ok(false);
        }
        let entry = match self.devices.get(&name) {
            Some(entry) => entry.clone(),
            None => {
                let limits = device.limits()?;
                let domain = ProtectionDomain::new(&device)?;
                let entry = Rc::new(DeviceEntry { domain, limits });
                self.devices.insert(name.clone(), entry.clone());
                entry
            }
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
        tracing::info!(address = %local.address, port, device = name, "listening for SMB Direct");
        let interface = RdmaInterface {
            address: local.address,
            device: name,
            port,
            speed: entry.limits.speed,
            if_index: local.if_index,
        };
        self.listeners.insert(
            local.address,
            Listener {
                _identifier: identifier,
                token,
                interface,
            },
        );
        Ok(true)
    }

    fn forget_unused(&mut self, device: &str) {
        let used = self
            .listeners
            .values()
            .any(|listener| listener.interface.device == device);
        if !used {
            self.devices.remove(device);
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

fn explain(address: IpAddr, error: &SystemError) -> String {
    let advice = match error.source.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "another server has the port (ksmbd?): stop it, or set another RDMA port"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "a port below 1024 needs CAP_NET_BIND_SERVICE: start smbd as root"
        }
        Some(libc::ENOMEM) => "raise the locked-memory limit, or lower the RDMA memory budget",
        _ => "see the kernel's log (dmesg); it is tried again each second",
    };
    format!("no SMB Direct on {address}: {error}; {advice}")
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
