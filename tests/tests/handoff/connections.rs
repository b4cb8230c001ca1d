//! Many connections at once. `./x soak connections` makes ten thousand.

use std::sync::Barrier;

use tests::handoff::{Stage, Way, connections, guid};
use tests::server::{PASSWORD, USER};

#[test]
fn each_of_many_connections_is_answered_once_by_its_clients_process_and_nothing_is_left() {
    let Some(stage) = Stage::start() else {
        return;
    };
    let report = connections::play(&stage, 400, 20, 16);
    println!("{report:?}");
    stage.stop();
}

/// As many as may wait for a logon in one process.
const AT_ONCE: u8 = 16;

#[test]
fn connections_of_a_new_client_that_come_at_once_end_in_one_process() {
    let Some(stage) = Stage::start() else {
        return;
    };
    stage.warm_up();
    let before = stage.held();
    for round in 0..12 {
        let client_guid = guid(round + 1);
        let all_connected = Barrier::new(AT_ONCE.into());
        let seen = Barrier::new(usize::from(AT_ONCE) + 1);
        std::thread::scope(|scope| {
            for host in 1..=AT_ONCE {
                let (stage, all_connected, seen) = (&stage, &all_connected, &seen);
                scope.spawn(move || {
                    let way = [Way::Tcp, Way::Rdma][usize::from(host % 2)];
                    all_connected.wait();
                    let connected = stage.connect_from(way, host, client_guid);
                    seen.wait();
                    // Until it was counted.
                    seen.wait();
                    let mut connection = connected.unwrap();
                    connection.log_on(USER, PASSWORD).unwrap();
                    assert_eq!(connection.strays(), 0, "answered twice");
                });
            }
            seen.wait();
            stage.wait_for("one process has all of them", |report| {
                let [child] = &report.children[..] else {
                    return None;
                };
                let channels = child.status.as_ref()?.channels.len();
                (channels == usize::from(AT_ONCE) && report.brokered?.clients == 1).then_some(())
            });
            seen.wait();
        });
    }
    stage.wait_until_held(&before);
    stage.stop();
}
