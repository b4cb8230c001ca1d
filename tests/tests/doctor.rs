//! `smbdirectd doctor` and `smbdirectd status` of a real server, in the lab's guest: tests/lab/doctor.sh says what
//! is taken from it. What each reason follows from is tested without a device in `smbdirectd/src/doctor/tests.rs`.

use std::path::PathBuf;
use std::time::Duration;

use tests::lab::{Guest, RdmaKind, binary, lab_folder, skip};

#[track_caller]
fn play(script: &str, devices: RdmaKind, expected: &str) {
    let folder: PathBuf = match (binary("smbd"), binary("smbdirectd")) {
        (Ok(smbd), Ok(_)) => smbd.parent().expect("a folder").to_owned(),
        (Err(error), _) | (_, Err(error)) => {
            skip::report(&error.to_string());
            return;
        }
    };
    let guest = Guest::builder()
        .script_file(lab_folder().join(script))
        .rdma(devices)
        .environment("SMBDIRECT_BIN_DIR", folder.display().to_string())
        .time_limit(Duration::from_secs(150));
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
