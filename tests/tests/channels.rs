//! The kernel client with two channels over two RDMA links, and one of them lost under load, in the
//! lab: `tests/lab/channels.sh` says what is pulled and what is claimed. `./x soak channels` does it
//! again and again, with the session's own connection too.

use std::time::Duration;

use tests::lab::{Guest, LabError, binary, lab_folder, skip};

/// Plays these ways of losing a channel; the script's last line, or `None` where it can't run.
fn pulled(ways: &[&str]) -> Option<String> {
    let daemons = binary("smbdirectd").and_then(|_| binary("smbd"));
    let smbd = match daemons {
        Ok(smbd) => smbd,
        Err(LabError::Skip(reason)) => {
            skip::report(&reason);
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let folder = smbd.parent().expect("a file is in a folder");
    let mut guest = Guest::builder()
        .script_file(lab_folder().join("channels.sh"))
        .environment("SMBDIRECT_BIN_DIR", folder.display().to_string())
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
