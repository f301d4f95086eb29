//! Real containers through the real executor. This binary is its own executor: the runtime
//! re-executes it as `executor DIR` and `exec-in DIR`, so it has a main of its own and speaks
//! just enough of libtest's command line for cargo and nextest.

mod crowd;
mod ground;
mod isolation;
mod lifecycle;
mod limits;
mod pods;

use ground::{Ground, Outcome};
use std::path::Path;
use std::process::ExitCode;

/// One test: its name and what it does on fresh ground.
pub struct Case {
    pub name: &'static str,
    pub run: fn(Ground) -> Outcome,
}

fn cases() -> impl Iterator<Item = &'static Case> {
    let alone = lifecycle::CASES.iter().chain(isolation::CASES).chain(limits::CASES);
    alone.chain(pods::CASES).chain(crowd::CASES)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Before anything that could start a thread.
    match (args.first().map(String::as_str), args.get(1)) {
        (Some("executor"), Some(dir)) => leave(bramble_agent::executor::main(Path::new(dir))),
        (Some("exec-in"), Some(dir)) => leave(bramble_agent::executor::exec_main(Path::new(dir))),
        _ => {}
    }
    if args.iter().any(|a| a == "--list") {
        if !args.iter().any(|a| a == "--ignored") {
            cases().for_each(|case| println!("{}: test", case.name));
        }
        return ExitCode::SUCCESS;
    }
    let exact = args.iter().any(|a| a == "--exact");
    let wanted: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen = |case: &&Case| {
        wanted.is_empty()
            || wanted.iter().any(|w| if exact { case.name == *w } else { case.name.contains(*w) })
    };
    if !ground::is_usable() {
        return skip();
    }
    let failed: Vec<&str> = cases().filter(chosen).filter(|c| !passes(c)).map(|c| c.name).collect();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn leave(code: i32) -> ! {
    std::process::exit(code)
}

fn skip() -> ExitCode {
    eprintln!(
        "*** SKIPPED: container tests need root, cgroups and /bin/busybox (busybox-static) ***"
    );
    match std::env::var("CI").as_deref() {
        Ok("true") => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn passes(case: &Case) -> bool {
    let before = std::time::Instant::now();
    let outcome = Ground::new(case.name).and_then(|ground| {
        let watch = ground.watch();
        let outcome = (case.run)(ground);
        outcome.and(watch.nothing_is_left())
    });
    match outcome {
        Ok(()) => {
            println!("test {} ... ok ({} ms)", case.name, before.elapsed().as_millis());
            true
        }
        Err(reason) => {
            eprintln!("test {} ... FAILED: {reason}", case.name);
            false
        }
    }
}
