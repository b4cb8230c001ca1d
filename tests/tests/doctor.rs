//! `smbdirectd doctor` and `smbdirectd status` of a real server, in the lab's guest: tests/lab/doctor.sh says what
//! is taken from it. What each reason follows from is tested without a device in `smbdirectd/src/doctor/tests.rs`.

use std::time::Duration;

use tests::lab::{Guest, RdmaKind};

#[track_caller]
fn play(script: &str, devices: RdmaKind, expected: &str) {
    let Some(guest) = Guest::of_our_server(script) else {
        return;
    };
    let guest = guest.rdma(devices).time_limit(Duration::from_secs(150));
    if let Some(outcome) = guest.run_or_skip() {
        outcome.assert_succeeded();
        println!("{}", outcome.output);
        let last = outcome.output.lines().last().unwrap_or_default();
        assert_eq!(last, expected);
    }
}

#[test]
fn the_doctor_names_what_is_wrong_and_is_content_once_it_is_put_right() {
    play("doctor.sh", RdmaKind::Rxe, "doctor: ok reasons=12");
}

#[test]
fn the_doctor_knows_iwarp() {
    play("doctor.sh", RdmaKind::Siw, "doctor: ok reasons=11");
}
