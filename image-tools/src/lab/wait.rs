//! Waiting until the machines that were started answer, and belong to their cluster.

use super::api::Api;
use super::config::Machine;
use super::error::LabError;
use super::interrupt::Interrupt;
use super::place::{Files, Place};
use super::{machine, roles};
use crate::disk::progress::Progress;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Lines of a console that are shown of a machine that does not answer.
const LINES: usize = 12;

/// Who is waited for.
pub struct Waiting<'w> {
    /// All machines of the file.
    pub all: &'w [Machine],
    pub started: &'w [Machine],
    pub place: &'w Place,
}

/// Wait until each is a part of a cluster that is led. Agents without any master are not waited
/// for: they look for one as long as it takes.
///
/// # Errors
/// One ended, or did not come in time: they are left as they are, to be looked at. Or it was
/// interrupted.
pub fn wait(
    waiting: &Waiting<'_>,
    patience: Duration,
    interrupt: &Interrupt,
) -> Result<(), LabError> {
    let begun = Instant::now();
    let runs = |one: &Machine| machine::find(&waiting.place.files(&one.name)).is_some();
    if !waiting.all.iter().any(|one| one.kind.votes() && runs(one)) {
        let voters = waiting.all.iter().filter(|one| one.kind.votes()).map(|one| one.name.as_str());
        let voters: Vec<_> = voters.collect();
        println!("They look for a cluster: start one of {}", voters.join(", "));
        return Ok(());
    }
    let progress = Progress::steps(waiting.started.len() as u64);
    let mut left: Vec<_> = waiting.started.iter().collect();
    while !left.is_empty() {
        interrupt.check()?;
        let names: Vec<_> = left.iter().map(|one| one.name.as_str()).collect();
        progress.tell(format!("waiting for {}", names.join(", ")));
        for one in std::mem::take(&mut left) {
            if is_in(one) {
                let seconds = begun.elapsed().as_secs_f32();
                progress.advance(1);
                progress.say(&format!("{}: answers at {} ({seconds:.1} s)", one.name, one.ip));
            } else if !runs(one) {
                let files = waiting.place.files(&one.name);
                return Err(silent(&format!("{} ended by itself", one.name), &files));
            } else {
                left.push(one);
            }
        }
        if let Some(one) = left.first().filter(|_| begun.elapsed() > patience) {
            let files = waiting.place.files(&one.name);
            let what = format!("{} does not answer after {} s", one.name, patience.as_secs());
            return Err(silent(&what, &files));
        }
        if !left.is_empty() {
            sleep(LOOK_EVERY);
        }
    }
    drop(progress);
    for name in roles::give(waiting.all) {
        println!("{name}: takes apps that accept the role {}", roles::PUBLIC);
    }
    Ok(())
}

/// Whether its cluster has a leader and, if it runs apps, sees it.
fn is_in(one: &Machine) -> bool {
    let Some(cluster) = Api::of(one.ip).cluster().filter(|cluster| cluster.leader.is_some()) else {
        return false;
    };
    let connected = cluster.agents.iter().any(|agent| agent.name == one.name && agent.connected);
    connected || !one.kind.works()
}

fn silent(what: &str, files: &Files) -> LabError {
    let text = fs::read(&files.console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
    LabError::Silent(format!(
        "{what}; its console, {}, ends with\n  {last}",
        files.console.display()
    ))
}
