//! From facts to findings: for each interface, whether clients are offered RDMA on it, and if not, why
//! and what to do. Pure; each reason has a test.

use std::net::IpAddr;

use proto::control::gateway::{RdmaInterface, Unheard, UnheardAddress};
use proto::control::status::{GatewayReport, StatusReport};
use serde::Serialize;

use super::facts::{Facts, Filter, Interface, InterfaceKind, RdmaDevice};

/// All that is to be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Clients would use RDMA on one interface at least.
    pub rdma_would_be_used: bool,
    /// About the server as a whole.
    pub findings: Vec<Finding>,
    pub interfaces: Vec<InterfaceDiagnosis>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceDiagnosis {
    pub interface: Interface,
    /// Its RDMA device, if it has one.
    pub device: Option<String>,
    /// Clients are offered RDMA on it.
    pub offered: bool,
    /// What clients are told of it (FSCTL_QUERY_NETWORK_INTERFACE_INFO).
    pub told: Vec<Told>,
    pub findings: Vec<Finding>,
}

/// An entry of the list clients get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    pub address: IpAddr,
    pub rdma: bool,
    pub rss: bool,
    /// Bits per second.
    pub speed: u64,
}

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub reason: Reason,
    /// It keeps clients from RDMA; else it is only worth knowing.
    pub prevents: bool,
    pub text: String,
    pub remedy: String,
}

/// Why clients are not offered RDMA, or what may disappoint them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Disabled,
    NoConnectionManager,
    NotRunning,
    GatewayNotRunning,
    MultichannelOff,
    TransformOff,
    ClientsWithoutTransform,
    MemoryLock,
    NoDevice,
    PortOfAnother,
    Teamed,
    DeviceOnPort,
    DeviceNotWanted,
    LinkDown,
    PortDown,
    ManagementFailed,
    NoAddress,
    LinkLocalOnly,
    PortTaken,
    NotPermitted,
    NotListening,
    NotTold,
    Blocked,
    LosesPackets,
    NoFlowControl,
    SmallMtu,
}

/// Below this, RoCE's packets hold less than 1024 bytes.
const SMALL_MTU: u32 = 1280;

/// Decides.
pub fn diagnose(facts: &Facts) -> Diagnosis {
    let findings = of_server(facts);
    let prevented = findings.iter().any(|finding| finding.prevents);
    let interfaces: Vec<InterfaceDiagnosis> = facts
        .interfaces
        .iter()
        .map(|interface| of_interface(facts, interface, prevented))
        .collect();
    Diagnosis {
        rdma_would_be_used: interfaces.iter().any(|interface| interface.offered),
        findings,
        interfaces,
    }
}

fn prevents(reason: Reason, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        reason,
        prevents: true,
        text: text.into(),
        remedy: remedy.into(),
    }
}

fn hint(reason: Reason, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        prevents: false,
        ..prevents(reason, text, remedy)
    }
}

// -- the server as a whole ---------------------------------------------------------------------------------------

fn of_server(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let mut findings = Vec::new();
    if !settings.rdma {
        findings.push(prevents(
            Reason::Disabled,
            "the configuration turns RDMA off: server smb transports does not name it",
            "set server smb transports = tcp, rdma and restart smbd",
        ));
    }
    if !facts.connection_manager && !facts.devices.is_empty() {
        findings.push(prevents(
            Reason::NoConnectionManager,
            "the kernel has no /dev/infiniband/rdma_cm",
            "modprobe rdma_ucm, and name it in /etc/modules",
        ));
    }
    match &facts.server {
        Err(why) => findings.push(prevents(
            Reason::NotRunning,
            format!("no smbd runs: {why}"),
            "start smbd; what else is said here is how it will find things",
        )),
        Ok(report) if settings.rdma && report.gateway.is_none() => findings.push(prevents(
            Reason::GatewayNotRunning,
            "smbd runs without smbdirectd",
            match facts.devices.is_empty() {
                true => "smbd starts it once there is an RDMA device",
                false => "look into smbd's log for why it ended, or install it beside smbd",
            },
        )),
        Ok(_) => {}
    }
    if !settings.multichannel {
        findings.push(prevents(
            Reason::MultichannelOff,
            "clients are told of no interface: server multi channel support = no",
            "set it to yes; until then only clients that ask for RDMA themselves get it (Linux: \
             mount with rdma)",
        ));
    }
    findings.extend(of_protection(facts));
    findings.extend(of_memory_lock(facts));
    findings
}

