//! Plays cases and prints the table. What panics has failed; the rest goes on.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;
use crate::scene::{Enter, Scene};
use crate::table::{Case, Devices, Settings};

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Passed(Duration),
    Failed(String),
    Skipped(String),
}

thread_local! {
    /// What the last panic of this thread said, and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

/// Plays them, a server for each kind of settings, and prints a line for each as it ends.
pub fn run<E: Endpoint>(
    cases: &[Case<E>],
    devices: Devices,
    enter: &Enter,
    begin: impl Fn(&Settings) -> Result<Scene<E>, String>,
) -> Counts {
    std::panic::set_hook(Box::new(|panic| {
        PANIC.with_borrow_mut(|said| *said = panic.to_string().replace('\n', " "));
    }));
    let mut verdicts: Vec<Option<Verdict>> = cases
        .iter()
        .map(|case| case.skipped_on(devices))
        .map(|reason| reason.map(|reason| Verdict::Skipped(reason.into())))
        .collect();
    enter(0);
    while let Some(next) = verdicts.iter().position(Option::is_none) {
        let settings = cases[next].settings;
        let open: Vec<usize> = (0..cases.len())
            .filter(|index| verdicts[*index].is_none() && cases[*index].settings == settings)
            .collect();
        let scene = catch_unwind(AssertUnwindSafe(|| begin(settings)));
        let ended = match scene {
            Ok(Ok(scene)) => play(&open, cases, &scene, enter),
            Ok(Err(reason)) => open
                .into_iter()
                .map(|index| (index, Verdict::Skipped(reason.clone())))
                .collect(),
            Err(_) => {
                let said = PANIC.take();
                open.into_iter()
                    .map(|index| (index, Verdict::Failed(format!("no server: {said}"))))
                    .collect()
            }
        };
        for (index, verdict) in ended {
            verdicts[index] = Some(verdict);
        }
    }
    print(cases, &verdicts)
}

/// Those that wait in threads of their own, the others one after the other beside them.
fn play<E: Endpoint>(
    open: &[usize],
    cases: &[Case<E>],
    scene: &Scene<E>,
    enter: &Enter,
) -> Vec<(usize, Verdict)> {
    std::thread::scope(|scope| {
        let waiting: Vec<_> = open
            .iter()
            .filter(|index| cases[**index].waits)
            .zip(1..)
            .map(|(index, host)| {
                let thread = scope.spawn(move || {
                    enter(host);
                    play_one(&cases[*index], scene)
                });
                (*index, thread)
            })
            .collect();
        let mut ended: Vec<(usize, Verdict)> = open
            .iter()
            .filter(|index| !cases[**index].waits && !cases[**index].is_last)
            .map(|index| (*index, play_one(&cases[*index], scene)))
            .collect();
        for (index, thread) in waiting {
            let verdict = thread.join();
            let verdict = verdict.unwrap_or_else(|_| Verdict::Failed("its thread died".into()));
            ended.push((index, verdict));
        }
        let last = open.iter().filter(|index| cases[**index].is_last);
        ended.extend(last.map(|index| (*index, play_one(&cases[*index], scene))));
        ended
    })
}

fn play_one<E: Endpoint>(case: &Case<E>, scene: &Scene<E>) -> Verdict {
    let started = Instant::now();
    let log = scene.server.log().len();
    let played = catch_unwind(AssertUnwindSafe(|| {
        (case.play)(scene);
        // Whatever was done to it, it serves the next one.
        scene.is_alive().expect("the server takes no connection");
    }));
    match played {
        Ok(()) => Verdict::Passed(started.elapsed()),
        Err(_) => {
            let said = PANIC.take();
            let logged = scene.server.log().split_off(log);
            eprintln!(
                "{}: {said}\nthe server logged meanwhile:\n{logged}",
                case.name
            );
            Verdict::Failed(said)
        }
    }
}

fn print<E: Endpoint>(cases: &[Case<E>], verdicts: &[Option<Verdict>]) -> Counts {
    let mut counts = Counts::default();
    print_header();
    for (case, verdict) in cases.iter().zip(verdicts) {
        let result = match verdict {
            Some(Verdict::Passed(took)) => {
                counts.passed += 1;
                format!("passed {:>6.2} s", took.as_secs_f64())
            }
            Some(Verdict::Failed(why)) => {
                counts.failed += 1;
                format!("FAILED: {why}")
            }
            Some(Verdict::Skipped(why)) => {
                counts.skipped += 1;
                format!("skipped: {why}")
            }
            None => unreachable!("each was played"),
        };
        print_line(case, &result);
    }
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    counts
}

/// What there is, without playing it.
pub fn list<E: Endpoint>(cases: &[Case<E>]) {
    print_header();
    cases.iter().for_each(|case| print_line(case, ""));
}

fn print_header() {
    println!("{:<66} {:<22} {:<76} RESULT", "RULE", "SECTION", "TEST");
}

fn print_line<E: Endpoint>(case: &Case<E>, result: &str) {
    let line = format!(
        "{:<66} {:<22} {:<76} {result}",
        case.rule, case.section, case.name
    );
    println!("{}", line.trim_end());
}
