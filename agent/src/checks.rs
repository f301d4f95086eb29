//! Health checks: probes each check of a running task in time and tells only transitions.
//!
//! How probes count is `core::health`; whom to probe is `target`; how, is `probe`. A check never
//! stops its task: it says that it should be.

mod probe;
mod target;

use crate::clock::uptime_ms;
use crate::reconciler::Performer;
use bramble_core::health::{CheckHealth, Probed, observe, overall};
use bramble_core::model::{Assignment, HealthCheck, HealthCheckKind};
use std::sync::Arc;
use std::time::Duration;
use target::{Target, target};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// The first probe of a Marathon check comes after its interval, but no later than this.
const FIRST_PROBE_MS_MAX: u64 = 5_000;
/// An interval of zero would be a busy loop.
const INTERVAL_MS_MIN: u64 = 100;
/// Results waiting to be counted; a probe waits for its result to be taken.
const RESULTS_MAX: usize = 4;

/// What is known of a task whose checks begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Last word of its checks before the agent was restarted.
    pub healthy: Option<bool>,
    /// [`uptime_ms`] when it began to run.
    pub running_since_ms: u64,
}

/// What the checks say of their task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its health changed to this.
    Healthy(bool),
    /// It failed once more than its check puts up with.
    Kill,
}

/// The checks of one task; they end when this is dropped.
pub struct Checks {
    definitions: Vec<HealthCheck>,
    healths: Vec<CheckHealth>,
    told: Option<bool>,
    running_since_ms: u64,
    results: mpsc::Receiver<(usize, Probed)>,
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
        let definitions = assignment.spec.health_checks.clone();
        let (sender, results) = mpsc::channel(RESULTS_MAX);
        let mut probing = JoinSet::new();
        for (index, check) in definitions.iter().enumerate() {
            let Some(target) = target(check, &assignment.spec, ip.as_deref()) else {
                tracing::warn!(
                    task_id = %assignment.task_id,
                    check = index,
                    "a health check names no port of its task and is not run"
                );
                continue;
            };
            let prober = Prober {
                performer: Arc::clone(&performer),
                assignment: Arc::clone(&assignment),
                check: check.clone(),
                target,
                gate: Arc::clone(&gate),
            };
            probing.spawn(prober.probe_for_ever(index, sender.clone()));
        }
        let healths = vec![CheckHealth::resumed(resumed.healthy); definitions.len()];
        Self {
            healths,
            definitions,
            told: resumed.healthy,
            running_since_ms: resumed.running_since_ms,
            results,
            probing,
        }
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
            let Some((index, probed)) = self.results.recv().await else {
                return std::future::pending().await;
            };
            let running_ms = uptime_ms().saturating_sub(self.running_since_ms);
            if let Some(verdict) = self.count(index, probed, running_ms) {
                return verdict;
            }
        }
    }

    fn count(&mut self, index: usize, probed: Probed, running_ms: u64) -> Option<Verdict> {
        let observed = observe(self.healths[index], &self.definitions[index], running_ms, probed);
        self.healths[index] = observed.health;
        if observed.kill {
            return Some(Verdict::Kill);
        }
        let now = overall(&self.healths)?;
        if self.told == Some(now) {
            return None;
        }
        self.told = Some(now);
        Some(Verdict::Healthy(now))
    }
}

struct Prober<P> {
    performer: Arc<P>,
    assignment: Arc<Assignment>,
    check: HealthCheck,
    target: Target,
    gate: Arc<Semaphore>,
}

impl<P: Performer> Prober<P> {
    async fn probe_for_ever(self, index: usize, results: mpsc::Sender<(usize, Probed)>) {
        tokio::time::sleep(first_pause(&self.check)).await;
        let interval = Duration::from_millis(self.check.interval_ms.max(INTERVAL_MS_MIN));
        loop {
            let probed = self.probe().await;
            if results.send((index, probed)).await.is_err() {
                return;
            }
            tokio::time::sleep(interval).await;
        }
    }

    async fn probe(&self) -> Probed {
        // The gate is never closed.
        let _permit = self.gate.acquire().await;
        let timeout = Duration::from_millis(self.check.timeout_ms.max(1));
        let probing = async {
            match &self.target {
                Target::Http(http) => probe::http(http, self.check.ignore_http_1xx).await,
                Target::Tcp(address) => probe::tcp(*address).await,
                Target::Command(line) => {
                    let exit = self.performer.run_inside(&self.assignment.task_id, line).await;
                    if exit == Ok(0) { Probed::Success } else { Probed::Failure }
                }
            }
        };
        tokio::time::timeout(timeout, probing).await.unwrap_or(Probed::Failure)
    }
}

/// The pause before the first probe: Mesos' checks have a delay of their own.
fn first_pause(check: &HealthCheck) -> Duration {
    use HealthCheckKind::{Command, Http, Https, MesosHttp, MesosHttps, MesosTcp, Tcp};
    Duration::from_millis(match check.kind {
        Http | Https | Tcp => check.interval_ms.min(FIRST_PROBE_MS_MAX),
        Command | MesosHttp | MesosHttps | MesosTcp => check.delay_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::check;

    fn checks(definitions: Vec<HealthCheck>) -> Checks {
        Checks {
            healths: vec![CheckHealth::default(); definitions.len()],
            definitions,
            told: None,
            running_since_ms: 0,
            results: mpsc::channel(1).1,
            probing: JoinSet::new(),
        }
    }

    #[test]
    fn only_transitions_are_told_and_every_check_counts() {
        use Probed::{Failure, Success};
        let two = vec![check(HealthCheckKind::Http), check(HealthCheckKind::Tcp)];
        let mut checks = checks(two);
        let steps = [
            (0, Success, None),
            (1, Success, Some(Verdict::Healthy(true))),
            (0, Success, None),
            (1, Failure, Some(Verdict::Healthy(false))),
            (1, Failure, None),
            (1, Failure, None),
            (1, Failure, Some(Verdict::Kill)),
            (1, Success, Some(Verdict::Healthy(true))),
        ];
        for (step, (index, probed, expected)) in steps.into_iter().enumerate() {
            assert_eq!(checks.count(index, probed, 0), expected, "step {step}");
        }
    }

    #[test]
    fn the_first_probe_comes_soon() {
        let of = |kind, interval_ms, delay_ms| {
            first_pause(&HealthCheck { interval_ms, delay_ms, ..check(kind) }).as_millis()
        };
        assert_eq!(of(HealthCheckKind::Http, 60_000, 15_000), 5_000);
        assert_eq!(of(HealthCheckKind::Tcp, 1_000, 15_000), 1_000);
        assert_eq!(of(HealthCheckKind::MesosHttp, 1_000, 15_000), 15_000);
        assert_eq!(of(HealthCheckKind::Command, 1_000, 0), 0);
    }
}
