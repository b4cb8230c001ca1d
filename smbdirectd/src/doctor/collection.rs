//! Learns the facts: from the running server, and without it from sysfs, the addresses, nftables and
//! the kernel's limits. What can't be learnt stays unknown; nothing here decides.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use serde_json::Value;

use super::facts::{Facts, Filter, Gid, Interface, InterfaceKind, RdmaDevice};
use super::filter;
use crate::server::Server;

const NET: &str = "/sys/class/net";
const INFINIBAND: &str = "/sys/class/infiniband";
/// GID tables have up to 256 entries; entries in use come first.
const MOST_GIDS: u32 = 256;

/// Everything.
pub(super) fn collect(config: Option<&Path>) -> Result<Facts, Box<dyn std::error::Error>> {
    let server = Server::of(config)?;
    let report = server.ask().map_err(|error| error.to_string());
    let gateway = report
        .as_ref()
        .ok()
        .and_then(|report| report.gateway.as_ref());
    let rules = tool("nft", &["-j", "list", "ruleset"]);
    let filter = |protocol, port| match &rules {
        Some(rules) => filter::follow(rules, protocol, port),
        None => Filter::Unknown,
    };
    Ok(Facts {
        settings: match &report {
            Ok(report) => report.settings.clone(),
            Err(_) => server.settings,
        },
        connection_manager: Path::new("/dev/infiniband/rdma_cm").exists(),
        interfaces: interfaces()?,
        devices: devices(),
        memory_lock: gateway.and_then(|gateway| memory_lock(gateway.pid)),
        roce_filter: filter("udp", 4791),
        iwarp_filter: filter("tcp", 5445),
        server: report.map(Box::new),
    })
}

// -- network interfaces ------------------------------------------------------------------------------------------

