//! Scenarios by name, a run of one by its seed, and what is said when a run fails.
//!
//! An oracle is an assertion: it panics, in the scenario or in a machine's own `debug_assert`, and the
//! panic is caught here. The failed seed is then run once more with the trace on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::chance::{Chance, Choices};
use crate::{connections, handoff, smbdirect, trace};

/// Steps of a failed run that are shown.
const STEPS_SHOWN: usize = 60;

/// Machines and the world around them.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// One line for the list.
    pub what: &'static str,
    pub play: fn(&mut Stage),
    /// What its world can do wrong, each to be noticed by an oracle.
    pub sabotages: &'static [Sabotage],
}

pub const SCENARIOS: [Scenario; 3] = [
    smbdirect::SCENARIO,
    handoff::SCENARIO,
    connections::SCENARIO,
];

/// What a scenario is given.
#[derive(Debug)]
pub struct Stage {
    pub chance: Chance,
    pub sabotage: Option<Sabotage>,
    pub tally: Tally,
}

/// A fault of the device, the peer or the sockets that they never have: the proof that an oracle sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The device forgets a posted receive.
    ForgottenReceive,
    /// A message grants one credit more than its sender meant to.
    OneCreditMore,
    /// The device delivers a message before the one sent earlier.
    Overtaking,
    /// The device reports a message sent and does not deliver it.
    LostMessage,
    /// The device reports a send twice, and its driver believes it.
    ReportedTwice,
    /// The device never reports a send.
    NeverReported,
    /// A bit of a message changes on its way.
    ChangedByte,
    /// A child speaks on a passed connection before the broker was told that it takes it.
    ServedUntold,
    /// A child keeps a connection that was handed over.
    KeptDescriptor,
    /// The supervisor does not end a child that hangs.
    SparedChild,
    /// The supervisor names no owner to a restarted broker.
    UnnamedChild,
    /// The device gives a send's memory back before it has read it.
    EarlyCompletion,
    /// The device puts the bytes of an RDMA READ or WRITE one byte off.
    StrayBytes,
    /// The device does not invalidate a token that a message names.
    KeptToken,
    /// No child takes anything while one does not.
    SharedStall,
    /// A child serves a relay that it handed over.
    ServedTwice,
    /// Nobody hears that smbdirectd died.
    UnheardDeath,
    /// A child answers a WRITE and does not keep its bytes.
    ForgottenWrite,
    /// A child does not tell that one of its connections ended.
    UncountedEnd,
}

/// How often what happened: shows that the runs reach what they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<&'static str, u64>);

/// A run that an oracle ended.
#[derive(Debug, Clone)]
pub struct Failure {
    pub scenario: &'static str,
    pub seed: u64,
    pub message: String,
    /// The last ones.
    pub steps: Vec<String>,
}

impl Stage {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Stage {
        Stage {
            chance: Chance::of_seed(seed),
            sabotage,
            tally: Tally::default(),
        }
    }

    /// True for a fault that this run has, once in `times`.
    pub fn goes_wrong(&mut self, sabotage: Sabotage, times: u64) -> bool {
        self.sabotage == Some(sabotage) && self.chance.once_in(times)
    }
}

impl Tally {
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    pub fn merge(&mut self, other: &Tally) {
        for (what, count) in &other.0 {
            self.add(what, *count);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (what, count)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(formatter, "{comma}{count} {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure {
            scenario,
            seed,
            message,
            steps,
        } = self;
        writeln!(formatter, "{scenario}, seed {seed}: {message}")?;
        let skipped = steps.len().saturating_sub(STEPS_SHOWN);
        if skipped > 0 {
            writeln!(formatter, "    ({skipped} steps before these)")?;
        }
        for step in &steps[skipped..] {
            writeln!(formatter, "    {step}")?;
        }
        write!(
            formatter,
            "replay: ./x sim --scenario {scenario} --seed {seed}"
        )
    }
}

/// Plays a seed.
pub fn run(
    scenario: &Scenario,
    seed: u64,
    sabotage: Option<Sabotage>,
) -> Result<Tally, Box<Failure>> {
    match play(scenario, seed, sabotage) {
        Ok(tally) => Ok(tally),
        Err(_) => Err(Box::new(match replay(scenario, seed, sabotage) {
            (Err(message), steps) => Failure {
                scenario: scenario.name,
                seed,
                message,
                steps,
            },
            (Ok(_), steps) => Failure {
                scenario: scenario.name,
                seed,
                message: "it failed, and not when it was run again: it is not deterministic".into(),
                steps,
            },
        })),
    }
}

/// Plays a seed, with every step.
pub fn replay(
    scenario: &Scenario,
    seed: u64,
    sabotage: Option<Sabotage>,
) -> (Result<Tally, String>, Vec<String>) {
    trace::begin();
    let outcome = play(scenario, seed, sabotage);
    (outcome, trace::end())
}

/// Plays a scenario on every path through its first `depth` choices; how many there were.
pub fn exhaust(play: fn(&mut Stage), depth: usize) -> Result<u64, String> {
    keep_panics_quiet();
    let mut paths = 0;
    let mut next = Some(Choices::first(depth));
    while let Some(choices) = next {
        let mut stage = Stage::new(0, None);
        stage.chance = Chance::of_choices(choices);
        PANIC.set(Some(String::new()));
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| play(&mut stage)));
        let said = PANIC.take().unwrap_or_default();
        let walked = stage.chance.into_choices();
        if outcome.is_err() {
            return Err(format!("path {paths}, {walked:?}: {said}"));
        }
        paths += 1;
        next = walked.and_then(Choices::next);
    }
    Ok(paths)
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn play(scenario: &Scenario, seed: u64, sabotage: Option<Sabotage>) -> Result<Tally, String> {
    keep_panics_quiet();
    let mut stage = Stage::new(seed, sabotage);
    PANIC.set(Some(String::new()));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (scenario.play)(&mut stage)));
    let said = PANIC.take().unwrap_or_default();
    match outcome {
        Ok(()) => Ok(stage.tally),
        Err(_) => Err(said),
    }
}

/// While a seed is played a panic is kept for the report; any other panic is printed as ever.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let printed = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let caught = PANIC.with_borrow_mut(|said| {
                said.as_mut().map(|said| *said = info.to_string()).is_some()
            });
            if !caught {
                printed(info);
            }
        }));
    });
}
