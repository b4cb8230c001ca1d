//! 2,000 seeds of each scenario, and for each thing that its world can do wrong the proof that an oracle
//! sees it. `./x sim` plays more.

use sim::{SCENARIOS, Scenario, Tally};

const SEEDS: u64 = 2000;
/// Seeds in which a sabotage must be noticed.
const SEEDS_TO_NOTICE: u64 = 500;

fn scenario(name: &str) -> Scenario {
    let found = SCENARIOS.into_iter().find(|scenario| scenario.name == name);
    found.expect("a scenario of that name")
}

fn play(name: &str) -> Tally {
    let scenario = scenario(name);
    let mut tally = Tally::default();
    for seed in 0..SEEDS {
        match sim::run(&scenario, seed, None) {
            Ok(of_seed) => tally.merge(&of_seed),
            Err(failure) => panic!("{failure}"),
        }
    }
    tally
}

/// Every run above reaches what it is for.
fn assert_reached(tally: &Tally, what: &[&str]) {
    for what in what {
        assert!(tally.of(what) > SEEDS / 50, "{what}: {}", tally.of(what));
    }
}

#[test]
fn two_smb_direct_machines_keep_the_rules_on_any_schedule() {
    let tally = play("smbdirect");
    assert_reached(
        &tally,
        &[
            "whole messages",
            "late drivers",
            "vanished peers",
            "hanging peers",
            "keepalives",
        ],
    );
}

#[test]
fn a_connection_has_one_process_whoever_dies() {
    let tally = play("handoff");
    let deaths = [
        "dead brokers",
        "dead children",
        "hanging children",
        "brokers dead with who spoke",
    ];
    assert_reached(&tally, &deaths);
    assert_reached(&tally, &["answered", "passes", "handed over"]);
}

#[test]
fn requests_are_answered_with_their_own_bytes_and_connections_end_whole() {
    let tally = play("connections");
    let endings = ["vanished clients", "dead children", "removed devices"];
    assert_reached(&tally, &endings);
    let deaths = [
        "dead smbdirectds",
        "requests that outlive smbdirectd",
        "lost connections",
        "children that hang up",
        "children that die among others",
        "READs that end behind the end",
        "clients that connect again",
        "writes read back",
        "relays handed over",
    ];
    assert_reached(&tally, &deaths);
    let moved = [
        "answered requests",
        "reads",
        "writes",
        "completions seen twice",
        "payloads there with their requests",
        "invalidated tokens",
        "full rings",
        "children with as many messages as may wait",
    ];
    assert_reached(&tally, &moved);
}

#[test]
fn each_sabotage_is_noticed() {
    let mut unnoticed = Vec::new();
    for scenario in SCENARIOS {
        for sabotage in scenario.sabotages {
            let noticed = (0..SEEDS_TO_NOTICE).find_map(|seed| {
                let failure = sim::run(&scenario, seed, Some(*sabotage)).err()?;
                Some((seed, failure.message))
            });
            match noticed {
                Some((seed, message)) => {
                    println!(
                        "{} {sabotage:?}: noticed by seed {seed}: {message}",
                        scenario.name
                    );
                }
                None => unnoticed.push(format!("{} {sabotage:?}", scenario.name)),
            }
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for scenario in SCENARIOS {
        for seed in 0..50 {
            let (first, steps) = sim::replay(&scenario, seed, None);
            let (second, again) = sim::replay(&scenario, seed, None);
            assert!(!steps.is_empty());
            assert_eq!((first, steps), (second, again), "{} {seed}", scenario.name);
        }
    }
}
