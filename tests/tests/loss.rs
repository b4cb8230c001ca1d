//! The kernel client over SMB Direct while the network loses and reorders packets, and over siw, in
//! the lab: `tests/lab/loss.sh` says what is claimed. `./x soak loss` has partitions and more loss.

use std::time::Duration;

use tests::lab::{Guest, LabError, RdmaKind, binary, lab_folder, skip};

/// Plays these cases; the script's last line, or `None` where it can't run.
fn played(kind: RdmaKind, cases: &[&str]) -> Option<String> {
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
        .script_file(lab_folder().join("loss.sh"))
        .environment("SMBDIRECT_BIN_DIR", folder.display().to_string())
        .environment("LOSS_SECONDS", "2")
        .rdma(kind)
        .time_limit(Duration::from_secs(200));
    for case in cases {
        guest = guest.argument(*case);
    }
    let outcome = guest.run_or_skip()?;
    outcome.assert_succeeded();
    println!("{}", outcome.output);
    let last = outcome.output.lines().last().unwrap_or_default();
    Some(last.to_owned())
}

#[test]
fn packets_lost_and_reordered_cost_the_kernel_client_no_error_and_no_byte() {
    if let Some(last) = played(RdmaKind::Rxe, &["4:reorder", "6:1"]) {
        assert_eq!(last, "loss: ok cases=2");
    }
}

#[test]
fn the_kernel_client_reads_and_writes_over_iwarp_at_both_kinds_of_address() {
    if let Some(last) = played(RdmaKind::Siw, &["4:0", "6:0"]) {
        assert_eq!(last, "loss: ok cases=2");
    }
}
