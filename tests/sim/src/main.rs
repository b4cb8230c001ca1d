//! `./x sim`: plays seeds of every scenario, or one seed with its trace.

use std::process::ExitCode;

use clap::Parser;
use sim::{SCENARIOS, Scenario, Tally};

/// Runs the real state machines under virtual time and chance.
#[derive(Debug, Parser)]
#[command(name = "./x sim")]
struct Arguments {
    /// How many seeds, from 0 on.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// Plays this seed alone and prints each step.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this scenario.
    #[arg(long)]
    scenario: Option<String>,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen: Vec<Scenario> = SCENARIOS
        .into_iter()
        .filter(|scenario| {
            let name = arguments.scenario.as_deref();
            name.is_none_or(|name| name == scenario.name)
        })
        .collect();
    if chosen.is_empty() {
        eprintln!("sim: no such scenario; './x sim --list' names them");
        return ExitCode::FAILURE;
    }
    let mut failed = false;
    for scenario in &chosen {
        failed |= match (arguments.list, arguments.seed) {
            (true, _) => {
                println!("{:<12}{}", scenario.name, scenario.what);
                false
            }
            (false, Some(seed)) => !show(scenario, seed),
            (false, None) => !play(scenario, arguments.seeds),
        };
    }
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// One seed, every step.
fn show(scenario: &Scenario, seed: u64) -> bool {
    let (outcome, steps) = sim::replay(scenario, seed, None);
    for step in steps {
        println!("{step}");
    }
    match &outcome {
        Ok(tally) => println!("{}, seed {seed}: passed ({tally})", scenario.name),
        Err(message) => println!("{}, seed {seed}: {message}", scenario.name),
    }
    outcome.is_ok()
}

fn play(scenario: &Scenario, seeds: u64) -> bool {
    let mut tally = Tally::default();
    for seed in 0..seeds {
        match sim::run(scenario, seed, None) {
            Ok(of_seed) => tally.merge(&of_seed),
            Err(failure) => {
                println!("{failure}");
                return false;
            }
        }
    }
    println!("{}: {seeds} seeds passed ({tally})", scenario.name);
    true
}
