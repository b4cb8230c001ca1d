//! Who counts as the same client, and who does not.

use proto::control::status::StatusReport;
use proto::smb2::{Dialect, Guid, NtStatus};
use tests::client::{ClientError, Connection, Offer};
use tests::handoff::{Stage, Way, guid};
use tests::server::{OTHER_PASSWORD, OTHER_USER, PASSWORD, Server, USER};

const WAYS: [Way; 2] = [Way::Tcp, Way::Rdma];

/// Connections of each child, fewest first, once these are all.
fn wait_for_children(stage: &Stage, expected: &[usize]) {
    stage.wait_for(
        &format!("children have {expected:?} connections"),
        |report| (channels(report)? == expected).then_some(()),
    );
}

fn channels(report: &StatusReport) -> Option<Vec<usize>> {
    let children = report.children.iter();
    let channels = children.map(|child| Some(child.status.as_ref()?.channels.len()));
    let mut channels = channels.collect::<Option<Vec<usize>>>()?;
    channels.sort_unstable();
    Some(channels)
}

fn clients_of_broker(stage: &Stage) -> u64 {
    stage.wait_for("the broker answers", |report| {
        Some(report.brokered?.clients)
    })
}

fn of_dialect(stage: &Stage, way: Way, client_guid: Guid, dialect: Dialect) -> Connection {
    let mut connection = stage.open(way).unwrap();
    let offer = Offer {
        client_guid,
        ..Offer::only(dialect)
    };
    connection.exchange_negotiate(offer).unwrap();
    connection
}

fn status<T>(outcome: Result<T, ClientError>) -> Option<NtStatus> {
    outcome.err().and_then(|error| error.status())
}

#[test]
fn guids_that_begin_with_zero_bytes_are_told_apart() {
    let Some(stage) = Stage::start() else {
        return;
    };
    for way in WAYS {
        let mut connections: Vec<Connection> = [1, 2, 1, 2, 1]
            .map(|last| stage.connect(way, guid(last)).unwrap())
            .into();
        wait_for_children(&stage, &[2, 3]);
        assert_eq!(clients_of_broker(&stage), 2);
        for connection in &mut connections {
            connection.log_on(USER, PASSWORD).unwrap();
        }
        drop(connections);
        wait_for_children(&stage, &[]);
    }
}

#[test]
fn a_client_without_a_guid_is_never_handed_over() {
    let Some(stage) = Stage::start() else {
        return;
    };
    assert_nobody_is_handed_over(&stage, Guid::ZERO);
}

#[test]
fn a_client_of_the_first_dialect_is_never_handed_over() {
    let old = Server::builder().global("server min protocol = SMB2_02");
    let Some(stage) = Stage::start_as(old) else {
        return;
    };
    // SMB Direct begins with 3.0.
    for way in WAYS {
        let mut new = stage.connect(way, guid(1)).unwrap();
        let mut old = of_dialect(&stage, Way::Tcp, guid(1), Dialect::Smb202);
        wait_for_children(&stage, &[1, 1]);
        assert_eq!(clients_of_broker(&stage), 1);
        new.log_on(USER, PASSWORD).unwrap();
        old.log_on(USER, PASSWORD).unwrap();
        drop((new, old));
        wait_for_children(&stage, &[]);
    }
}

#[test]
fn with_multichannel_off_nobody_is_handed_over() {
    let without = Server::builder().global("server multi channel support = no");
    let Some(stage) = Stage::start_as(without) else {
        return;
    };
    assert_nobody_is_handed_over(&stage, guid(1));
}

fn assert_nobody_is_handed_over(stage: &Stage, guid: Guid) {
    for way in WAYS {
        let mut both = [(); 2].map(|()| stage.connect(way, guid).unwrap());
        wait_for_children(stage, &[1, 1]);
        assert_eq!(clients_of_broker(stage), 0);
        for connection in &mut both {
            connection.log_on(USER, PASSWORD).unwrap();
        }
        drop(both);
        wait_for_children(stage, &[]);
    }
}

#[test]
fn another_dialect_reaches_the_owner_and_gets_no_session_beside_the_first() {
    let Some(stage) = Stage::start() else {
        return;
    };
    for way in WAYS {
        let mut first = stage.connect(way, guid(1)).unwrap();
        let session = first.log_on(USER, PASSWORD).unwrap();
        // SMB Direct begins with 3.0.
        let others = match way {
            Way::Tcp => [Dialect::Smb302, Dialect::Smb210],
            Way::Rdma => [Dialect::Smb302, Dialect::Smb300],
        };
        for dialect in others {
            let mut second = of_dialect(&stage, way, guid(1), dialect);
            wait_for_children(&stage, &[2]);
            if dialect.is_smb3() {
                // MS-SMB2 3.3.5.5, step 4.
                let bound = second.bind(session, &first, USER, PASSWORD);
                assert_eq!(status(bound), Some(NtStatus::INVALID_PARAMETER));
            }
            // MS-SMB2 3.3.5.5.3.
            let refused = second.log_on(USER, PASSWORD);
            assert_eq!(status(refused), Some(NtStatus::USER_SESSION_DELETED));
            // Who only says the same ClientGuid is kept out by nobody, and keeps nobody out.
            second.log_on(OTHER_USER, OTHER_PASSWORD).unwrap();
            first.echo().unwrap();
            drop(second);
            wait_for_children(&stage, &[1]);
        }
        first.log_off(session).unwrap();
        drop(first);
        wait_for_children(&stage, &[]);
    }
}

#[test]
fn hosts_and_users_with_one_guid_share_a_process_and_nothing_else() {
    let Some(stage) = Stage::start() else {
        return;
    };
    for way in WAYS {
        let mut one = stage.connect_from(way, 1, guid(1)).unwrap();
        let mut other = stage.connect_from(way, 2, guid(1)).unwrap();
        wait_for_children(&stage, &[2]);
        let session = one.log_on(USER, PASSWORD).unwrap();
        let others = other.log_on(OTHER_USER, OTHER_PASSWORD).unwrap();
        // A session is its user's, whoever has its key.
        let mut third = stage.connect_from(way, 2, guid(1)).unwrap();
        let bound = third.bind(session, &one, OTHER_USER, OTHER_PASSWORD);
        assert_eq!(status(bound), Some(NtStatus::ACCESS_DENIED));
        // And it is not the other connection's.
        let tree = other.tree_connect(session, "share");
        assert_eq!(status(tree), Some(NtStatus::USER_SESSION_DELETED));
        other.tree_connect(others, "share").unwrap();
        one.log_off(session).unwrap();
        other.echo().unwrap();
        other.tree_connect(others, "share").unwrap();
        drop((one, other, third));
        wait_for_children(&stage, &[]);
    }
}
