//! The conformance table (`tests/conformance`), as `./x conformance` plays it: on the simulated fabric, and over
//! soft-RoCE and soft iWARP in the lab's guest. A case that fails is printed with what it saw.

use std::process::Command;
use std::time::Duration;

use tests::lab::{Guest, RdmaKind, binary, lab_folder, skip};

fn on_devices(devices: RdmaKind) {
    let driver = match binary("conformance") {
        Ok(driver) => driver,
        Err(error) => return skip::report(&error.to_string()),
    };
    let folder = driver.parent().expect("a file is in a folder");
    let guest = Guest::builder()
        .script_file(lab_folder().with_file_name("conformance").join("guest.sh"))
        .links(2)
        .rdma(devices)
        .environment("SMBDIRECT_BIN_DIR", folder.display().to_string())
        .time_limit(Duration::from_secs(200));
    if let Some(outcome) = guest.run_or_skip() {
        assert!(outcome.succeeded(), "{}", not_passed(&outcome.output));
        judge(&outcome.output);
    }
}

/// The last line counts, and counts no failure.
#[track_caller]
fn judge(table: &str) {
    let last = table.lines().last().unwrap_or_default();
    assert!(
        last.contains(" passed, 0 failed, ") && !last.starts_with("0 passed"),
        "{}",
        not_passed(table)
    );
}

fn not_passed(table: &str) -> String {
    let lines = table.lines().filter(|line| !line.contains(" passed  "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_table_passes_on_the_simulated_fabric() {
    let driver = match binary("conformance") {
        Ok(driver) => driver,
        Err(error) => return skip::report(&error.to_string()),
    };
    if !rustix::process::getuid().is_root() {
        return skip::report("a server that acts as its users must be started by root");
    }
    let output = Command::new(driver)
        .args(["smbdirect", "--sim"])
        .output()
        .expect("start the driver");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(
        output.status.success(),
        "{}\n{}",
        not_passed(&said[0]),
        said[1]
    );
    judge(&said[0]);
}

#[test]
fn the_table_passes_over_soft_roce() {
    on_devices(RdmaKind::Rxe);
}

#[test]
fn the_table_passes_over_soft_iwarp() {
    on_devices(RdmaKind::Siw);
}
