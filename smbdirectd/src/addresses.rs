//! The addresses this machine can be reached at, whether or not an RDMA device has them, and when to
//! look again.

use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use shm::SystemError;

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) address: IpAddr,
    /// The network interface that has it.
    pub(crate) interface: String,
    pub(crate) if_index: u32,
}

impl Local {
    /// Whether packets to it arrive on the interface `below`, or on a VLAN of that: not so where its
    /// interface is a bond, a bridge or the like that `below` is a port of. True if it can't be told.
    pub(crate) fn arrives_on(&self, below: &str) -> bool {
        arrives_on(Path::new("/sys/class/net"), &self.interface, below)
    }
}

/// Addresses of interfaces that are up; link-local ones mean nothing without their interface.
pub(crate) fn local_addresses() -> Result<Vec<Local>, SystemError> {
    let mut locals: Vec<Local> = Vec::new();
    for entry in getifaddrs().map_err(SystemError::of("list addresses"))? {
        if !entry.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let Some(storage) = entry.address else {
            continue;
        };
        let address = if let Some(v4) = storage.as_sockaddr_in() {
            IpAddr::V4(v4.ip())
        } else if let Some(v6) = storage.as_sockaddr_in6() {
            IpAddr::V6(v6.ip())
        } else {
            continue;
        };
        if is_usable(address) && !locals.iter().any(|local| local.address == address) {
            // An alias ("eth0:1") is its interface.
            let name = entry.interface_name.split(':').next().unwrap_or_default();
            locals.push(Local {
                address,
                interface: name.to_owned(),
                if_index: if_nametoindex(name).unwrap_or(0),
            });
        }
    }
    Ok(locals)
}

/// Sockets that become readable when links, addresses or devices come and go. Without one the
/// gateway's own rhythm has to do.
pub(crate) fn watch_changes() -> Vec<OwnedFd> {
    // RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (rtnetlink(7)); the kernel's own group of
    // device events.
    let wanted = [
        (None, 0x1 | 0x10 | 0x100),
        (Some(netlink::KOBJECT_UEVENT), 0x1),
    ];
    let sockets = wanted.map(|(protocol, groups)| watch(protocol, groups));
    let watched = sockets.into_iter().filter_map(|socket| {
        socket
            .inspect_err(
                |error| tracing::warn!(%error, "changes of devices or addresses are noticed late"),
            )
            .ok()
    });
    watched.collect()
}

fn watch(protocol: Option<Protocol>, groups: u32) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Reads what such a socket has to say, which is not looked at: what changed is read anew.
pub(crate) fn drain(socket: &OwnedFd) {
    let mut ignored = [0u8; 8192];
    loop {
        match rustix::io::read(socket, &mut ignored) {
            // NOBUFS: something was lost, which says no less.
            Ok(1..) | Err(Errno::INTR | Errno::NOBUFS) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn arrives_on(net: &Path, interface: &str, below: &str) -> bool {
    if interface == below {
        return true;
    }
    let folder = net.join(interface);
    let Ok(kind) = fs::read_to_string(folder.join("uevent")) else {
        return true;
    };
    // A VLAN may be of another VLAN.
    kind.lines().any(|line| line == "DEVTYPE=vlan")
        && lower(&folder).is_none_or(|lower| arrives_on(net, &lower, below))
}

/// The interface a VLAN is of.
fn lower(folder: &Path) -> Option<String> {
    let mut entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    entries.find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("lower_")?.to_owned())
    })
}

fn is_usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unspecified() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_are_not_listened_on() {
        for (address, usable) in [
            ("127.0.0.1", false),
            ("10.9.0.1", true),
            ("::1", false),
            ("fe80::1", false),
            ("fd00::1", true),
            ("0.0.0.0", false),
        ] {
            assert_eq!(is_usable(address.parse().unwrap()), usable, "{address}");
        }
    }

    /// eth0 is a port of bond0, eth1 has the VLAN tagged and that has one within.
    #[test]
    fn packets_arrive_on_an_interface_and_for_its_vlans_alone() {
        let net = tempfile::tempdir().unwrap();
        for (name, kind, lower) in [
            ("eth0", "", None),
            ("bond0", "DEVTYPE=bond\n", Some("eth0")),
            ("eth1", "", None),
            ("tagged", "DEVTYPE=vlan\n", Some("eth1")),
            ("within", "DEVTYPE=vlan\n", Some("tagged")),
            ("over", "DEVTYPE=vlan\n", Some("bond0")),
        ] {
            let folder = net.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(
                folder.join("uevent"),
                format!("{kind}INTERFACE={name}\nIFINDEX=2\n"),
            )
            .unwrap();
            if let Some(lower) = lower {
                fs::create_dir(folder.join(format!("lower_{lower}"))).unwrap();
            }
        }
        for (interface, below, expected) in [
            ("eth0", "eth0", true),
            ("bond0", "bond0", true),
            ("bond0", "eth0", false),
            ("tagged", "eth1", true),
            ("within", "eth1", true),
            ("over", "bond0", true),
            ("over", "eth0", false),
            ("unknown", "eth0", true),
        ] {
            let found = arrives_on(net.path(), interface, below);
            assert_eq!(found, expected, "{interface} over {below}");
        }
    }
}
