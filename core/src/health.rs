//! Health transitions: what one more probe of a check says about a task.
//!
//! Owns the counting rules of Marathon's health checks (its contract, section 5.2) and nothing
//! else: who probes, when, and what is done about it belong to the agent.

use crate::model::HealthCheck;

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    Success,
    Failure,
    /// Says nothing either way (an informational HTTP answer the check ignores).
    Nothing,
}

/// What a check knows of its task so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckHealth {
    /// `None` until a probe counted.
    pub alive: Option<bool>,
    /// Failures since the last success that counted.
    pub consecutive_failures: u32,
    /// Once it was healthy, the grace period is over.
    pub had_success: bool,
}

impl CheckHealth {
    /// The state of a check whose task was adopted. One that counted has no grace left: a success
    /// ended it, or a failure came after it.
    pub fn resumed(alive: Option<bool>, consecutive_failures: u32) -> Self {
        Self { alive, consecutive_failures, had_success: alive.is_some() }
    }
}

/// What follows from a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    pub health: CheckHealth,
    /// The task failed once more than the check puts up with: stop it.
    pub kill: bool,
}

/// Count one probe of a task that has been running for `running_ms` milliseconds.
///
/// A failure before the first success and within the grace period is not counted. The task is to
/// be killed by the failure that comes after `max_consecutive_failures` recorded ones, which is
/// how Marathon counts: one more than the name says.
pub fn observe(
    health: CheckHealth,
    check: &HealthCheck,
    running_ms: u64,
    probed: Probed,
) -> Observed {
    match probed {
        Probed::Nothing => Observed { health, kill: false },
        Probed::Success => Observed {
            health: CheckHealth { alive: Some(true), consecutive_failures: 0, had_success: true },
            kill: false,
        },
        Probed::Failure if !health.had_success && running_ms < check.grace_ms => {
            Observed { health, kill: false }
        }
        Probed::Failure => {
            let max = check.max_consecutive_failures;
            let kill = max > 0 && health.consecutive_failures >= max;
            let consecutive_failures = health.consecutive_failures.saturating_add(1);
            let health = CheckHealth { alive: Some(false), consecutive_failures, ..health };
            Observed { health, kill }
        }
    }
}

/// The health of a task from all of its checks: bad if one is, good if all are, else unknown.
pub fn overall(checks: &[CheckHealth]) -> Option<bool> {
    if checks.iter().any(|c| c.alive == Some(false)) {
        return Some(false);
    }
    (!checks.is_empty() && checks.iter().all(|c| c.alive == Some(true))).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HealthCheckKind;

    fn check(grace_ms: u64, max: u32) -> HealthCheck {
        HealthCheck {
            kind: HealthCheckKind::Http,
            path: None,
            port_index: Some(0),
            port: None,
            command: None,
            grace_ms,
            interval_ms: 1000,
            timeout_ms: 1000,
            max_consecutive_failures: max,
            delay_ms: 0,
            ignore_http_1xx: false,
            ip_protocol: None,
        }
    }

    /// Runs probes `(running_ms, probed)`; gives `(alive, consecutive failures, kill)` of each.
    fn run(
        check: &HealthCheck,
        start: CheckHealth,
        probes: &[(u64, Probed)],
    ) -> Vec<(Option<bool>, u32, bool)> {
        let mut health = start;
        let mut seen = Vec::new();
        for &(running_ms, probed) in probes {
            let observed = observe(health, check, running_ms, probed);
            health = observed.health;
            seen.push((health.alive, health.consecutive_failures, observed.kill));
        }
        seen
    }

    #[test]
    fn probes_count_as_marathon_counts_them() {
        use Probed::{Failure, Nothing, Success};
        let fresh = CheckHealth::default();
        let (up, down, unknown) = (Some(true), Some(false), None);
        let cases = [
            ("first success", check(0, 3), fresh, vec![(1, Success)], vec![(up, 0, false)]),
            (
                "failures within grace are not shown",
                check(10, 1),
                fresh,
                vec![(1, Failure), (9, Failure), (10, Failure), (11, Failure)],
                vec![(unknown, 0, false), (unknown, 0, false), (down, 1, false), (down, 2, true)],
            ),
            (
                "a success ends the grace",
                check(100, 1),
                fresh,
                vec![(1, Success), (2, Failure), (3, Failure)],
                vec![(up, 0, false), (down, 1, false), (down, 2, true)],
            ),
            (
                "killed on the failure after the allowed ones",
                check(0, 2),
                fresh,
                vec![(1, Failure), (2, Failure), (3, Failure)],
                vec![(down, 1, false), (down, 2, false), (down, 3, true)],
            ),
            (
                "zero never kills",
                check(0, 0),
                fresh,
                vec![(1, Failure), (2, Failure), (3, Failure)],
                vec![(down, 1, false), (down, 2, false), (down, 3, false)],
            ),
            (
                "success resets, nothing changes nothing",
                check(0, 1),
                fresh,
                vec![(1, Failure), (2, Nothing), (3, Success), (4, Failure)],
                vec![(down, 1, false), (down, 1, false), (up, 0, false), (down, 1, false)],
            ),
            (
                "an adopted healthy task has no grace left",
                check(1000, 1),
                CheckHealth::resumed(up, 0),
                vec![(1, Failure), (2, Failure)],
                vec![(down, 1, false), (down, 2, true)],
            ),
        ];
        for (name, check, start, probes, expected) in cases {
            assert_eq!(run(&check, start, &probes), expected, "{name}");
        }
    }

    #[test]
    fn overall_health_needs_every_check() {
        let of = |alive| CheckHealth { alive, ..CheckHealth::default() };
        let cases = [
            (vec![], None),
            (vec![None], None),
            (vec![Some(true), None], None),
            (vec![Some(true), Some(true)], Some(true)),
            (vec![Some(true), Some(false)], Some(false)),
            (vec![None, Some(false)], Some(false)),
        ];
        for (alive, expected) in cases {
            let checks: Vec<_> = alive.iter().copied().map(of).collect();
            assert_eq!(overall(&checks), expected, "{alive:?}");
        }
    }
}
