//! What must hold however often it is tried: `resilience_soak PLAY COUNT`. `tests/soak` has the scripts
//! that `./x soak` runs; `tests/tests` plays the same with small numbers.

use std::process::ExitCode;

use tests::handoff::gateway_deaths;
use tests::hazards::{self, Ground};
use tests::hostile_child;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let played = match words[..] {
        ["hostile-child", records] => records.parse().ok().map(records_of_a_hostile_child),
        ["abandoned"] => Some(connections_left_at_any_step()),
        ["gateway-deaths", times] => times.parse().ok().map(deaths_of_the_gateway),
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
            eprintln!(
                "resilience_soak: usage: resilience_soak hostile-child RECORDS | gateway-deaths TIMES | abandoned"
            );
            ExitCode::from(2)
        }
    }
}

fn records_of_a_hostile_child(records: u64) -> Result<String, String> {
    let seed = std::env::var("SOAK_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let report = hostile_child::play(records, seed).map_err(|error| error.to_string())?;
    Ok(format!("hostile-child: ok seed={seed} {report}"))
}

fn deaths_of_the_gateway(times: u32) -> Result<String, String> {
    let stage = gateway_deaths::stage().ok_or("skipped")?;
    let rounds = gateway_deaths::play(&stage, times);
    stage.stop();
    match rounds.back < gateway_deaths::BACK {
        true => Ok(format!("gateway-deaths: ok points=12 {rounds}")),
        false => Err(format!("gateway-deaths: back too late: {rounds}")),
    }
}

/// As often as `SOAK_TIMES` says, on the fabric.
fn connections_left_at_any_step() -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let ground = Ground::Fabric(folder.path().to_owned());
    let scenario = hazards::scenario("abandoned").ok_or("no such scenario")?;
    match hazards::play(ground, "abandoned", scenario) {
        true => Ok("abandoned: ok on the fabric".into()),
        false => Err("skipped".into()),
    }
}
