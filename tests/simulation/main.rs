//! Runs the simulation: each seed in a process of its own, because what draws lots does so once
//! for each process.
//!
//! ```text
//! simulation                     what `make test` runs: 200 seeds, replays, planted bugs
//! simulation --seeds N [--from S]   more seeds
//! simulation --seed S [--planted NAME] [--trace]   one seed, with its trace
//! simulation --caught NAME       whether this build, patched, is caught (planted.sh)
//! ```

mod c_library;
mod parent;

use bramble_simulation::{Planted, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seed, mut planted, mut traced) = (None, None, false);
    let mut plan = parent::Plan::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--seed" => seed = value().parse::<u64>().ok(),
            "--planted" => planted = Planted::named(&value()),
            "--trace" => traced = true,
            "--seeds" => plan = parent::Plan { seeds: value().parse().unwrap_or(0), ..plan },
            "--caught" => plan = parent::Plan { caught: Planted::named(&value()), ..plan },
            "--from" => plan = parent::Plan { from: value().parse().unwrap_or(0), ..plan },
            // What `cargo test` passes on: filters and options of the usual harness.
            _ => {}
        }
    }
    match seed {
        Some(seed) => child(seed, planted, traced),
        None => parent::run(&plan),
    }
}

fn child(seed: u64, planted: Option<Planted>, traced: bool) -> ExitCode {
    if let Ok(filter) = std::env::var("SIMULATION_LOG") {
        tracing_subscriber::fmt()
            .with_max_level(filter.parse::<tracing::Level>().unwrap_or(tracing::Level::DEBUG))
            .with_writer(std::io::stdout)
            .without_time()
            .with_ansi(false)
            .init();
    }
    // A task that panics would otherwise die unheard in its runtime.
    std::panic::set_hook(Box::new(|panic| {
        let by_raft = panic.location().is_some_and(|place| place.file().contains("openraft"));
        let name = if by_raft { "raft's own assertions" } else { "no panic" };
        println!("FAILED {name}, {}", panic.to_string().replace('\n', " "));
        std::process::exit(1);
    }));
    match run(seed, planted, traced) {
        Ok(outcome) => {
            println!(
                "ok trace {:016x} events {} acknowledged {} seconds {:.1}",
                outcome.digest,
                outcome.events,
                outcome.acknowledged,
                outcome.took.as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAILED {why}");
            ExitCode::FAILURE
        }
    }
}
