//! The tasks that probe: when, with what bound, until when.
//!
//! Owns the rhythm of each kind of check. What a finding means is decided where they are counted.

use super::probe::{self, Outcome};
use super::target::{self, HttpTarget, Target};
use crate::reconciler::Performer;
use bramble_core::health::Probed;
use bramble_core::model::{
    Assignment, Check, CheckProbe, CheckResult, HealthCheck, HealthCheckKind, ReadinessCheck,
    ReadinessResult,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// The first probe of a Marathon check comes after its interval, but no later than this.
const FIRST_PROBE_MS_MAX: u64 = 5_000;
/// An interval of zero would be a busy loop.
const INTERVAL_MS_MIN: u64 = 100;

/// What one probe found.
#[derive(Debug)]
pub(super) enum Found {
    /// Of the health check with this index.
    Health(usize, Outcome),
    /// Of the readiness check with this index.
    Readiness(usize, ReadinessResult),
    Check(CheckResult),
}

/// What all probers of a task share.
pub(super) struct Prober<P> {
    pub performer: Arc<P>,
    pub assignment: Arc<Assignment>,
    pub ip: Option<String>,
    pub gate: Arc<Semaphore>,
    pub found: mpsc::Sender<Found>,
}

impl<P> Clone for Prober<P> {
    fn clone(&self) -> Self {
        Self {
            performer: Arc::clone(&self.performer),
            assignment: Arc::clone(&self.assignment),
            ip: self.ip.clone(),
            gate: Arc::clone(&self.gate),
            found: self.found.clone(),
        }
    }
}

impl<P: Performer> Prober<P> {
    /// Begin to probe every check; those of `ready` (by index) have said yes already.
    pub(super) fn spawn_all(self, ready: &[bool], probing: &mut JoinSet<()>) {
        let (spec, ip) = (&self.assignment.spec, self.ip.as_deref());
        for (index, check) in spec.health_checks.iter().enumerate() {
            match target::target(check, spec, ip) {
                Some(target) => {
                    probing.spawn(self.clone().health(index, check.clone(), target));
                }
                None => self.warn_without_port(index, "health"),
            }
        }
        for (index, probe) in spec.readiness.iter().enumerate() {
            if ready.get(index).copied().unwrap_or(false) {
                continue;
            }
            match target::of_readiness(probe, spec, ip) {
                Some(target) => {
                    probing.spawn(self.clone().readiness(index, probe.check.clone(), target));
                }
                None => self.warn_without_port(index, "readiness"),
            }
        }
        if let Some(check) = &spec.check {
            match target::of_check(check, spec, ip) {
                Some(target) => {
                    probing.spawn(self.clone().generic(check.clone(), target));
                }
                None => self.warn_without_port(0, "generic"),
            }
        }
    }

    fn warn_without_port(&self, index: usize, kind: &'static str) {
        tracing::warn!(
            task_id = %self.assignment.task_id,
            check = index,
            kind,
            "a check names no port of its task and is not run"
        );
    }

    async fn health(self, index: usize, check: HealthCheck, target: Target) {
        tokio::time::sleep(first_pause(&check)).await;
        loop {
            let timeout = check.timeout_ms;
            let outcome = self.bounded(timeout, self.probe(&target, check.ignore_http_1xx)).await;
            let late = || Outcome::failure(format!("no answer within {timeout} ms"));
            let outcome = outcome.unwrap_or_else(late);
            if self.found.send(Found::Health(index, outcome)).await.is_err() {
                return;
            }
            pause(check.interval_ms).await;
        }
    }

    /// Probe until ready: Marathon asks during deployments only, and a task is part of one for as
    /// long as that waits for it.
    async fn readiness(self, index: usize, check: ReadinessCheck, target: HttpTarget) {
        loop {
            let answer = self.bounded(check.timeout_ms, probe::answered(&target)).await.flatten();
            let status = answer.as_ref().map(|answer| answer.status);
            let ready = status.is_some_and(|s| check.ready_status_codes.contains(&s));
            let last_response = answer.filter(|_| check.preserve_last_response);
            let result = ReadinessResult { name: check.name.clone(), ready, last_response };
            if self.found.send(Found::Readiness(index, result)).await.is_err() || ready {
                return;
            }
            pause(check.interval_ms).await;
        }
    }

    async fn generic(self, check: Check, target: Target) {
        tokio::time::sleep(Duration::from_millis(check.delay_ms)).await;
        loop {
            let result = self.bounded(check.timeout_ms, self.look(&target)).await;
            let result = result.unwrap_or(match check.probe {
                CheckProbe::Exec { .. } => CheckResult::Exit(None),
                CheckProbe::Http { .. } => CheckResult::Http(None),
                CheckProbe::Tcp { .. } => CheckResult::Tcp(false),
            });
            if self.found.send(Found::Check(result)).await.is_err() {
                return;
            }
            pause(check.interval_ms).await;
        }
    }

    /// Probe in turn with others and in bounded time; `None` when it took too long.
    async fn bounded<T>(&self, timeout_ms: u64, probing: impl Future<Output = T>) -> Option<T> {
        // The gate is never closed.
        let _permit = self.gate.acquire().await;
        let timeout = Duration::from_millis(timeout_ms.max(1));
        tokio::time::timeout(timeout, probing).await.ok()
    }

    async fn probe(&self, target: &Target, ignore_1xx: bool) -> Outcome {
        match target {
            Target::Http(http) => probe::http(http, ignore_1xx).await,
            Target::Tcp(address) => probe::tcp(*address).await,
            Target::Command(line) => match self.run_inside(line).await {
                Ok(0) => Outcome::success(),
                Ok(code) => Outcome::failure(format!("the command exited with status {code}")),
                Err(cause) => Outcome::failure(cause),
            },
        }
    }

    async fn look(&self, target: &Target) -> CheckResult {
        match target {
            Target::Http(http) => CheckResult::Http(probe::answered(http).await.map(|a| a.status)),
            Target::Tcp(address) => {
                CheckResult::Tcp(probe::tcp(*address).await.probed == Probed::Success)
            }
            Target::Command(line) => CheckResult::Exit(self.run_inside(line).await.ok()),
        }
    }

    async fn run_inside(&self, line: &str) -> Result<i32, String> {
        let ran = self.performer.run_inside(&self.assignment.task_id, line).await;
        ran.map_err(|refusal| refusal.message)
    }
}

async fn pause(interval_ms: u64) {
    tokio::time::sleep(Duration::from_millis(interval_ms.max(INTERVAL_MS_MIN))).await;
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
