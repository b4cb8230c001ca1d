//! Which addresses clients may use: this machine's, smbdirectd's, and what the configuration says.
//!
//! Reads the kernel's lists; [`offered`] puts them together without any I/O. Order is stable, so
//! that a list is only sent when it changed.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use proto::control::child::NetworkInterface;
use proto::control::gateway::RdmaInterface;
use shm::SystemError;

use crate::config::InterfaceSpec;

/// Told for an interface that does not know its speed, as virtual ones don't: 1 Gbit/s.
const UNKNOWN_SPEED: u64 = 1_000_000_000;

/// One address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    pub name: String,
    pub address: IpAddr,
    pub if_index: u32,
    pub loopback: bool,
    /// Its link has a carrier: who is told of it reaches it.
    pub running: bool,
    /// Bits per second.
    pub speed: u64,
    /// It has several receive queues.
    pub rss: bool,
}

/// Addresses of interfaces that are up. Link-local IPv6 ones are left out: a client can't tell
/// which of its own links they are on.
pub fn local_addresses() -> Result<Vec<LocalAddress>, SystemError> {
    let found = getifaddrs().map_err(SystemError::of("list network interfaces"))?;
    let up = found.filter(|entry| entry.flags.contains(InterfaceFlags::IFF_UP));
    let addresses = up.filter_map(|entry| {
        let storage = entry.address?;
        let address = match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) if !v6.ip().is_unicast_link_local() => IpAddr::V6(v6.ip()),
            _ => return None,
        };
        let name = entry.interface_name;
        Some(LocalAddress {
            if_index: read_number(&name, "ifindex").unwrap_or(0),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            running: entry.flags.contains(InterfaceFlags::IFF_RUNNING),
            speed: read_number::<u64>(&name, "speed")
                .map_or(UNKNOWN_SPEED, |megabits| megabits.saturating_mul(1_000_000)),
            rss: receive_queues(&name) > 1,
            name,
            address,
        })
    });
    Ok(addresses.collect())
}

/// Addresses to listen on, when only those of `interfaces` are meant.
pub fn bound(local: &[LocalAddress], specs: &[InterfaceSpec]) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = local
        .iter()
        .filter(|found| spec(specs, found).is_some())
        .map(|found| found.address)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// What clients are told (MS-SMB2 2.2.32.5): all but loopback and links that are down, or what
/// `interfaces` lists of them.
pub fn offered(
    local: &[LocalAddress],
    specs: &[InterfaceSpec],
    rdma: &[RdmaInterface],
) -> Vec<NetworkInterface> {
    let mut offered: BTreeMap<IpAddr, NetworkInterface> = BTreeMap::new();
    for found in local {
        let spec = spec(specs, found);
        if !found.running || spec.is_none() && (!specs.is_empty() || found.loopback) {
            continue;
        }
        let gateway = rdma
            .iter()
            .find(|interface| interface.address == found.address);
        let device_speed = gateway.map(|interface| interface.speed).unwrap_or(0);
        offered.insert(
            found.address,
            NetworkInterface {
                if_index: spec
                    .and_then(|spec| spec.if_index)
                    .unwrap_or(found.if_index),
                rss: found.rss || spec.is_some_and(|spec| spec.rss),
                rdma: gateway.is_some() || spec.is_some_and(|spec| spec.rdma),
                speed: spec
                    .and_then(|spec| spec.speed)
                    .unwrap_or(found.speed.max(device_speed)),
                address: found.address,
            },
        );
    }
    offered.into_values().collect()
}

/// The first item of `interfaces` that means this address.
fn spec<'a>(specs: &'a [InterfaceSpec], found: &LocalAddress) -> Option<&'a InterfaceSpec> {
    specs
        .iter()
        .find(|spec| spec.pattern.matches(&found.name, found.address))
}

fn read_number<T: std::str::FromStr>(interface: &str, attribute: &str) -> Option<T> {
    let path = attribute_path(interface, attribute);
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn receive_queues(interface: &str) -> usize {
    let queues = fs::read_dir(attribute_path(interface, "queues"));
    queues.map_or(0, |entries| {
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"))
            .count()
    })
}

fn attribute_path(interface: &str, attribute: &str) -> PathBuf {
    // An alias ("eth0:1") is its interface's.
    let device = interface.split(':').next().unwrap_or(interface);
    ["/sys/class/net", device, attribute].iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn address(name: &str, address: &str, if_index: u32) -> LocalAddress {
        LocalAddress {
            name: name.into(),
            address: address.parse().unwrap(),
            if_index,
            loopback: name == "lo",
            running: true,
            speed: 10_000_000_000,
            rss: false,
        }
    }

    fn machine() -> Vec<LocalAddress> {
        vec![
            address("lo", "127.0.0.1", 1),
            address("eth0", "10.0.0.1", 2),
            address("eth1", "10.1.0.1", 3),
        ]
    }

    fn specs(line: &str) -> Vec<InterfaceSpec> {
        let text = format!("[global]\ninterfaces = {line}\n");
        let config = Config::parse(Path::new("test"), &text).unwrap();
        config.global.interfaces
    }

    fn rdma(address: &str) -> RdmaInterface {
        RdmaInterface {
            address: address.parse().unwrap(),
            device: "rxe0".into(),
            port: 445,
            speed: 100_000_000_000,
            if_index: 3,
        }
    }

    #[test]
    fn all_but_loopback_are_offered_and_rdma_where_smbdirectd_listens() {
        let offered = offered(&machine(), &[], &[rdma("10.1.0.1")]);
        let seen: Vec<_> = offered
            .iter()
            .map(|found| (found.if_index, found.rdma, found.speed))
            .collect();
        assert_eq!(
            seen,
            [(2, false, 10_000_000_000), (3, true, 100_000_000_000)]
        );
    }

    #[test]
    fn the_configuration_chooses_and_overrides() {
        let specs = specs("lo \"eth1;speed=42,capability=RSS,if_index=77\"");
        let offered = offered(&machine(), &specs, &[rdma("10.0.0.1")]);
        assert_eq!(
            offered,
            [
                NetworkInterface {
                    if_index: 77,
                    rss: true,
                    rdma: false,
                    speed: 42,
                    address: "10.1.0.1".parse().unwrap()
                },
                NetworkInterface {
                    if_index: 1,
                    rss: false,
                    rdma: false,
                    speed: 10_000_000_000,
                    address: "127.0.0.1".parse().unwrap()
                },
            ]
        );
        let expected: [IpAddr; 2] = ["10.1.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        assert_eq!(bound(&machine(), &specs), expected);
    }

    #[test]
    fn a_link_without_a_carrier_is_not_offered() {
        let mut machine = machine();
        machine[1].running = false;
        let addresses = |specs: &[InterfaceSpec]| -> Vec<String> {
            let offered = offered(&machine, specs, &[rdma("10.0.0.1")]);
            offered.iter().map(|one| one.address.to_string()).collect()
        };
        assert_eq!(addresses(&[]), ["10.1.0.1"]);
        assert_eq!(addresses(&specs("eth0 eth1")), ["10.1.0.1"]);
    }

    #[test]
    fn this_machine_has_a_loopback_address() {
        let found = local_addresses().unwrap();
        if !found.iter().any(|found| found.loopback) {
            eprintln!("skipped: no loopback interface is up here");
            return;
        }
        assert!(found.iter().all(|found| found.speed > 0));
    }
}
