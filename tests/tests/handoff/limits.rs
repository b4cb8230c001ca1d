//! How many connections a client may have, and who says no to the next one.

use proto::smb2::NtStatus;
use tests::client::ClientError;
use tests::handoff::{Stage, Way, guid};
use tests::server::{PASSWORD, USER};

/// MS-SMB2 3.3.5.5.3: channels of a session, as Windows has it.
const CHANNELS: usize = 32;
/// Connections of a client.
const CONNECTIONS: usize = 64;

#[test]
fn the_owner_serves_a_thirty_third_connection_and_refuses_to_bind_it() {
    for way in [Way::Tcp, Way::Rdma] {
        let Some(stage) = Stage::start() else {
            return;
        };
        let mut first = stage.connect(way, guid(1)).unwrap();
        let session = first.log_on(USER, PASSWORD).unwrap();
        let mut channels = Vec::new();
        for _ in 1..CHANNELS {
            let mut channel = stage.connect(way, guid(1)).unwrap();
            channel.bind(session, &first, USER, PASSWORD).unwrap();
            channels.push(channel);
        }
        let mut further = stage.connect(way, guid(1)).unwrap();
        let refused = further.bind(session, &first, USER, PASSWORD);
        let status = refused.as_ref().err().and_then(ClientError::status);
        assert_eq!(status, Some(NtStatus::INSUFFICIENT_RESOURCES), "{way:?}");
        // It may have a session of its own, in the same process.
        let own = further.log_on(USER, PASSWORD).unwrap();
        further.tree_connect(own, "share").unwrap();
        stage.wait_for("one process serves all of them", |report| {
            let [child] = &report.children[..] else {
                return None;
            };
            let channels = child.status.as_ref()?.channels.len();
            (channels == CHANNELS + 1).then_some(())
        });
        for channel in &mut channels {
            channel.echo().unwrap();
        }
    }
}

#[test]
fn a_client_with_all_its_connections_is_told_so_and_goes_on() {
    let Some(stage) = Stage::start() else {
        return;
    };
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = stage.connect(Way::Tcp, guid(1)).unwrap();
        connection.log_on(USER, PASSWORD).unwrap();
        connections.push(connection);
    }
    let refused = stage.connect(Way::Tcp, guid(1)).err().unwrap();
    assert_eq!(refused.status(), Some(NtStatus::INSUFFICIENT_RESOURCES));
    for connection in &mut connections {
        connection.echo().unwrap();
    }
    drop(connections.pop());
    stage.wait_for("the process has noticed", |report| {
        let status = report.children.first()?.status.as_ref()?;
        (status.channels.len() < CONNECTIONS).then_some(())
    });
    let mut next = stage.connect(Way::Tcp, guid(1)).unwrap();
    next.log_on(USER, PASSWORD).unwrap();
}
