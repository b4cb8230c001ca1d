//! One test for each reason: a machine on which RDMA is offered, with one thing wrong.

use proto::control::child::{ChannelStatus, ChildStatus, NetworkInterface, Transport};
use proto::control::gateway::{RdmaInterface, Unheard, UnheardAddress};
use proto::control::status::{ChildReport, GatewayReport, ServerSettings, StatusReport};

use super::decision::{Diagnosis, Reason, diagnose};
use super::facts::{Facts, Filter, Interface, InterfaceKind, RdmaDevice};

const ADDRESS: &str = "10.9.0.1";

/// eth0 with mlx5_0, a running server that listens there and tells clients so.
fn healthy() -> Facts {
    let address = ADDRESS.parse().unwrap();
    let report = StatusReport {
        interfaces: vec![NetworkInterface {
            if_index: 2,
            rss: true,
            rdma: true,
            speed: 100_000_000_000,
            address,
        }],
        gateway: Some(GatewayReport {
            pid: 9,
            interfaces: vec![RdmaInterface {
                address,
                device: "mlx5_0".into(),
                port: 445,
                speed: 100_000_000_000,
                if_index: 2,
            }],
            ..GatewayReport::default()
        }),
        ..StatusReport::default()
    };
    Facts {
        settings: ServerSettings {
            rdma: true,
            multichannel: true,
            rdma_transform: true,
            memory_budget: 1 << 30,
            ..ServerSettings::default()
        },
        server: Ok(Box::new(report)),
        connection_manager: true,
        interfaces: vec![Interface {
            name: "eth0".into(),
            up: true,
            carrier: true,
            mtu: 9000,
            addresses: vec![address, "fe80::1".parse().unwrap()],
            ..Interface::default()
        }],
        devices: vec![RdmaDevice {
            name: "mlx5_0".into(),
            state: "ACTIVE".into(),
            interfaces: vec!["eth0".into()],
            ..RdmaDevice::default()
        }],
        memory_lock: Some(u64::MAX),
        roce_filter: Filter::Open,
        iwarp_filter: Filter::Open,
    }
}

fn gateway(facts: &mut Facts) -> &mut GatewayReport {
    let report = facts.server.as_mut().unwrap();
    report.gateway.as_mut().unwrap()
}

/// Nobody listens on eth0.
fn unheard() -> Facts {
    let mut facts = healthy();
    gateway(&mut facts).interfaces.clear();
    facts
}

/// All reasons, the server's first, of those that prevent RDMA or of the others.
fn reasons(diagnosis: &Diagnosis, prevents: bool) -> Vec<Reason> {
    let interfaces = diagnosis.interfaces.iter();
    let findings = interfaces.flat_map(|interface| &interface.findings);
    let all = diagnosis.findings.iter().chain(findings);
    let mut found = all
        .filter(|finding| finding.prevents == prevents)
        .peekable();
    assert!(
        found
            .clone()
            .all(|finding| !finding.text.is_empty() && !finding.remedy.is_empty()),
        "each says what to do"
    );
    found.by_ref().map(|finding| finding.reason).collect()
}

#[track_caller]
fn assert_prevented(facts: &Facts, expected: &[Reason]) {
    let diagnosis = diagnose(facts);
    assert_eq!(reasons(&diagnosis, true), expected);
    assert!(!diagnosis.rdma_would_be_used);
    assert!(diagnosis.interfaces.iter().all(|found| !found.offered));
}

#[track_caller]
fn assert_noted(facts: &Facts, expected: &[Reason]) {
    let diagnosis = diagnose(facts);
    assert_eq!(reasons(&diagnosis, true), []);
    assert_eq!(reasons(&diagnosis, false), expected);
    assert!(diagnosis.rdma_would_be_used);
}

#[test]
fn a_healthy_machine_has_nothing_said_of_it() {
    let facts = healthy();
    assert_noted(&facts, &[]);
    let diagnosis = diagnose(&facts);
    let found = &diagnosis.interfaces[0];
    assert!(found.offered && found.told[0].rdma);
    assert_eq!(found.device.as_deref(), Some("mlx5_0"));
}

#[test]
fn disabled_in_the_configuration() {
    let mut facts = healthy();
    facts.settings.rdma = false;
    facts.server.as_mut().unwrap().gateway = None;
    assert_prevented(&facts, &[Reason::Disabled]);
}

#[test]
fn no_server_runs() {
    let mut facts = healthy();
    facts.server = Err("no smbd answers".into());
    assert_prevented(&facts, &[Reason::NotRunning]);
}

