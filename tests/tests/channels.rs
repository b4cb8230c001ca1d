//! The kernel client with two channels over two RDMA links, and one of them lost under load, in the
//! lab: `tests/lab/channels.sh` says what is pulled and what is claimed. `./x soak channels` does it
//! again and again, with the session's own connection too.

use std::time::Duration;

use tests::lab::Guest;

/// Plays these ways of losing a channel; the script's last line, or `None` where it can't run.
fn pulled(ways: &[&str]) -> Option<String> {
    let mut guest = Guest::of_our_server("channels.sh")?
        .links(2)
        .time_limit(Duration::from_secs(240));
    for way in ways {
        guest = guest.argument(*way);
    }
    let outcome = guest.run_or_skip()?;
    outcome.assert_succeeded();
    let last = outcome.output.lines().last().unwrap_or_default();
    Some(last.to_owned())
}

#[test]
fn a_channel_lost_under_load_costs_no_error_and_comes_back() {
    if let Some(last) = pulled(&["device", "drop"]) {
        assert!(last.starts_with("channels: ok ways=2 "), "{last}");
    }
}
