//! The main job, small: the kernel client mounts a share of our two daemons over SMB Direct in the lab and moves a file
//! and a source tree both ways. The same script as `./x demo`, with a recording of the wire that must decode.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use tests::lab::{Ending, Guest, LabError, binary, lab_folder, skip};

const MIB: u64 = 1 << 20;
const FILE_MIB: u64 = 32;

#[test]
fn files_move_both_ways_by_rdma_and_the_wire_decodes() {
    let Some(guest) = Guest::of_our_server("demo.sh") else {
        return;
    };
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let Some(outcome) = guest
        .environment("DEMO_TREE", tree.display().to_string())
        .environment("DEMO_MIB", FILE_MIB.to_string())
        .capture(true)
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
    let figures = demo_line(&outcome.output);
    assert!(figures["rdma_read_bytes"] >= FILE_MIB * MIB, "{figures:?}");
    assert!(figures["rdma_write_bytes"] >= FILE_MIB * MIB, "{figures:?}");
    assert!(
        figures["channels"] >= 1 && figures["owner"] > 1,
        "{figures:?}"
    );
    match outcome.wire(1) {
        Ok(wire) => {
            assert_eq!(wire.malformed, 0, "{wire:?}");
            assert!(wire.smb_direct > 0 && wire.smb2 > 0, "{wire:?}");
        }
        Err(LabError::Skip(reason)) => skip::report(&reason),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_step_that_fails_is_named_with_where_its_logs_are() {
    let smbd = match binary("smbd") {
        Ok(smbd) => smbd,
        Err(LabError::Skip(reason)) => return skip::report(&reason),
        Err(error) => panic!("{error}"),
    };
    // A smbdirectd that ends at once.
    let binaries = tempfile::tempdir().expect("a folder");
    fs::copy(smbd, binaries.path().join("smbd")).expect("copy smbd");
    fs::copy("/bin/false", binaries.path().join("smbdirectd")).expect("copy false");
    let Some(outcome) = Guest::builder()
        .script_file(lab_folder().join("demo.sh"))
        .environment("SMBDIRECT_BIN_DIR", binaries.path().display().to_string())
        .environment("DEMO_TREE", lab_folder().display().to_string())
        .environment("DEMO_MIB", "1")
        .run_or_skip()
    else {
        return;
    };
    assert_eq!(outcome.ending, Ending::Status(1), "{}", outcome.output);
    let said = |words: &str| outcome.output.contains(words);
    assert!(said("demo: failed at: start smbd"), "{}", outcome.output);
    assert!(said("demo: logs are in "), "{}", outcome.output);
    assert!(!said("demo: ok"), "{}", outcome.output);
}

/// The numbers of the last line, `demo: ok key=value …`.
fn demo_line(output: &str) -> HashMap<&str, u64> {
    let last = output
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("demo: ok "));
    let last = last.unwrap_or_else(|| panic!("no closing line in\n{output}"));
    let pairs = last
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
        .collect()
}
