//! Boots a guest for one scenario of `server_scenario`.

use std::time::Duration;

use tests::lab::{Guest, binary, skip};

/// Plays it between two hosts with one link, or reports the test as skipped.
#[track_caller]
pub fn play(scenario: &str) {
    play_on_links(1, scenario);
}

/// As [`play`], with more links.
#[track_caller]
pub fn play_on_links(links: u8, scenario: &str) {
    let needed = ["server_scenario", "smbd", "smbdirectd"].map(binary);
    for program in &needed {
        if let Err(error) = program {
            return skip::report(&error.to_string());
        }
    }
    let player = needed[0].as_ref().expect("just looked at");
    let folder = player.parent().expect("a folder").display().to_string();
    let guest = Guest::builder()
        .links(links)
        .script(&format!("{} {scenario}", player.display()))
        .environment("SMBDIRECT_BIN_DIR", folder)
        .time_limit(Duration::from_secs(100));
    if let Some(outcome) = guest.run_or_skip() {
        outcome.assert_succeeded();
        assert!(outcome.output.contains(&format!("{scenario}: ok")));
    }
}
