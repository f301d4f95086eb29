//! What the probes of a task found: as its agent reports it, and as the cluster keeps it.
//!
//! Soft state must not fill the log: an agent reports when a verdict turns, never each probe. So
//! counters and times are those of the last turn, and the times are the cluster's own.

use super::Time;
use serde::{Deserialize, Serialize};

/// What an agent says of all probes of one task. Lists follow the definitions' order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub health: Vec<HealthReport>,
    pub readiness: Vec<ReadinessResult>,
    pub check: Option<CheckResult>,
}

/// One health check at its last turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// `None` until a probe counted.
    pub alive: Option<bool>,
    pub consecutive_failures: u32,
    /// What went wrong, after a turn to the bad.
    pub cause: Option<String>,
}

/// One readiness check (Marathon's `readinessCheckResults`). It stays ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessResult {
    pub name: String,
    pub ready: bool,
    /// Only where the check preserves it.
    pub last_response: Option<HttpAnswer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    pub status: u16,
    pub content_type: String,
    /// Cut to a bounded length.
    pub body: String,
}

/// What a generic check found last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckResult {
    /// `None`: it did not end in time, or could not be run.
    Exit(Option<i32>),
    /// `None`: no answer.
    Http(Option<u16>),
    Tcp(bool),
}

/// What the cluster knows from the probes of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskProbes {
    pub health: Vec<HealthResult>,
    pub readiness: Vec<ReadinessResult>,
    pub check: Option<CheckResult>,
}

/// Marathon's `healthCheckResults`, one for each definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    pub alive: Option<bool>,
    pub consecutive_failures: u32,
    pub first_success: Option<Time>,
    pub last_success: Option<Time>,
    pub last_failure: Option<Time>,
    pub last_failure_cause: Option<String>,
}

impl TaskProbes {
    /// Take in what an agent reports at `now`.
    pub fn take(&mut self, report: &ProbeReport, now: Time) {
        self.health.resize_with(report.health.len(), HealthResult::default);
        for (known, told) in self.health.iter_mut().zip(&report.health) {
            known.take(told, now);
        }
        self.readiness.clone_from(&report.readiness);
        self.check = report.check;
    }

    /// Whether every readiness check of `wanted` in number has said yes.
    pub fn are_ready(&self, wanted: usize) -> bool {
        self.readiness.iter().filter(|result| result.ready).count() >= wanted
    }
}

impl HealthResult {
    fn take(&mut self, told: &HealthReport, now: Time) {
        let turned = self.alive != told.alive;
        self.alive = told.alive;
        self.consecutive_failures = told.consecutive_failures;
        match told.alive {
            Some(true) if turned => {
                self.first_success = self.first_success.or(Some(now));
                self.last_success = Some(now);
            }
            Some(false) if turned => {
                self.last_failure = Some(now);
                self.last_failure_cause.clone_from(&told.cause);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(alive: Option<bool>, failures: u32, cause: Option<&str>) -> ProbeReport {
        let cause = cause.map(str::to_string);
        let health = vec![HealthReport { alive, consecutive_failures: failures, cause }];
        ProbeReport { health, ..ProbeReport::default() }
    }

    #[test]
    fn times_are_those_of_turns() {
        let mut probes = TaskProbes::default();
        let steps = [
            (report(None, 0, None), 1),
            (report(Some(true), 0, None), 2),
            (report(Some(true), 0, None), 3),
            (report(Some(false), 1, Some("refused")), 4),
            (report(Some(false), 2, Some("timed out")), 5),
            (report(Some(true), 0, None), 6),
        ];
        for (report, at) in steps {
            probes.take(&report, Time(at));
        }
        let expected = HealthResult {
            alive: Some(true),
            consecutive_failures: 0,
            first_success: Some(Time(2)),
            last_success: Some(Time(6)),
            last_failure: Some(Time(4)),
            last_failure_cause: Some("refused".into()),
        };
        assert_eq!(probes.health, [expected]);
    }

    #[test]
    fn readiness_needs_every_check() {
        let result = |ready| ReadinessResult { name: "r".into(), ready, last_response: None };
        let of = |readiness| TaskProbes { readiness, ..TaskProbes::default() };
        assert!(of(vec![]).are_ready(0));
        assert!(!of(vec![]).are_ready(1));
        assert!(!of(vec![result(false)]).are_ready(1));
        assert!(of(vec![result(true)]).are_ready(1));
    }
}
