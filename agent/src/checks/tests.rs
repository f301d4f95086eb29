use super::*;
use crate::samples::{assignment, check, readiness};
use bramble_core::health::Probed::{self, Failure, Success};
use bramble_core::model::{CheckResult, HealthCheckKind, HttpAnswer};

fn spec(health: Vec<HealthCheck>) -> TaskSpec {
    TaskSpec { health_checks: health, readiness: vec![readiness(80)], ..assignment("a", true).spec }
}

fn resumed(probes: Option<ProbeReport>) -> Resumed {
    Resumed { healthy: None, probes, running_since_ms: 0 }
}

fn checks(health: Vec<HealthCheck>) -> Checks {
    Checks::resume(&spec(health), resumed(None), mpsc::channel(1).1)
}

fn health(index: usize, probed: Probed) -> Found {
    let cause = (probed == Failure).then(|| "refused".to_string());
    Found::Health(index, Outcome { probed, cause })
}

/// The health of the task, and `alive` with the failures of each check.
type Said = (Option<bool>, Vec<(Option<bool>, u32)>);

fn said(verdict: Option<Verdict>) -> Option<Said> {
    match verdict? {
        Verdict::Kill => Some((None, vec![])),
        Verdict::Turned { healthy, probes } => {
            let each = probes.health.iter().map(|h| (h.alive, h.consecutive_failures));
            Some((healthy, each.collect()))
        }
    }
}

#[test]
fn only_turns_are_told_and_every_check_counts() {
    let mut checks = checks(vec![check(HealthCheckKind::Http), check(HealthCheckKind::Tcp)]);
    let (up, down) = (Some(true), Some(false));
    let steps = [
        (0, Success, Some((None, vec![(up, 0), (None, 0)]))),
        (1, Success, Some((up, vec![(up, 0), (up, 0)]))),
        (0, Success, None),
        (1, Failure, Some((down, vec![(up, 0), (down, 1)]))),
        (1, Failure, None),
        (1, Failure, None),
        (1, Failure, Some((None, vec![]))),
        (1, Success, Some((up, vec![(up, 0), (up, 0)]))),
    ];
    for (step, (index, probed, expected)) in steps.into_iter().enumerate() {
        assert_eq!(said(checks.count(health(index, probed), 0)), expected, "step {step}");
    }
}

#[test]
fn a_failure_has_its_cause() {
    let mut checks = checks(vec![check(HealthCheckKind::Http)]);
    let Some(Verdict::Turned { probes, .. }) = checks.count(health(0, Failure), 0) else {
        panic!("a turn");
    };
    assert_eq!(probes.health[0].cause.as_deref(), Some("refused"));
}

fn answer(ready: bool, status: u16, body: &str) -> Found {
    let last_response =
        Some(HttpAnswer { status, content_type: String::new(), body: body.to_string() });
    Found::Readiness(0, ReadinessResult { name: "r".into(), ready, last_response })
}

#[test]
fn readiness_and_generic_checks_tell_turns() {
    let mut checks = checks(vec![]);
    let steps = [
        (answer(false, 503, "1"), true),
        (answer(false, 503, "2"), false),
        (answer(false, 404, "2"), true),
        (Found::Check(CheckResult::Exit(Some(1))), true),
        (Found::Check(CheckResult::Exit(Some(1))), false),
        (Found::Check(CheckResult::Exit(None)), true),
        (answer(true, 200, "up"), true),
    ];
    let mut last = ProbeReport::default();
    for (step, (found, told)) in steps.into_iter().enumerate() {
        let verdict = checks.count(found, 0);
        assert_eq!(verdict.is_some(), told, "step {step}");
        if let Some(Verdict::Turned { healthy, probes }) = verdict {
            assert_eq!(healthy, None, "readiness is not health");
            last = probes;
        }
    }
    assert!(last.readiness[0].ready);
    assert_eq!(last.check, Some(CheckResult::Exit(None)));
}

#[test]
fn a_restarted_agent_goes_on_where_it_was() {
    let told = ProbeReport {
        health: vec![HealthReport { alive: Some(false), consecutive_failures: 1, cause: None }],
        readiness: vec![ReadinessResult { name: "r".into(), ready: true, last_response: None }],
        check: None,
    };
    let spec = spec(vec![check(HealthCheckKind::Http)]);
    let checks = Checks::resume(&spec, resumed(Some(told.clone())), mpsc::channel(1).1);
    assert_eq!(checks.told, told);
    assert_eq!(checks.healths[0].consecutive_failures, 1);
    // What does not fit the definitions says nothing.
    let other = ProbeReport { readiness: vec![], ..told };
    let checks = Checks::resume(&spec, resumed(Some(other)), mpsc::channel(1).1);
    assert!(!checks.told.readiness[0].ready);
    assert_eq!(checks.healths[0].alive, None);
}