fn of_protection(facts: &Facts) -> Option<Finding> {
    let settings = &facts.settings;
    let required = match (settings.signing_required, settings.encryption_required) {
        (_, true) => "server smb encrypt = required",
        (true, _) => "server signing = mandatory",
        _ => "clients ask for signing or encryption",
    };
    let must = settings.signing_required || settings.encryption_required;
    if settings.unprotected_payload {
        return None;
    }
    if must && !settings.rdma_transform {
        return Some(prevents(
            Reason::TransformOff,
            format!("{required}, and rdma transform = no: no payload may move by RDMA"),
            "set rdma transform = yes",
        ));
    }
    let without = without_transform(facts.server.as_deref().ok());
    let clients = match without.as_slice() {
        [] => String::new(),
        found => format!(", now of {}", found.join(", ")),
    };
    (must || !without.is_empty()).then(|| {
        hint(
            Reason::ClientsWithoutTransform,
            format!(
                "{required}: the payload of clients that know no RDMA transform (Linux, Windows \
                 before 11 and Server 2022) moves inside messages{clients}"
            ),
            "nothing, or trust the network instead: rdma allow unprotected payload = yes",
        )
    })
}

/// Clients whose sessions must be protected and that have no transform.
fn without_transform(report: Option<&StatusReport>) -> Vec<String> {
    use proto::control::child::Transport;
    let children = report.iter().flat_map(|report| &report.children);
    let statuses = children.filter_map(|child| child.status.as_ref());
    let channels = statuses.flat_map(|status| &status.channels);
    let mut found: Vec<String> = channels
        .filter(|channel| channel.transport == Transport::Rdma)
        .filter(|channel| channel.must_protect && !channel.rdma_transform)
        .map(|channel| channel.peer.ip().to_string())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn of_memory_lock(facts: &Facts) -> Option<Finding> {
    let (limit, budget) = (facts.memory_lock?, facts.settings.memory_budget);
    (limit < budget).then(|| {
        let text = format!(
            "smbdirectd may lock {} MiB, less than rdma memory budget ({} MiB)",
            limit >> 20,
            budget >> 20
        );
        let finding = prevents(Reason::MemoryLock, text, crate::config::MEMORY_LOCK_ADVICE);
        Finding {
            // With room for one client's first part and its buffers, some get RDMA.
            prevents: limit < 2 * u64::from(crate::memory::PART_SIZE),
            ..finding
        }
    })
}

// -- one interface -----------------------------------------------------------------------------------------------

fn of_interface(facts: &Facts, interface: &Interface, prevented: bool) -> InterfaceDiagnosis {
    let gateway = gateway(facts);
    let heard: Vec<&RdmaInterface> = gateway
        .iter()
        .flat_map(|gateway| &gateway.interfaces)
        .filter(|heard| interface.addresses.contains(&heard.address))
        .collect();
    let device = heard
        .first()
        .and_then(|heard| {
            facts
                .devices
                .iter()
                .find(|found| found.name == heard.device)
        })
        .or_else(|| device_of(facts, interface));
    let told = told(facts, interface);
    let mut findings = Vec::new();
    if heard.is_empty() {
        findings.extend(not_heard(facts, interface, device));
    } else if facts.settings.multichannel && !told.iter().any(|told| told.rdma) {
        findings.push(prevents(
            Reason::NotTold,
            "smbdirectd listens here, but clients are not told of it",
            "name it in interfaces = …, or remove that setting; a link without a carrier is not \
             told of either",
        ));
    }
    if let Some(device) = device {
        findings.extend(of_management(interface, device));
        findings.extend(of_filter(facts, device));
        findings.extend(of_network(interface, device));
    }
    let prevents = |finding: &Finding| finding.prevents;
    InterfaceDiagnosis {
        interface: interface.clone(),
        device: match (heard.first(), device) {
            (Some(heard), _) => Some(heard.device.clone()),
            (None, device) => device.map(|device| device.name.clone()),
        },
        offered: !prevented && !heard.is_empty() && !findings.iter().any(prevents),
        told,
        findings,
    }
}

fn gateway(facts: &Facts) -> Option<&GatewayReport> {
    facts.server.as_ref().ok()?.gateway.as_ref()
}

/// The device that is on the interface, or has one of its addresses.
fn device_of<'a>(facts: &'a Facts, interface: &Interface) -> Option<&'a RdmaDevice> {
    let mut devices = facts.devices.iter();
    devices.find(|device| device.interfaces.contains(&interface.name))
}

