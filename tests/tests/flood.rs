//! Unauthenticated connections held beside a client at work, in the lab: `tests/lab/flood.sh` says what
//! is claimed. `./x soak flood` holds a thousand, and measures ksmbd under the same load.

use std::time::Duration;

use tests::lab::{Guest, LabError, binary, lab_folder, skip};

#[test]
fn a_flood_of_connections_without_a_user_costs_a_client_at_work_no_error_and_little_memory() {
    let daemons = binary("smbdirectd").and_then(|_| binary("smbd"));
    let smbd = match daemons {
        Ok(smbd) => smbd,
        Err(LabError::Skip(reason)) => return skip::report(&reason),
        Err(error) => panic!("{error}"),
    };
    let folder = smbd.parent().expect("a file is in a folder");
    let guest = Guest::builder()
        .script_file(lab_folder().join("flood.sh"))
        .environment("SMBDIRECT_BIN_DIR", folder.display().to_string())
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
