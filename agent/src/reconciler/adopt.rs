//! The restart matrix: what to do with a task that an earlier life of the agent knew of.

use super::ending::{Terminal, executor_died, judge, machine_restarted};
use super::performer::Found;
use crate::ledger::TaskFacts;
use bramble_core::model::{Assignment, TaskState};

/// What to do with one task after a restart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recovery<C> {
    /// It lives: go on where the earlier life stopped.
    AdoptCreated(C),
    AdoptRunning(C),
    /// It ended without being told.
    Report(Terminal),
    /// Its end was told before; only traces are left to remove.
    Ended,
    /// It never got as far as running: begin again from nothing.
    Anew,
    /// Nobody wants it and nobody knows of it: stop it, tell nobody.
    Discard(C),
    /// Traces of nothing anybody knows.
    Clean,
}

/// Judge one task by the three witnesses: the assignment, the ledger's facts, the machine.
pub(super) fn recovery<C>(
    assignment: Option<&Assignment>,
    facts: Option<&TaskFacts>,
    found: Option<Found<C>>,
    boot_id: &str,
) -> Recovery<C> {
    if facts.is_some_and(|facts| facts.state.is_terminal()) {
        return match found {
            // Its end was told, so that whatever claims to live must go.
            Some(Found::Created(container) | Found::Running(container)) => {
                Recovery::Discard(container)
            }
            _ => Recovery::Ended,
        };
    }
    let Some(assignment) = assignment else {
        return match found {
            Some(Found::Created(container) | Found::Running(container)) => {
                Recovery::Discard(container)
            }
            _ => Recovery::Clean,
        };
    };
    match found {
        Some(Found::Created(container)) => Recovery::AdoptCreated(container),
        Some(Found::Running(container)) => Recovery::AdoptRunning(container),
        Some(Found::Ended(ending)) => {
            let reason = facts.and_then(|facts| facts.stop_reason.as_deref());
            Recovery::Report(judge(&ending, &assignment.spec, reason))
        }
        Some(Found::Dead) | None => gone(facts, boot_id),
    }
}

/// An assigned task of which nothing lives.
fn gone<C>(facts: Option<&TaskFacts>, boot_id: &str) -> Recovery<C> {
    let Some(facts) = facts else {
        return Recovery::Anew;
    };
    match facts.state {
        TaskState::Staging => Recovery::Anew,
        // It may have run just before the power went; within one boot it would have been found.
        TaskState::Starting if facts.boot_id == boot_id => Recovery::Anew,
        _ if facts.boot_id != boot_id => Recovery::Report(machine_restarted()),
        _ => Recovery::Report(executor_died(facts.stop_reason.as_deref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconciler::performer::Ending;
    use crate::samples::assignment;
    use bramble_protocol::executor::ExitRecord;

    const CONTAINER: &str = "container";

    fn facts(state: TaskState, boot_id: &str, stop_reason: Option<&str>) -> TaskFacts {
        TaskFacts {
            sequence: 1,
            state,
            healthy: None,
            ip: None,
            running_since_ms: None,
            boot_id: boot_id.into(),
            stop_reason: stop_reason.map(str::to_string),
            probes: None,
            containers: Vec::new(),
            size: None,
            ran: false,
            restarts: 0,
            last_end: String::new(),
        }
    }

    fn exit(code: i32, stopped: bool) -> Found<&'static str> {
        Found::Ended(Ending::Exited(ExitRecord {
            code,
            oom: false,
            stopped,
            failure: None,
            lease_over: false,
        }))
    }

    fn failed(message: &str, exit_code: Option<i32>) -> Recovery<&'static str> {
        Recovery::Report(Terminal {
            state: TaskState::Failed,
            exit_code,
            ..Terminal::killed(message)
        })
    }

    fn killed(message: &str) -> Recovery<&'static str> {
        Recovery::Report(Terminal::killed(message))
    }

    #[test]
    fn assigned_tasks_after_a_restart() {
        use TaskState::{Finished, Running, Staging, Starting};
        let running = || Some(facts(Running, "now", None));
        let down = || Some(facts(Running, "now", Some("node went down")));
        let before = || Some(facts(Running, "before", None));
        let cases = [
            ("never begun", None, None, Recovery::Anew),
            ("was pulling", Some(facts(Staging, "now", None)), None, Recovery::Anew),
            ("was starting", Some(facts(Starting, "now", None)), None, Recovery::Anew),
            ("half made", Some(facts(Starting, "now", None)), Some(Found::Dead), Recovery::Anew),
            ("starting when the power went", Some(facts(Starting, "before", None)), None, {
                killed("the machine was restarted")
            }),
            ("created", Some(facts(Starting, "now", None)), Some(Found::Created(CONTAINER)), {
                Recovery::AdoptCreated(CONTAINER)
            }),
            ("running", running(), Some(Found::Running(CONTAINER)), {
                Recovery::AdoptRunning(CONTAINER)
            }),
            ("ran on, its report was lost", None, Some(Found::Running(CONTAINER)), {
                Recovery::AdoptRunning(CONTAINER)
            }),
            ("ended by itself", running(), Some(exit(3, false)), {
                failed("Command exited with status 3", Some(3))
            }),
            ("executor died", running(), Some(Found::Dead), failed("executor died", None)),
            ("vanished", running(), None, failed("executor died", None)),
            ("went down and was not told", down(), None, killed("node went down")),
            ("rebooted", before(), None, killed("the machine was restarted")),
            ("rebooted, run dir on disk", before(), Some(Found::Dead), {
                killed("the machine was restarted")
            }),
            ("told already", Some(facts(Finished, "now", None)), None, Recovery::Ended),
            (
                "told already, traces left",
                Some(facts(Finished, "now", None)),
                { Some(exit(0, false)) },
                Recovery::Ended,
            ),
        ];
        let task = assignment("a", true);
        for (name, facts, found, expected) in cases {
            let told = recovery(Some(&task), facts.as_ref(), found, "now");
            assert_eq!(told, expected, "{name}");
        }
    }

    #[test]
    fn tasks_nobody_assigned_after_a_restart() {
        let running = facts(TaskState::Running, "now", None);
        let cases = [
            ("lives", Some(Found::Running(CONTAINER)), Recovery::Discard(CONTAINER)),
            ("waits", Some(Found::Created(CONTAINER)), Recovery::Discard(CONTAINER)),
            ("ended", Some(exit(0, true)), Recovery::Clean),
            ("dead", Some(Found::Dead), Recovery::Clean),
            ("only known by the ledger", None, Recovery::Clean),
        ];
        for (name, found, expected) in cases {
            assert_eq!(recovery(None, Some(&running), found, "now"), expected, "{name}");
        }
    }
}
