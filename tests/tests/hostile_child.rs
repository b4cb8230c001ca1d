//! smbdirectd against a child that was taken over, with some thousands of records. `./x soak
//! hostile-child` sends a million.

use tests::hostile_child::play;
use tests::lab::{LabError, skip};

#[test]
fn a_hostile_child_harms_nobody_but_its_own_connection() {
    match play(26_000, 1) {
        Ok(report) => {
            println!("{report}");
            assert!(report.crafted > 20_000 && report.breaches > 200, "{report}");
            assert!(report.refused > 0 && report.alive > 0, "{report}");
        }
        Err(LabError::Skip(reason)) => skip::report(&reason),
        Err(error) => panic!("{error}"),
    }
}