fn told(facts: &Facts, interface: &Interface) -> Vec<Told> {
    if !facts.settings.multichannel {
        return Vec::new();
    }
    let report = facts.server.as_ref().ok();
    let interfaces = report.iter().flat_map(|report| &report.interfaces);
    let here = interfaces.filter(|found| interface.addresses.contains(&found.address));
    here.map(|found| Told {
        address: found.address,
        rdma: found.rdma,
        rss: found.rss,
        speed: found.speed,
    })
    .collect()
}

/// Why nobody listens: what comes first hides what follows from it.
fn not_heard(facts: &Facts, interface: &Interface, device: Option<&RdmaDevice>) -> Option<Finding> {
    let name = &interface.name;
    let Some(device) = device else {
        return Some(without_device(facts, interface));
    };
    let wanted = &facts.settings.rdma_devices;
    if !wanted.is_empty() && !wanted.contains(&device.name) {
        return Some(prevents(
            Reason::DeviceNotWanted,
            format!("its device {} is not among rdma devices", device.name),
            format!("add {} to rdma devices, or set it to all", device.name),
        ));
    }
    if !interface.up || !interface.carrier {
        let (what, remedy) = match interface.up {
            false => ("is down", format!("ip link set {name} up")),
            true => ("has no carrier", "look at its cable and switch".into()),
        };
        return Some(prevents(
            Reason::LinkDown,
            format!("the interface {what}"),
            remedy,
        ));
    }
    if let Some(master) = &interface.master {
        return Some(port_of_another(name, master));
    }
    if !device.is_active() {
        return Some(prevents(
            Reason::PortDown,
            format!("the port of {} is {}", device.name, device.state),
            "look at its cable and switch, 'rdma link show', and the kernel's log (dmesg)",
        ));
    }
    let unheard = gateway(facts)
        .iter()
        .flat_map(|gateway| &gateway.unheard)
        .find(|unheard| interface.addresses.contains(&unheard.address));
    without_address(interface)
        .or_else(|| unheard.map(|unheard| of_unheard(unheard, device, name)))
        .or_else(|| {
            // Without a gateway that is the reason, said of the server as a whole.
            gateway(facts).is_some().then(|| {
                prevents(
                    Reason::NotListening,
                    format!("smbdirectd does not listen on {name}"),
                    "wait a second and ask again; else see smbd's log, and 'rdma link show'",
                )
            })
        })
}

fn port_of_another(name: &str, master: &str) -> Finding {
    prevents(
        Reason::PortOfAnother,
        format!("it is a port of {master}"),
        format!("look at {master}; give {name} an address of its own only outside of it"),
    )
}

fn without_device(facts: &Facts, interface: &Interface) -> Finding {
    let name = &interface.name;
    if let Some(master) = &interface.master {
        return port_of_another(name, master);
    }
    if matches!(interface.kind, InterfaceKind::Team | InterfaceKind::Bond) {
        return prevents(
            Reason::Teamed,
            "no RDMA device goes along with the teamed interface",
            format!(
                "bond the ports of one NIC whose driver does RDMA over it (mlx5: one RDMA device \
                 for the bond), or take {name} apart: multichannel uses several addresses by \
                 itself; soft-RoCE goes on top: rdma link add rxe_{name} type rxe netdev {name}"
            ),
        );
    }
    let remedy = match facts.devices.is_empty() {
        true => format!(
            "install the NIC's RDMA driver, or use soft-RoCE: rdma link add rxe0 type rxe netdev \
             {name}"
        ),
        false => format!(
            "use an interface that has one ({}), or add soft-RoCE: rdma link add rxe_{name} type \
             rxe netdev {name}",
            with_devices(facts)
        ),
    };
    prevents(Reason::NoDevice, "it has no RDMA device", remedy)
}

fn with_devices(facts: &Facts) -> String {
    let interfaces = facts.interfaces.iter();
    let with_device = interfaces.filter(|interface| device_of(facts, interface).is_some());
    let names: Vec<&str> = with_device.map(|found| found.name.as_str()).collect();
    match names.is_empty() {
        true => "none of those here".into(),
        false => names.join(", "),
    }
}

fn without_address(interface: &Interface) -> Option<Finding> {
    let name = &interface.name;
    let is_link_local =
        |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if interface.addresses.is_empty() {
        return Some(prevents(
            Reason::NoAddress,
            "it has no address",
            format!("ip address add ADDRESS/LENGTH dev {name}"),
        ));
    }
    interface.addresses.iter().all(is_link_local).then(|| {
        prevents(
            Reason::LinkLocalOnly,
            "it has only an IPv6 link-local address, which clients can't be told of",
            format!("give it another: ip address add ADDRESS/LENGTH dev {name}"),
        )
    })
}

