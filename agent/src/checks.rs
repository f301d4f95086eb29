//! Checks of a running task: probes each in time and tells only what turned.
//!
//! How probes of health count is `core::health`; whom to probe is `target`; how, is `probe`; when,
//! is `prober`. A check never stops its task: it says that it should be.

mod answer;
mod probe;
mod prober;
mod target;

use crate::clock::uptime_ms;
use crate::reconciler::Performer;
use bramble_core::health::{CheckHealth, observe, overall};
use bramble_core::model::{
    Assignment, HealthCheck, HealthReport, ProbeReport, ReadinessResult, TaskSpec,
};
use probe::Outcome;
use prober::{Found, Prober};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Results waiting to be counted; a probe waits for its result to be taken.
const RESULTS_MAX: usize = 4;

/// What is known of a task whose checks begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Last word of its health checks before the agent was restarted.
    pub healthy: Option<bool>,
    /// Where all its probes stood.
    pub probes: Option<ProbeReport>,
    /// [`uptime_ms`] when it began to run.
    pub running_since_ms: u64,
}

/// What the checks say of their task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A probe turned: where all of them stand, and the health that follows (`None`: unknown yet).
    Turned { healthy: Option<bool>, probes: ProbeReport },
    /// It failed once more than its check puts up with.
    Kill,
}

/// The checks of one task; they end when this is dropped.
pub struct Checks {
    definitions: Vec<HealthCheck>,
    healths: Vec<CheckHealth>,
    /// What was told last.
    told: ProbeReport,
    running_since_ms: u64,
    results: mpsc::Receiver<Found>,
    probing: JoinSet<()>,
}

impl Checks {
    /// Begin to probe every check of a running task.
    pub fn begin<P: Performer>(
        performer: Arc<P>,
        assignment: Arc<Assignment>,
        ip: Option<String>,
        resumed: Resumed,
        gate: Arc<Semaphore>,
    ) -> Self {
        let (found, results) = mpsc::channel(RESULTS_MAX);
        let mut checks = Self::resume(&assignment.spec, resumed, results);
        let ready: Vec<bool> = checks.told.readiness.iter().map(|r| r.ready).collect();
        let prober = Prober { performer, assignment, ip, gate, found };
        prober.spawn_all(&ready, &mut checks.probing);
        checks
    }

    fn resume(spec: &TaskSpec, resumed: Resumed, results: mpsc::Receiver<Found>) -> Self {
        let definitions = spec.health_checks.clone();
        let told = match resumed.probes {
            Some(told)
                if told.health.len() == definitions.len()
                    && told.readiness.len() == spec.readiness.len() =>
            {
                told
            }
            _ => fresh(spec, resumed.healthy),
        };
        let resumed_health =
            |h: &HealthReport| CheckHealth::resumed(h.alive, h.consecutive_failures);
        let healths = told.health.iter().map(resumed_health).collect();
        let running_since_ms = resumed.running_since_ms;
        Self { definitions, healths, told, running_since_ms, results, probing: JoinSet::new() }
    }

    /// Where the probes stood at the last turn.
    pub fn told(&self) -> &ProbeReport {
        &self.told
    }

    /// Stop probing; no verdict follows.
    pub fn end(&mut self) {
        self.probing.abort_all();
        self.results.close();
        while self.results.try_recv().is_ok() {}
    }

    /// The next verdict; never resolves without checks. May be dropped and called again.
    pub async fn next(&mut self) -> Verdict {
        loop {
            let Some(found) = self.results.recv().await else {
                return std::future::pending().await;
            };
            let running_ms = uptime_ms().saturating_sub(self.running_since_ms);
            if let Some(verdict) = self.count(found, running_ms) {
                return verdict;
            }
        }
    }

    fn count(&mut self, found: Found, running_ms: u64) -> Option<Verdict> {
        let turned = match found {
            Found::Health(index, outcome) => match self.count_health(index, outcome, running_ms) {
                None => return Some(Verdict::Kill),
                Some(turned) => turned,
            },
            Found::Readiness(index, result) => {
                let told = &mut self.told.readiness[index];
                let turned = is_news(told, &result);
                if turned {
                    *told = result;
                }
                turned
            }
            Found::Check(result) => self.told.check.replace(result) != Some(result),
        };
        let healthy = overall(&self.healths);
        turned.then(|| Verdict::Turned { healthy, probes: self.told.clone() })
    }

    /// Whether a health check turned; `None` when its task is to be killed.
    fn count_health(&mut self, index: usize, outcome: Outcome, running_ms: u64) -> Option<bool> {
        let (health, check) = (self.healths[index], &self.definitions[index]);
        let observed = observe(health, check, running_ms, outcome.probed);
        self.healths[index] = observed.health;
        if observed.kill {
            return None;
        }
        let alive = observed.health.alive;
        if self.told.health[index].alive == alive {
            return Some(false);
        }
        let consecutive_failures = observed.health.consecutive_failures;
        self.told.health[index] =
            HealthReport { alive, consecutive_failures, cause: outcome.cause };
        Some(true)
    }
}

/// Nothing probed yet, but perhaps known to have been healthy as a whole.
fn fresh(spec: &TaskSpec, healthy: Option<bool>) -> ProbeReport {
    let health = HealthReport { alive: healthy, ..HealthReport::default() };
    let not_ready =
        |name: &str| ReadinessResult { name: name.to_string(), ready: false, last_response: None };
    ProbeReport {
        health: vec![health; spec.health_checks.len()],
        readiness: spec.readiness.iter().map(|probe| not_ready(&probe.check.name)).collect(),
        check: None,
    }
}

/// A body that differs from the last one, and nothing else, is none: it may hold the time of day.
fn is_news(told: &ReadinessResult, found: &ReadinessResult) -> bool {
    let status = |result: &ReadinessResult| result.last_response.as_ref().map(|r| r.status);
    told.ready != found.ready || status(told) != status(found)
}

#[cfg(test)]
#[path = "checks/tests.rs"]
mod tests;
