//! What must hold however often it is tried: `resilience_soak PLAY COUNT`. `tests/soak` has the scripts
//! that `./x soak` runs; `tests/tests` plays the same with small numbers.

use std::process::ExitCode;

use tests::hostile_child;
use tests::lab::LabError;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let played = match words[..] {
        ["hostile-child", records] => records.parse().ok().map(hostile_child_of),
        _ => None,
    };
    match played {
        Some(Ok(said)) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("resilience_soak: usage: resilience_soak hostile-child RECORDS");
            ExitCode::from(2)
        }
    }
}

fn hostile_child_of(records: u64) -> Result<String, LabError> {
    let seed = std::env::var("SOAK_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let report = hostile_child::play(records, seed)?;
    Ok(format!("hostile-child: ok seed={seed} {report}"))
}
