//! Unauthenticated connections held beside a client at work, in the lab: `tests/lab/flood.sh` says what
//! is claimed. `./x soak flood` holds a thousand, and measures ksmbd under the same load.

use std::time::Duration;

use tests::lab::Guest;

#[track_caller]
fn flood(over: &str) {
    let Some(guest) = Guest::of_our_server("flood.sh") else {
        return;
    };
    let guest = guest
        .environment("FLOOD_OVER", over)
        .environment("FLOOD_HELD", "40")
        .environment("FLOOD_SECONDS", "1")
        .time_limit(Duration::from_secs(120));
    let Some(outcome) = guest.run_or_skip() else {
        return;
    };
    outcome.assert_succeeded();
    println!("{}", outcome.output);
    let last = outcome.output.lines().last();
    let expected = format!("flood: ok over={over} held=40");
    assert_eq!(last, Some(expected.as_str()), "{}", outcome.output);
}

#[test]
fn a_flood_of_connections_without_a_user_costs_a_client_at_work_no_error_and_little_memory() {
    flood("tcp");
}

#[test]
fn a_flood_of_rdma_connections_without_a_user_costs_a_client_at_work_no_error_and_stays_in_the_budget()
 {
    flood("rdma");
}
