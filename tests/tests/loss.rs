//! The kernel client over SMB Direct while the network loses and reorders packets, and over siw, in
//! the lab: `tests/lab/loss.sh` says what is claimed. `./x soak loss` has partitions and more loss.

use std::time::Duration;

use tests::lab::{Guest, RdmaKind};

/// Plays these cases; the script's last line, or `None` where it can't run.
fn played(kind: RdmaKind, cases: &[&str]) -> Option<String> {
    let mut guest = Guest::of_our_server("loss.sh")?
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
    if let Some(last) = played(RdmaKind::Rxe, &["4:altered", "4:reorder", "6:1"]) {
        assert_eq!(last, "loss: ok cases=3");
    }
}

#[test]
fn the_kernel_client_reads_and_writes_over_iwarp_at_both_kinds_of_address() {
    if let Some(last) = played(RdmaKind::Siw, &["4:0", "6:0"]) {
        assert_eq!(last, "loss: ok cases=2");
    }
}
