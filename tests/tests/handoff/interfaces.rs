//! What a client is told of the server's interfaces, as the configuration says it. In the lab, with
//! devices: `interfaces` among the scenarios there.

use proto::smb2::fsctl::InterfaceCapability;
use tests::handoff::{Stage, Way, guid};
use tests::server::{PASSWORD, Server, USER};

#[path = "../scenario/mod.rs"]
mod scenario;

#[test]
fn the_configuration_overrides_what_the_machine_says_of_its_interfaces() {
    let line = "interfaces = \"lo;speed=42000,capability=RDMA,if_index=77\"";
    let Some(stage) = Stage::start_as(Server::builder().global(line)) else {
        return;
    };
    let mut client = stage.connect(Way::Tcp, guid(1)).unwrap();
    let session = client.log_on(USER, PASSWORD).unwrap();
    let tree = client.tree_connect(session, "share").unwrap();
    let interfaces = client.interfaces(tree).unwrap();
    let mut of_loopback = interfaces.iter().filter(|found| found.address.is_ipv4());
    let found = of_loopback.next().unwrap();
    assert_eq!(found.address.to_string(), "127.0.0.1");
    assert_eq!((found.link_speed, found.if_index), (42_000, 77));
    assert_eq!(found.capability, InterfaceCapability::RDMA_CAPABLE);
    assert!(of_loopback.next().is_none(), "{interfaces:?}");
}

#[test]
fn a_change_of_addresses_links_or_devices_is_told_within_a_second() {
    scenario::play_on_links(2, "interfaces");
}
