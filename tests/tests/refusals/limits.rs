//! What [global] bounds: where the server listens, and how much a client may have under way.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use tests::client::Offer;
use tests::server::{PASSWORD, Server, USER};

use super::scene::connect;

#[test]
fn an_address_that_is_not_to_be_listened_on_is_closed() {
    let others = [
        IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ];
    for (setting, is_open) in [("no", true), ("yes", false)] {
        let server = Server::builder()
            .global("interfaces = 127.0.0.1")
            .global(&format!("bind interfaces only = {setting}"))
            .start_or_skip();
        let Some(server) = server else { return };
        connect(&server, Offer::default()).unwrap();
        for other in others {
            let there = TcpStream::connect(SocketAddr::new(other, server.address().port()));
            let refused = there.err().map(|error| error.kind());
            let wanted = (!is_open).then_some(ErrorKind::ConnectionRefused);
            assert_eq!(refused, wanted, "{other}, bind interfaces only = {setting}");
        }
    }
}

#[test]
fn a_client_gets_no_more_credits_than_it_may_have() {
    const MOST: u32 = 128;
    const ECHOES: u32 = 8;
    // NEGOTIATE and two SESSION_SETUPs before.
    const USED: u32 = 3 + ECHOES;
    for (setting, wanted) in [("8192", MOST + 1..=8192), ("128", MOST..=MOST)] {
        let server = Server::builder()
            .global(&format!("smb2 max credits = {setting}"))
            .start_or_skip();
        let Some(server) = server else { return };
        let mut client = connect(&server, Offer::default()).unwrap();
        client.log_on(USER, PASSWORD).unwrap();
        // Each asks for 64.
        (0..ECHOES).for_each(|_| client.echo().unwrap());
        let credits = client.credits() - USED;
        assert!(wanted.contains(&credits), "{credits} of {setting}");
    }
}
