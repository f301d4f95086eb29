//! How an ending is told: state and words, as Mesos' command executor puts them.

use super::performer::{Ending, Refusal};
use super::pod::judge_pod;
use bramble_core::model::{BYTES_PER_MIB, ContainerStatus, TaskSpec, TaskState};

/// Exit codes above this many stand for a signal.
const SIGNAL_BASE: i32 = 128;
const SIGNAL_MAX: i32 = 64;

/// Told of tasks that must not run twice, once nobody could say that they may.
pub const LEASE_OVER: &str = "stopped: no master could be reached to renew its lease";

/// The last word on a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    pub state: TaskState,
    pub message: String,
    pub exit_code: Option<i32>,
    /// Of a pod that was started: how each container ended.
    pub containers: Vec<ContainerStatus>,
}

impl Terminal {
    /// It was stopped on purpose; its app does not wait before the next launch.
    pub fn killed(message: impl Into<String>) -> Self {
        Self::new(TaskState::Killed, message.into(), None)
    }

    fn new(state: TaskState, message: String, exit_code: Option<i32>) -> Self {
        Self { state, message, exit_code, containers: Vec::new() }
    }
}

impl From<Refusal> for Terminal {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.state, refusal.message, None)
    }
}

/// Judge an ending. `stop_reason` is why it was told to stop, where that is worth telling.
///
/// A dead executor is a failure, not a loss (Mesos: "executor terminated" is TASK_FAILED): the
/// agent is there and knows that the container is gone.
pub fn judge(ending: &Ending, spec: &TaskSpec, stop_reason: Option<&str>) -> Terminal {
    let exit = match ending {
        Ending::ExecutorDied => return executor_died(stop_reason),
        Ending::Pod(ends) => return judge_pod(ends, spec, stop_reason),
        Ending::Exited(exit) => exit,
    };
    if exit.lease_over {
        let killed = Terminal::killed(stop_reason.unwrap_or(LEASE_OVER));
        return Terminal { exit_code: Some(exit.code), ..killed };
    }
    if exit.stopped {
        let message = stop_reason.map_or_else(|| exit_text(exit.code), str::to_string);
        return Terminal { exit_code: Some(exit.code), ..Terminal::killed(message) };
    }
    if let Some(failure) = &exit.failure {
        return Refusal::failed(failure.as_str()).into();
    }
    let (state, message) = match exit.code {
        0 => (TaskState::Finished, exit_text(0)),
        // A child that was killed for memory while its parent went on to succeed is no failure.
        _ if exit.oom => (TaskState::Failed, oom_text(spec.mem_limit_bytes)),
        code => (TaskState::Failed, exit_text(code)),
    };
    Terminal::new(state, message, Some(exit.code))
}

/// The end of a task whose executor is gone within the same boot.
pub fn executor_died(stop_reason: Option<&str>) -> Terminal {
    match stop_reason {
        Some(reason) => Terminal::killed(reason),
        None => Refusal::failed("executor died").into(),
    }
}

/// The end of a task that ran when the machine went down.
pub fn machine_restarted() -> Terminal {
    Terminal::killed("the machine was restarted")
}

fn oom_text(limit: Option<u64>) -> String {
    match limit {
        Some(bytes) if bytes % BYTES_PER_MIB == 0 => {
            format!("Memory limit exceeded: Requested: {}MB", bytes / BYTES_PER_MIB)
        }
        Some(bytes) => format!("Memory limit exceeded: Requested: {}KB", bytes / 1024),
        None => "Memory limit exceeded: the machine ran out of memory".into(),
    }
}

fn exit_text(code: i32) -> String {
    let signal = code - SIGNAL_BASE;
    if !(1..=SIGNAL_MAX).contains(&signal) {
        return format!("Command exited with status {code}");
    }
    match signal_name(signal) {
        Some(name) => format!("Command terminated with signal {name}"),
        None => format!("Command terminated with signal {signal}"),
    }
}

/// The names of strsignal(3) for the signals that end processes in practice.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        31 => "Bad system call",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::assignment;
    use bramble_protocol::executor::ExitRecord;

    #[test]
    fn endings_are_told_as_mesos_tells_them() {
        let exit = |code| ExitRecord {
            code,
            oom: false,
            stopped: false,
            failure: None,
            lease_over: false,
        };
        let stopped = |code| ExitRecord { stopped: true, ..exit(code) };
        let killed = TaskState::Killed;
        let failed = TaskState::Failed;
        let unhealthy = Some("health check failed");
        let cases = [
            (exit(0), None, TaskState::Finished, "Command exited with status 0", Some(0)),
            (exit(1), None, failed, "Command exited with status 1", Some(1)),
            (exit(255), None, failed, "Command exited with status 255", Some(255)),
            (exit(139), None, failed, "Command terminated with signal Segmentation fault", {
                Some(139)
            }),
            (exit(165), None, failed, "Command terminated with signal 37", Some(165)),
            (stopped(143), None, killed, "Command terminated with signal Terminated", Some(143)),
            (stopped(0), None, killed, "Command exited with status 0", Some(0)),
            (stopped(137), unhealthy, killed, "health check failed", Some(137)),
            (exit(1), unhealthy, failed, "Command exited with status 1", Some(1)),
            (
                ExitRecord { oom: true, ..exit(137) },
                None,
                failed,
                { "Memory limit exceeded: Requested: 1MB" },
                Some(137),
            ),
            (
                ExitRecord { oom: true, ..exit(0) },
                None,
                TaskState::Finished,
                { "Command exited with status 0" },
                Some(0),
            ),
            (
                ExitRecord { failure: Some("no such user".into()), ..exit(1) },
                None,
                failed,
                { "no such user" },
                None,
            ),
        ];
        let spec = assignment("a", true).spec;
        for (exit, reason, state, message, exit_code) in cases {
            let told = judge(&Ending::Exited(exit.clone()), &spec, reason);
            let expected = Terminal::new(state, message.into(), exit_code);
            assert_eq!(told, expected, "{exit:?}");
        }
    }

    #[test]
    fn a_dead_executor_is_a_failure_unless_it_was_being_stopped() {
        let spec = assignment("a", true).spec;
        let told = judge(&Ending::ExecutorDied, &spec, None);
        assert_eq!((told.state, told.message.as_str()), (TaskState::Failed, "executor died"));
        let told = judge(&Ending::ExecutorDied, &spec, Some("node went down"));
        assert_eq!((told.state, told.message.as_str()), (TaskState::Killed, "node went down"));
    }
}