fn of_unheard(unheard: &UnheardAddress, device: &RdmaDevice, name: &str) -> Finding {
    let (reason, remedy) = match unheard.why {
        Unheard::DeviceOnPort => {
            return prevents(
                Reason::DeviceOnPort,
                format!(
                    "{} is soft-RoCE on a port of it and takes no packets of {name}",
                    device.name
                ),
                format!(
                    "put it on {name} itself: rdma link delete {0}, rdma link add {0} type rxe \
                     netdev {name}",
                    device.name
                ),
            );
        }
        Unheard::PortTaken => (
            Reason::PortTaken,
            "stop the other server (ksmbd?), or set server smb transports = tcp, rdma:PORT",
        ),
        Unheard::NotPermitted => (
            Reason::NotPermitted,
            "start smbd as root: a port below 1024 needs CAP_NET_BIND_SERVICE",
        ),
        Unheard::MemoryLock => (Reason::MemoryLock, crate::config::MEMORY_LOCK_ADVICE),
        Unheard::PortDown => (Reason::PortDown, "look at its cable and switch"),
        Unheard::NotWanted => (Reason::DeviceNotWanted, "set rdma devices = all"),
        Unheard::Other => (
            Reason::NotListening,
            "see the kernel's log (dmesg); smbdirectd tries again each second",
        ),
    };
    prevents(reason, unheard.text.clone(), remedy)
}

/// Soft-RoCE's can fail for good when an address's GID is taken away while something is sent from it.
fn of_management(interface: &Interface, device: &RdmaDevice) -> Option<Finding> {
    let name = &device.name;
    device.management_failed.then(|| {
        prevents(
            Reason::ManagementFailed,
            format!("{name} takes no new connection: its management queue pair (GSI) is in error"),
            match device.software {
                true => format!(
                    "make it anew: rdma link delete {name}, rdma link add {name} type {} netdev {}",
                    if device.iwarp { "siw" } else { "rxe" },
                    interface.name
                ),
                false => "load its driver anew, or restart the machine".into(),
            },
        )
    })
}

fn of_filter(facts: &Facts, device: &RdmaDevice) -> Option<Finding> {
    let (filter, what, rule) = match device.iwarp {
        false => (&facts.roce_filter, "RoCE v2 (UDP 4791)", "udp dport 4791"),
        true => (
            &facts.iwarp_filter,
            "SMB Direct over iWARP (TCP 5445)",
            "tcp dport 5445",
        ),
    };
    let Filter::Blocked(chain) = filter else {
        return None;
    };
    if !device.software {
        // The NIC hands its packets to nobody's filter.
        return None;
    }
    Some(prevents(
        Reason::Blocked,
        format!("this machine's packet filter drops {what} in chain {chain}"),
        format!("nft insert rule {chain} {rule} accept"),
    ))
}

/// What the network does to RDMA, as far as it shows here.
fn of_network(interface: &Interface, device: &RdmaDevice) -> Vec<Finding> {
    /// Packets were lost or came out of order, as drivers name it.
    const LOSSES: [&str; 6] = [
        "out_of_sequence",
        "packet_seq_err",
        "local_ack_timeout_err",
        "rcvd_seq_err",
        "out_of_seq_request",
        "completer_retry_err",
    ];
    let mut findings = Vec::new();
    let lost: Vec<String> = device
        .counters
        .iter()
        .filter(|(name, value)| LOSSES.contains(&name.as_str()) && *value > 0)
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if !lost.is_empty() {
        findings.push(hint(
            Reason::LosesPackets,
            format!(
                "packets were lost or came out of order since the device came up: {}",
                lost.join(", ")
            ),
            "make the network lossless for it: PFC on one priority, or ECN, at every switch",
        ));
    }
    if !device.iwarp && !device.software && interface.pfc.as_ref().is_some_and(Vec::is_empty) {
        findings.push(hint(
            Reason::NoFlowControl,
            "PFC is on for no priority",
            format!(
                "dcb pfc set dev {} prio-pfc 3:on, and so at the switch, unless ECN does",
                interface.name
            ),
        ));
    }
    if !device.iwarp && interface.mtu < SMALL_MTU {
        findings.push(hint(
            Reason::SmallMtu,
            format!(
                "an MTU of {} bytes leaves RoCE small packets",
                interface.mtu
            ),
            format!(
                "ip link set {} mtu 4200, and so at the switch",
                interface.name
            ),
        ));
    }
    findings
}
