//! How a container is asked to end (DESIGN 2.14): a signal, a grace, SIGKILL. Owns the decision
//! when nobody is left who could make use of the grace.

use crate::runtime::cgroup::TaskCgroup;
use crate::runtime::process::{self, Handling};
use bramble_protocol::executor::ProcessKey;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the processes that handle the signal are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Looks at a process that only blocks the signal before it counts as waiting for it.
const BLOCKED_LOOKS: u32 = 4;
/// Pause between two of these looks.
const BLOCKED_PAUSE: Duration = Duration::from_millis(3);

/// A stop under way.
pub struct Stop {
    deadline: Instant,
    /// Processes that handle the signal; once all are gone, the rest is killed.
    awaited: Vec<ProcessKey>,
    killed: bool,
}

/// What decides over a stop.
pub struct Target<'a> {
    pub cgroup: &'a TaskCgroup<'a>,
    pub init: ProcessKey,
    /// Ask every process (command tasks), not only init (image tasks).
    pub all: bool,
    pub signal: i32,
}

impl Stop {
    /// Ask the container to end within `grace`.
    pub fn begin(target: &Target<'_>, grace: Duration) -> Self {
        let asked = match target.all {
            true => target.cgroup.processes(),
            false => vec![target.init.pid],
        };
        let awaited = handlers(&asked, target.signal);
        // With nobody to handle it, SIGKILL follows at once; a shell that survived its child by a
        // moment would go on with its next command.
        if let (Ok(signal), false) = (Signal::try_from(target.signal), awaited.is_empty()) {
            for pid in asked {
                let _gone = kill(Pid::from_raw(pid), signal);
            }
        }
        let mut stop = Self { deadline: after(grace), awaited, killed: false };
        stop.look(target);
        stop
    }

    /// Shorten the grace; never lengthen it.
    pub fn shorten(&mut self, target: &Target<'_>, grace: Duration) {
        self.deadline = self.deadline.min(after(grace));
        self.look(target);
    }

    /// Kill when the grace is over or nobody uses it.
    pub fn look(&mut self, target: &Target<'_>) {
        if self.killed {
            return;
        }
        let over = Instant::now() >= self.deadline;
        if over || !self.awaited.iter().any(|key| process::is_alive(*key)) {
            // Not waited for: the loop hears of init's end, and goes on draining its output.
            let _gone = process::kill(target.init);
            target.cgroup.kill_once();
            self.killed = true;
        }
    }

    /// Time until [`Stop::look`] is due; `None` once everything was killed.
    pub fn next_look(&self) -> Option<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        (!self.killed).then(|| left.min(LOOK_AGAIN))
    }
}

/// Those of `pids` that handle `signal`. Who only blocks it must do so at every look: a shell
/// blocks everything for a moment while it forks, and would be given a grace it cannot use.
fn handlers(pids: &[i32], signal: i32) -> Vec<ProcessKey> {
    let handled = |pid: &i32| process::handling(*pid, signal);
    let mut found: Vec<i32> =
        pids.iter().copied().filter(|p| handled(p) != Handling::Unhandled).collect();
    for _ in 1..BLOCKED_LOOKS {
        if found.iter().all(|pid| handled(pid) == Handling::Caught) {
            break;
        }
        sleep(BLOCKED_PAUSE);
        found.retain(|pid| handled(pid) != Handling::Unhandled);
    }
    found.into_iter().filter_map(process::key_of).collect()
}

fn after(grace: Duration) -> Instant {
    // A grace beyond what the clock can hold means "a very long time".
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + grace.min(FAR)
}
