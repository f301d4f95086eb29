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
/// A planted bug must be caught within this many seeds, of which so many are tried before a look
/// whether one was enough.
const PLANTED_SEEDS_MAX: u64 = 300;
const PLANTED_SEEDS_AT_ONCE: usize = 10;

/// What to run.
pub struct Plan {
    /// 0: what `make test` runs.
    pub seeds: u64,
    pub from: u64,
    /// The bug that this build has: some seed must see it.
    pub caught: Option<Planted>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seeds: 0, from: 1, caught: None }
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

/// Run many seeds at once, with a planted bug or without; gives what each came to.
fn many(seeds: std::ops::Range<u64>, planted: Option<Planted>) -> BTreeMap<u64, String> {
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
                    let verdict = verdict(&child(seed, planted));
                    verdicts.lock().expect("no thread panics").insert(seed, verdict);
                }
            });
        }
    });
    verdicts.into_inner().expect("no thread panics")
}

pub fn run(plan: &Plan) -> ExitCode {
    if let Some(planted) = plan.caught {
        return exit_code(u64::from(!caught(planted, None)));
    }
    let began = Instant::now();
    let count = if plan.seeds == 0 { SEEDS } else { plan.seeds };
    let verdicts = many(plan.from..plan.from + count, None);
    let mut failures = 0;
    for (seed, verdict) in &verdicts {
        if verdict.starts_with("FAILED") {
            failures += 1;
            println!("seed {seed}: {verdict}\n  replay it with: make soak SEED={seed}");
        }
    }
    println!("{} of {count} seeds hold, in {:.1?}", count - failures, began.elapsed());
    if plan.seeds == 0 {
        failures += replays(&verdicts) + planted() + patches();
    }
    exit_code(failures)
}

fn exit_code(failures: u64) -> ExitCode {
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Run some seeds again: they must come to the same, event by event.
fn replays(verdicts: &BTreeMap<u64, String>) -> u64 {
    let again = many(1..1 + REPLAYED, None);
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
    let missed = Planted::ALL.into_iter().filter(|planted| !caught(*planted, Some(*planted)));
    missed.count() as u64
}

/// Whether some seed sees a bug: planted while it runs, or there already.
fn caught(bug: Planted, planted: Option<Planted>) -> bool {
    let name = bug.name();
    for seeds in (1..=PLANTED_SEEDS_MAX).step_by(PLANTED_SEEDS_AT_ONCE) {
        for (seed, verdict) in many(seeds..seeds + PLANTED_SEEDS_AT_ONCE as u64, planted) {
            // By an invariant that is about it, not by whatever else may go wrong then.
            let mut about = bug.breaks().iter();
            if about.any(|invariant| verdict.starts_with(&format!("FAILED {invariant},"))) {
                println!("{name} is caught by seed {seed}: {verdict}");
                return true;
            }
        }
    }
    println!("{name} is not caught by {PLANTED_SEEDS_MAX} seeds");
    false
}

/// The same bugs as patches of the real code (planted.sh builds them): they must still apply.
fn patches() -> u64 {
    let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let applies = |planted: &Planted| {
        let patch = format!("tests/simulation/planted/{}.patch", planted.name());
        let check = ["apply", "--check", "-C1", &patch];
        match Command::new("git").args(check).current_dir(top).output() {
            Ok(output) if output.status.success() => true,
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                println!("{patch} does not apply any more: {}", why.trim());
                false
            }
            Err(error) => {
                println!("{patch} cannot be checked, git does not run: {error}");
                false
            }
        }
    };
    Planted::ALL.iter().filter(|planted| !applies(planted)).count() as u64
}
