//! Unauthenticated connections held beside a client at work, in the lab: `tests/lab/flood.sh` says what
//! is claimed. `./x soak flood` holds a thousand, and measures ksmbd under the same load.

use std::time::Duration;

use tests::lab::Guest;

#[test]
fn a_flood_of_connections_without_a_user_costs_a_client_at_work_no_error_and_little_memory() {
    let Some(guest) = Guest::of_our_server("flood.sh") else {
        return;
    };
    let guest = guest
        .environment("FLOOD_HELD", "60")
        .environment("FLOOD_SECONDS", "1")
        .time_limit(Duration::from_secs(120));
    let Some(outcome) = guest.run_or_skip() else {
        return;
    };
    outcome.assert_succeeded();
    println!("{}", outcome.output);
    let last = outcome.output.lines().last();
    assert_eq!(last, Some("flood: ok held=60"), "{}", outcome.output);
}
