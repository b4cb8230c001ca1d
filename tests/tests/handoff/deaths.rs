//! Everybody dies at every step, once. `./x soak handoff` does it fifty times.

use tests::handoff::{Stage, Way, deaths};

fn once(way: Way) {
    if let Some(stage) = Stage::start() {
        deaths::play(&stage, way, 1);
        stage.stop();
    }
}

#[test]
fn whoever_dies_during_a_handoff_over_tcp_the_client_is_served_or_may_come_again() {
    once(Way::Tcp);
}

#[test]
fn whoever_dies_during_a_handoff_over_rdma_the_client_is_served_or_may_come_again() {
    once(Way::Rdma);
}
