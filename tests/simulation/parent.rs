//! Runs seeds in processes of their own and judges what they came to.

use bramble_simulation::Planted;
use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds of `make test`.
const SEEDS: u64 = 200;
/// Seeds that are run twice, to see that a replay gives the same trace.
const REPLAYED: u64 = 6;
/// A planted bug must be caught within this many seeds.
const PLANTED_SEEDS_MAX: u64 = 60;

/// What to run.
pub struct Plan {
    /// 0: what `make test` runs.
    pub seeds: u64,
    pub from: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seeds: 0, from: 1 }
    }
}

fn child(seed: u64, planted: Option<Planted>) -> Output {
    let program = std::env::current_exe().expect("a program knows its own path");
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string()]);
    if let Some(planted) = planted {
        command.args(["--planted", planted.name()]);
    }
    command.output().expect("it can be started again")
}

/// The last line a child said.
fn verdict(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default().to_string();
    if output.status.success() || last.starts_with("FAILED") {
        return last;
    }
    let complained = String::from_utf8_lossy(&output.stderr);
    format!("FAILED {}: {}", output.status, complained.trim())
}

/// Run many seeds at once; gives what each came to.
fn many(seeds: std::ops::Range<u64>) -> BTreeMap<u64, String> {
    let next = AtomicU64::new(seeds.start);
    let verdicts = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let verdict = verdict(&child(seed, None));
                    verdicts.lock().expect("no thread panics").insert(seed, verdict);
                }
            });
        }
    });
    verdicts.into_inner().expect("no thread panics")
}

pub fn run(plan: &Plan) -> ExitCode {
    let began = Instant::now();
    let count = if plan.seeds == 0 { SEEDS } else { plan.seeds };
    let verdicts = many(plan.from..plan.from + count);
    let mut failures = 0;
    for (seed, verdict) in &verdicts {
        if verdict.starts_with("FAILED") {
            failures += 1;
            println!("seed {seed}: {verdict}\n  replay it with: make soak SEED={seed}");
        }
    }
    println!("{} of {count} seeds hold, in {:.1?}", count - failures, began.elapsed());
    if plan.seeds == 0 {
        failures += replays(&verdicts) + planted();
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Run some seeds again: they must come to the same, event by event.
fn replays(verdicts: &BTreeMap<u64, String>) -> u64 {
    let again = many(1..1 + REPLAYED);
    let mut failures = 0;
    for (seed, verdict) in &again {
        if verdicts.get(seed) != Some(verdict) {
            failures += 1;
            println!("seed {seed} came to two things:\n  {:?}\n  {verdict}", verdicts.get(seed));
        }
    }
    println!("{} of {REPLAYED} replays give the same trace", REPLAYED - failures);
    failures
}

/// Every planted bug must be caught.
fn planted() -> u64 {
    let mut failures = 0;
    for planted in Planted::ALL {
        let name = planted.name();
        let caught = (1..=PLANTED_SEEDS_MAX).find_map(|seed| {
            let verdict = verdict(&child(seed, Some(planted)));
            verdict.starts_with("FAILED").then_some((seed, verdict))
        });
        match caught {
            Some((seed, verdict)) => println!("{name} is caught by seed {seed}: {verdict}"),
            None => {
                failures += 1;
                println!("{name} is not caught by {PLANTED_SEEDS_MAX} seeds");
            }
        }
    }
    failures
}