#[test]
fn no_smbdirectd_runs() {
    let mut facts = healthy();
    facts.server.as_mut().unwrap().gateway = None;
    assert_prevented(&facts, &[Reason::GatewayNotRunning]);
}

#[test]
fn no_connection_manager() {
    let mut facts = unheard();
    facts.connection_manager = false;
    facts.server.as_mut().unwrap().gateway = None;
    assert_prevented(
        &facts,
        &[Reason::NoConnectionManager, Reason::GatewayNotRunning],
    );
}

#[test]
fn multichannel_off() {
    let mut facts = healthy();
    facts.settings.multichannel = false;
    assert_prevented(&facts, &[Reason::MultichannelOff]);
    assert!(diagnose(&facts).interfaces[0].told.is_empty());
}

#[test]
fn protection_required_and_no_transform() {
    let mut facts = healthy();
    facts.settings.signing_required = true;
    assert_noted(&facts, &[Reason::ClientsWithoutTransform]);
    facts.settings.rdma_transform = false;
    assert_prevented(&facts, &[Reason::TransformOff]);
    facts.settings.unprotected_payload = true;
    assert_noted(&facts, &[]);
}

#[test]
fn a_client_that_must_protect_and_has_no_transform_is_named() {
    let mut facts = healthy();
    let channel = ChannelStatus {
        transport: Transport::Rdma,
        peer: "10.9.0.2:50000".parse().unwrap(),
        local: "10.9.0.1:445".parse().unwrap(),
        device: "mlx5_0".into(),
        connection: None,
        users: Vec::new(),
        must_protect: true,
        rdma_transform: false,
    };
    facts.server.as_mut().unwrap().children = vec![ChildReport {
        child: 1,
        pid: 7,
        status: Some(ChildStatus {
            channels: vec![channel],
            ..ChildStatus::default()
        }),
    }];
    assert_noted(&facts, &[Reason::ClientsWithoutTransform]);
    assert!(diagnose(&facts).findings[0].text.contains("10.9.0.2"));
}

#[test]
fn memory_lock_limit() {
    let mut facts = healthy();
    facts.memory_lock = Some(8 << 20);
    assert_prevented(&facts, &[Reason::MemoryLock]);
    facts.memory_lock = Some(512 << 20);
    assert_noted(&facts, &[Reason::MemoryLock]);
}

#[test]
fn no_device() {
    let mut facts = unheard();
    facts.devices.clear();
    assert_prevented(&facts, &[Reason::NoDevice]);
    let remedy = &diagnose(&facts).interfaces[0].findings[0].remedy;
    assert!(remedy.contains("netdev eth0"), "{remedy}");
    // One that another interface has.
    let mut facts = healthy();
    facts.interfaces.push(Interface {
        name: "eth1".into(),
        ..Interface::default()
    });
    let finding = diagnose(&facts).interfaces[1].findings.remove(0);
    assert_eq!(finding.reason, Reason::NoDevice);
    assert!(finding.remedy.contains("(eth0)"), "{finding:?}");
}

#[test]
fn a_port_of_a_bond() {
    let mut facts = unheard();
    facts.interfaces[0].master = Some("bond0".into());
    assert_prevented(&facts, &[Reason::PortOfAnother]);
}

#[test]
fn teamed_or_bonded_without_a_device() {
    for kind in [InterfaceKind::Team, InterfaceKind::Bond] {
        let mut facts = unheard();
        facts.interfaces[0].kind = kind;
        facts.devices.clear();
        assert_prevented(&facts, &[Reason::Teamed]);
    }
    let mut facts = healthy();
    facts.interfaces[0].kind = InterfaceKind::Bond;
    assert_noted(&facts, &[]);
}

#[test]
fn soft_roce_on_a_port_of_a_bond() {
    let mut facts = unheard();
    facts.interfaces[0].name = "bond0".into();
    facts.devices[0].name = "rxe0".into();
    // The kernel counts the bond's addresses as the port's device's.
    facts.devices[0].interfaces = vec!["bond0".into(), "eth0".into()];
    gateway(&mut facts).unheard = vec![UnheardAddress {
        address: ADDRESS.parse().unwrap(),
        why: Unheard::DeviceOnPort,
        text: "no SMB Direct here".into(),
    }];
    assert_prevented(&facts, &[Reason::DeviceOnPort]);
    let remedy = &diagnose(&facts).interfaces[0].findings[0].remedy;
    assert!(
        remedy.contains("rdma link add rxe0 type rxe netdev bond0"),
        "{remedy}"
    );
}

