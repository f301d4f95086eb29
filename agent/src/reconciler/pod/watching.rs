//! Watching a pod that runs: the checks of each container, and which have ended.

use super::{Ends, member, status};
use crate::checks::{Checks, Resumed, Verdict};
use crate::reconciler::TaskNews;
use crate::reconciler::performer::Performer;
use bramble_core::model::{Assignment, ContainerStatus, ProbeReport, TaskState};
use futures_util::future::select_all;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// See the module.
pub(in crate::reconciler) struct PodWatch {
    pod: Arc<Assignment>,
    ends: watch::Receiver<Ends>,
    members: Vec<Member>,
}

struct Member {
    checks: Checks,
    has_health: bool,
    healthy: Option<bool>,
}

impl PodWatch {
    /// Begin to probe what still runs.
    pub(in crate::reconciler) fn begin<P: Performer>(
        performer: &Arc<P>,
        pod: Arc<Assignment>,
        ip: Option<String>,
        resumed: &Resumed,
        gate: &Arc<Semaphore>,
        mut ends: watch::Receiver<Ends>,
    ) -> Self {
        let members = pod.spec.pod.iter().zip(parts_of(resumed, &pod)).map(|(task, resumed)| {
            let healthy = resumed.healthy;
            let container = Arc::new(member(&pod, task));
            let has_health = !container.spec.health_checks.is_empty();
            let (performer, gate) = (Arc::clone(performer), Arc::clone(gate));
            let checks = Checks::begin(performer, container, ip.clone(), resumed, gate);
            Member { checks, has_health, healthy }
        });
        let members = members.collect();
        if ends.borrow().endings.iter().any(Option::is_some) {
            ends.mark_changed();
        }
        Self { pod, ends, members }
    }

    /// Stop probing.
    pub(in crate::reconciler) fn end(&mut self) {
        self.members.iter_mut().for_each(|member| member.checks.end());
    }

    /// The next news of a container. May be dropped and called again.
    pub(in crate::reconciler) async fn next(&mut self) -> TaskNews {
        let verdicts = self.members.iter_mut().map(|member| Box::pin(member.checks.next()));
        let verdict = tokio::select! {
            Ok(()) = self.ends.changed() => None,
            (verdict, at, _) = select_all(verdicts) => Some((at, verdict)),
        };
        match verdict {
            None => self.look_at_ends(),
            Some((at, Verdict::Turned { healthy, .. })) => self.members[at].healthy = healthy,
            Some((at, Verdict::Kill)) => {
                return TaskNews::Unhealthy { container: Some(self.pod.spec.pod[at].name.clone()) };
            }
        }
        self.news()
    }

    /// One that has ended, or is on its way out, fails its checks; that is no news.
    fn look_at_ends(&mut self) {
        let ends = self.ends.borrow_and_update();
        for (member, ending) in self.members.iter_mut().zip(&ends.endings) {
            if ending.is_some() || ends.culprit.is_some() {
                member.checks.end();
            }
        }
    }

    fn news(&self) -> TaskNews {
        let ends = self.ends.borrow();
        let ended = status::ended(&ends, &self.pod.spec.pod, None);
        let containers = self.pod.spec.pod.iter().zip(&self.members).zip(ended);
        let containers = containers.map(|((task, member), ended)| {
            let runs = || ContainerStatus {
                name: task.name.clone(),
                state: TaskState::Running,
                message: String::new(),
                healthy: None,
                exit_code: None,
            };
            ContainerStatus { healthy: member.healthy, ..ended.unwrap_or_else(runs) }
        });
        TaskNews::Containers {
            containers: containers.collect(),
            healthy: overall(&self.members, &ends),
            probes: self.probes(),
        }
    }

    /// The probes of all containers one after the other, in definition order.
    fn probes(&self) -> ProbeReport {
        let mut all = ProbeReport::default();
        for told in self.members.iter().map(|member| member.checks.told()) {
            all.health.extend(told.health.iter().cloned());
            all.readiness.extend(told.readiness.iter().cloned());
            all.check = all.check.or(told.check);
        }
        all
    }
}

/// Bad if a container that runs is, good if all that run and have health checks are.
fn overall(members: &[Member], ends: &Ends) -> Option<bool> {
    let runs = members.iter().zip(&ends.endings).filter(|(_, ending)| ending.is_none());
    let healths: Vec<Option<bool>> =
        runs.filter(|(member, _)| member.has_health).map(|(member, _)| member.healthy).collect();
    if healths.contains(&Some(false)) {
        return Some(false);
    }
    (!healths.is_empty() && healths.iter().all(|healthy| *healthy == Some(true))).then_some(true)
}

/// What was known of the pod's probes, container by container.
fn parts_of(resumed: &Resumed, pod: &Assignment) -> Vec<Resumed> {
    let mut told = resumed.probes.clone().unwrap_or_default();
    let part = |task: &bramble_core::model::PodTask| {
        let spec = &task.spec;
        let fits = told.health.len() >= spec.health_checks.len()
            && told.readiness.len() >= spec.readiness.len();
        let probes = fits.then(|| ProbeReport {
            health: told.health.drain(..spec.health_checks.len()).collect(),
            readiness: told.readiness.drain(..spec.readiness.len()).collect(),
            check: None,
        });
        let healthy = match &probes {
            Some(told) if !told.health.is_empty() => overall_of(told),
            _ => None,
        };
        Resumed { healthy, probes, running_since_ms: resumed.running_since_ms }
    };
    pod.spec.pod.iter().map(part).collect()
}

fn overall_of(told: &ProbeReport) -> Option<bool> {
    if told.health.iter().any(|health| health.alive == Some(false)) {
        return Some(false);
    }
    told.health.iter().all(|health| health.alive == Some(true)).then_some(true)
}
