//! Boots a guest for one scenario of `server_scenario`.

#![allow(dead_code, reason = "each test uses its part")]

mod meaning;

use std::time::Duration;

use tests::lab::{Guest, GuestBuilder, LabError, Outcome, binary, lab_folder, skip};
use tests::wire::Comparison;

/// Plays it between two hosts with one link, or reports the test as skipped.
#[track_caller]
pub fn play(scenario: &str) {
    play_on_links(1, scenario);
}

/// As [`play`], with more links.
#[track_caller]
pub fn play_on_links(links: u8, scenario: &str) {
    if let Some(guest) = guest(scenario)
        && let Some(outcome) = guest.links(links).run_or_skip()
    {
        check(scenario, &outcome);
    }
}

/// As [`play`], with a recording of the wire, in which nothing may be malformed.
#[track_caller]
pub fn play_recorded(scenario: &str) {
    if let Some(outcome) = record(scenario) {
        meaning::check(&outcome);
    }
}

/// The same, for who looks at the recording. `None` after the test was reported as skipped.
#[track_caller]
pub fn record(scenario: &str) -> Option<Outcome> {
    let outcome = guest(scenario)?.capture(true).run_or_skip()?;
    check(scenario, &outcome);
    let wire = or_skip(outcome.wire(1))?;
    println!("{wire:?}");
    assert_eq!(wire.malformed, 0, "{wire:?}");
    assert!(
        wire.smb_direct > 0 && wire.smb2 > wire.smb_direct / 10,
        "{wire:?}"
    );
    Some(outcome)
}

/// What tshark shows of the first link, beside our own decoders.
#[track_caller]
pub fn compare(outcome: &Outcome) -> Option<Comparison> {
    or_skip(tests::wire::compare(&outcome.file("wire-1.pcap")))
}

#[track_caller]
fn or_skip<T>(result: Result<T, LabError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(LabError::Skip(reason)) => {
            skip::report(&reason);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn guest(scenario: &str) -> Option<GuestBuilder> {
    let needed = ["server_scenario", "smbd", "smbdirectd"].map(binary);
    for program in &needed {
        if let Err(error) = program {
            skip::report(&error.to_string());
            return None;
        }
    }
    let player = needed[0].as_ref().expect("just looked at");
    let folder = player.parent().expect("a folder").display().to_string();
    let guest = Guest::builder()
        .script_file(lab_folder().join("play.sh"))
        .argument(scenario)
        .environment("SMBDIRECT_BIN_DIR", folder)
        .time_limit(Duration::from_secs(100));
    Some(guest)
}

#[track_caller]
fn check(scenario: &str, outcome: &Outcome) {
    outcome.assert_succeeded();
    println!("{}", outcome.output);
    assert!(outcome.output.contains(&format!("{scenario}: ok")));
}
