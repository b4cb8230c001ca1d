//! Handoffs again and again: `handoff_soak deaths TIMES`, `handoff_soak connections COUNT`. `tests/soak` has the scripts that
//! `./x soak` runs; `tests/tests/handoff.rs` plays the same with small numbers.

use std::process::ExitCode;

use tests::handoff::{Stage, Way, connections, deaths};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let played = match words[..] {
        ["deaths", times] => times.parse().ok().map(every_death),
        ["connections", count] => count.parse().ok().map(many_connections),
        _ => None,
    };
    match played {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("handoff_soak: usage: handoff_soak deaths TIMES | connections COUNT");
            ExitCode::from(2)
        }
    }
}

fn every_death(times: u32) -> bool {
    let mut rounds = deaths::Rounds::default();
    let mut kinds = 0;
    for way in [Way::Tcp, Way::Rdma] {
        let Some(stage) = Stage::start() else {
            return false;
        };
        for (_, found) in deaths::play(&stage, way, times) {
            rounds.served += found.served;
            rounds.closed += found.closed;
            rounds.longest = rounds.longest.max(found.longest);
            kinds += 1;
        }
        stage.stop();
    }
    println!("handoff: ok kinds={kinds} times={times} {rounds}");
    true
}

fn many_connections(count: u32) -> bool {
    let (clients, at_once) = (100, 50);
    let Some(stage) = Stage::start() else {
        return false;
    };
    let report = connections::play(&stage, count, clients, at_once);
    stage.stop();
    for (name, (before, after)) in &report.resident {
        println!("{name}: {before} KiB before, {after} KiB after");
    }
    println!(
        "connections: ok connections={count} clients={clients} at_once={at_once} seconds={:.0} \
         per_s={:.0} longest_ms={}",
        report.seconds,
        f64::from(count) / report.seconds,
        report.longest.as_millis()
    );
    true
}