fn interfaces() -> Result<Vec<Interface>, Box<dyn std::error::Error>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        if entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        // An alias ("eth0:1") is its interface.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        let at = match found.iter().position(|known| known.name == name) {
            Some(at) => at,
            None => {
                found.push(interface(name, entry.flags));
                found.len() - 1
            }
        };
        let storage = entry.address;
        let v4 = storage.and_then(|storage| Some(storage.as_sockaddr_in()?.ip()));
        let v6 = storage.and_then(|storage| Some(storage.as_sockaddr_in6()?.ip()));
        let address = v4.map(IpAddr::V4).or(v6.map(IpAddr::V6));
        if let Some(known) = found.get_mut(at) {
            known.addresses.extend(address);
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn interface(name: &str, flags: InterfaceFlags) -> Interface {
    let folder = PathBuf::from(NET).join(name);
    let master = fs::read_link(folder.join("master")).ok();
    let master = master.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let pfc = tool("dcb", &["-j", "pfc", "show", "dev", name]);
    Interface {
        kind: kind(&folder, name),
        master,
        up: flags.contains(InterfaceFlags::IFF_UP),
        carrier: flags.contains(InterfaceFlags::IFF_RUNNING),
        mtu: read(folder.join("mtu"))
            .and_then(|mtu| mtu.parse().ok())
            .unwrap_or(0),
        addresses: Vec::new(),
        pfc: pfc.and_then(|pfc| enabled(pfc.get("prio-pfc")?)),
        name: name.to_owned(),
    }
}

fn kind(folder: &Path, name: &str) -> InterfaceKind {
    let uevent = read(folder.join("uevent")).unwrap_or_default();
    if folder.join("bonding").exists() {
        InterfaceKind::Bond
    } else if folder.join("bridge").exists() {
        InterfaceKind::Bridge
    } else if uevent.lines().any(|line| line == "DEVTYPE=vlan") {
        InterfaceKind::Vlan
    } else if has_ports(name) {
        // What else has ports: the kernel gives a team no mark of its own.
        InterfaceKind::Team
    } else {
        InterfaceKind::Plain
    }
}

fn has_ports(name: &str) -> bool {
    entries(Path::new(NET)).iter().any(|other| {
        fs::read_link(Path::new(NET).join(other).join("master"))
            .is_ok_and(|master| master.ends_with(name))
    })
}

/// Numbers of the priorities that are on.
fn enabled(priorities: &Value) -> Option<Vec<u8>> {
    let on = |(_, on): &(u8, &Value)| on.as_bool() == Some(true);
    let priorities = (0u8..).zip(priorities.as_array()?);
    Some(priorities.filter(on).map(|(number, _)| number).collect())
}

// -- RDMA devices ------------------------------------------------------------------------------------------------

fn devices() -> Vec<RdmaDevice> {
    let links = tool("rdma", &["-j", "link", "show"]);
    let queue_pairs = tool("rdma", &["-j", "resource", "show", "qp"]);
    let names = entries(Path::new(INFINIBAND));
    names
        .iter()
        .map(|name| device(name, links.as_ref(), queue_pairs.as_ref()))
        .collect()
}

fn device(name: &str, links: Option<&Value>, queue_pairs: Option<&Value>) -> RdmaDevice {
    let folder = PathBuf::from(INFINIBAND).join(name);
    let port = folder.join("ports/1");
    let gids = gids(&port);
    let mut interfaces: Vec<String> = gids.iter().map(|gid| gid.interface.clone()).collect();
    interfaces.extend(entries(&folder.join("device/net")));
    interfaces.extend(read(folder.join("parent")));
    interfaces.extend(links.and_then(|links| interface_of_link(links, name)));
    interfaces.retain(|interface| !interface.is_empty());
    interfaces.sort();
    interfaces.dedup();
    // "4: ACTIVE"
    let state = read(port.join("state")).unwrap_or_default();
    let state = state.split(": ").nth(1).unwrap_or("unknown").to_owned();
    RdmaDevice {
        name: name.to_owned(),
        iwarp: read(folder.join("node_type")).is_some_and(|kind| kind.contains("RNIC")),
        software: !folder.join("device").exists(),
        state,
        management_failed: queue_pairs
            .is_some_and(|queue_pairs| management_failed(queue_pairs, name)),
        interfaces,
        gids,
        counters: counters(&port.join("hw_counters")),
    }
}

fn gids(port: &Path) -> Vec<Gid> {
    let mut gids = Vec::new();
    for index in 0..MOST_GIDS {
        let Some(gid) = read(port.join(format!("gids/{index}"))) else {
            break;
        };
        if gid.chars().all(|digit| "0:".contains(digit)) {
            continue;
        }
        gids.push(Gid {
            index,
            gid,
            kind: read(port.join(format!("gid_attrs/types/{index}"))).unwrap_or_default(),
            interface: read(port.join(format!("gid_attrs/ndevs/{index}"))).unwrap_or_default(),
        });
    }
    gids
}

fn interface_of_link(links: &Value, device: &str) -> Option<String> {
    let mut links = links.as_array()?.iter();
    let link = links.find(|link| link.get("ifname").and_then(Value::as_str) == Some(device))?;
    Some(link.get("netdev")?.as_str()?.to_owned())
}

/// As `rdma resource show qp` has it.
fn management_failed(queue_pairs: &Value, device: &str) -> bool {
    let is = |found: &Value, field, text| found.get(field).and_then(Value::as_str) == Some(text);
    queue_pairs.as_array().is_some_and(|found| {
        found.iter().any(|found| {
            is(found, "ifname", device) && is(found, "type", "GSI") && is(found, "state", "ERR")
        })
    })
}

/// Those that tell of loss, congestion and its marks; drivers differ in their names.
fn counters(folder: &Path) -> Vec<(String, u64)> {
    let telling = |name: &String| {
        ["seq", "retry", "ecn", "cnp", "timeout", "rnr", "duplicate"]
            .iter()
            .any(|word| name.contains(word))
    };
    let names = entries(folder).into_iter().filter(telling);
    names
        .filter_map(|name| {
            let value = read(folder.join(&name))?.parse().ok()?;
            Some((name, value))
        })
        .collect()
}

// -- the rest ----------------------------------------------------------------------------------------------------

/// Bytes the process may lock: the soft limit, which is the one in force.
fn memory_lock(pid: i32) -> Option<u64> {
    let limits = read(PathBuf::from(format!("/proc/{pid}/limits")))?;
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        bytes => bytes.parse().ok(),
    }
}

/// What a program of the system prints as JSON, if it is there and succeeds.
fn tool(program: &str, arguments: &[&str]) -> Option<Value> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let printed = output.status.success().then_some(output.stdout)?;
    serde_json::from_slice(&printed).ok()
}

fn read(path: PathBuf) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Names in a folder, in order; none where it does not exist.
fn entries(folder: &Path) -> Vec<String> {
    let found = fs::read_dir(folder).into_iter().flatten();
    let names = found.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