#[test]
fn device_not_wanted() {
    let mut facts = unheard();
    facts.settings.rdma_devices = vec!["mlx5_1".into()];
    assert_prevented(&facts, &[Reason::DeviceNotWanted]);
}

#[test]
fn link_down_or_without_a_carrier() {
    let mut facts = unheard();
    facts.interfaces[0].carrier = false;
    assert_prevented(&facts, &[Reason::LinkDown]);
    facts.interfaces[0].up = false;
    assert_prevented(&facts, &[Reason::LinkDown]);
    let remedy = &diagnose(&facts).interfaces[0].findings[0].remedy;
    assert_eq!(remedy, "ip link set eth0 up");
}

#[test]
fn port_down() {
    let mut facts = unheard();
    facts.devices[0].state = "DOWN".into();
    assert_prevented(&facts, &[Reason::PortDown]);
}

#[test]
fn the_management_queue_pair_failed() {
    let mut facts = healthy();
    facts.devices[0].management_failed = true;
    assert_prevented(&facts, &[Reason::ManagementFailed]);
    facts.devices[0].software = true;
    let remedy = &diagnose(&facts).interfaces[0].findings[0].remedy;
    assert!(
        remedy.ends_with("rdma link add mlx5_0 type rxe netdev eth0"),
        "{remedy}"
    );
}

#[test]
fn no_address() {
    let mut facts = unheard();
    facts.interfaces[0].addresses.clear();
    assert_prevented(&facts, &[Reason::NoAddress]);
}

#[test]
fn only_a_link_local_address() {
    let mut facts = unheard();
    facts.interfaces[0].addresses = vec!["fe80::1".parse().unwrap()];
    assert_prevented(&facts, &[Reason::LinkLocalOnly]);
}

#[test]
fn what_smbdirectd_said_of_an_address() {
    for (why, reason) in [
        (Unheard::PortTaken, Reason::PortTaken),
        (Unheard::NotPermitted, Reason::NotPermitted),
        (Unheard::MemoryLock, Reason::MemoryLock),
        (Unheard::PortDown, Reason::PortDown),
        (Unheard::NotWanted, Reason::DeviceNotWanted),
        (Unheard::DeviceOnPort, Reason::DeviceOnPort),
        (Unheard::Other, Reason::NotListening),
    ] {
        let mut facts = unheard();
        let address = ADDRESS.parse().unwrap();
        let text = "no SMB Direct here".into();
        gateway(&mut facts).unheard = vec![UnheardAddress { address, why, text }];
        assert_prevented(&facts, &[reason]);
    }
}

#[test]
fn nobody_listens_and_nobody_says_why() {
    assert_prevented(&unheard(), &[Reason::NotListening]);
}

#[test]
fn clients_are_not_told() {
    let mut facts = healthy();
    facts.server.as_mut().unwrap().interfaces.clear();
    assert_prevented(&facts, &[Reason::NotTold]);
}

#[test]
fn the_packet_filter_stops_soft_devices_only() {
    let mut facts = healthy();
    facts.roce_filter = Filter::Blocked("inet filter input".into());
    assert_noted(&facts, &[]);
    facts.devices[0].software = true;
    assert_prevented(&facts, &[Reason::Blocked]);
    facts.devices[0].iwarp = true;
    assert_noted(&facts, &[]);
    facts.iwarp_filter = Filter::Blocked("inet filter input".into());
    assert_prevented(&facts, &[Reason::Blocked]);
    facts.iwarp_filter = Filter::Unknown;
    assert_noted(&facts, &[]);
}

#[test]
fn a_network_that_is_not_lossless_is_noted() {
    let mut facts = healthy();
    facts.interfaces[0].pfc = Some(vec![3]);
    facts.devices[0].counters = vec![("np_ecn_marked_roce_packets".into(), 9)];
    assert_noted(&facts, &[]);
    facts.interfaces[0].pfc = Some(Vec::new());
    facts.interfaces[0].mtu = 1000;
    facts.devices[0].counters = vec![("packet_seq_err".into(), 2)];
    assert_noted(
        &facts,
        &[
            Reason::LosesPackets,
            Reason::NoFlowControl,
            Reason::SmallMtu,
        ],
    );
}

#[test]
fn one_interface_is_enough() {
    let mut facts = healthy();
    facts.interfaces.push(Interface {
        name: "eth1".into(),
        ..Interface::default()
    });
    let diagnosis = diagnose(&facts);
    assert!(diagnosis.rdma_would_be_used);
    assert!(!diagnosis.interfaces[1].offered);
}
