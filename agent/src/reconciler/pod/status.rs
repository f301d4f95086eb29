//! How the containers of a pod and the pod as a whole are told. Pure.

use super::Ends;
use crate::reconciler::ending::{LEASE_OVER, Terminal, judge};
use crate::reconciler::performer::Ending;
use bramble_core::model::{ContainerStatus, PodTask, TaskSpec, TaskState};

/// Told of a pod whose containers have all done what they were there for.
const ALL_FINISHED: &str = "every container exited with status 0";
/// Told of a pod that was stopped where there is no reason worth telling.
const STOPPED: &str = "stopped";

/// Judge the end of a pod: failed where a container did not end well by itself, and it is named.
pub(in crate::reconciler) fn judge_pod(
    ends: &Ends,
    spec: &TaskSpec,
    stop_reason: Option<&str>,
) -> Terminal {
    let containers = ended(ends, &spec.pod, stop_reason);
    let culprit = ends.culprit.and_then(|at| containers.get(at)?.as_ref());
    let (state, message, exit_code) = match culprit {
        None => (TaskState::Finished, ALL_FINISHED.to_string(), Some(0)),
        Some(one) if one.state == TaskState::Failed => {
            (TaskState::Failed, format!("container {}: {}", one.name, one.message), one.exit_code)
        }
        Some(_) if ends.endings.iter().flatten().any(is_lease_over) => {
            (TaskState::Killed, stop_reason.unwrap_or(LEASE_OVER).to_string(), None)
        }
        Some(_) => (TaskState::Killed, stop_reason.unwrap_or(STOPPED).to_string(), None),
    };
    Terminal { state, message, exit_code, containers: containers.into_iter().flatten().collect() }
}

fn is_lease_over(ending: &Ending) -> bool {
    matches!(ending, Ending::Exited(exit) if exit.lease_over)
}

/// The containers that have ended, each judged as a task of its own.
pub(super) fn ended(
    ends: &Ends,
    pod: &[PodTask],
    stop_reason: Option<&str>,
) -> Vec<Option<ContainerStatus>> {
    let judged = |at: usize, reason: Option<&str>| {
        let ending = ends.endings.get(at)?.as_ref()?;
        Some(judge(ending, &pod.get(at)?.spec, reason))
    };
    let failed = ends.culprit.filter(|at| {
        judged(*at, stop_reason).is_some_and(|terminal| terminal.state == TaskState::Failed)
    });
    let stopped_by = failed.and_then(|at| Some(format!("container {} failed", pod.get(at)?.name)));
    let status = |(at, task): (usize, &PodTask)| {
        let reason = match failed {
            Some(culprit) if culprit != at => stop_reason.or(stopped_by.as_deref()),
            _ => stop_reason,
        };
        let Terminal { state, message, exit_code, .. } = judged(at, reason)?;
        Some(ContainerStatus { name: task.name.clone(), state, message, healthy: None, exit_code })
    };
    pod.iter().enumerate().map(status).collect()
}

/// Carry on what is known of a pod's containers: `told` is news of some or all of them, the rest
/// is where the pod is. Without a pod there are none.
pub(in crate::reconciler) fn carried(
    known: &[ContainerStatus],
    pod: &[PodTask],
    told: &[ContainerStatus],
    state: TaskState,
    message: &str,
) -> Vec<ContainerStatus> {
    let fresh = |task: &PodTask| ContainerStatus {
        name: task.name.clone(),
        state: TaskState::Staging,
        message: String::new(),
        healthy: None,
        exit_code: None,
    };
    let mut containers: Vec<ContainerStatus> = match known {
        [] => pod.iter().map(fresh).collect(),
        known => known.to_vec(),
    };
    for container in &mut containers {
        if let Some(told) = told.iter().find(|told| told.name == container.name) {
            *container =
                ContainerStatus { healthy: told.healthy.or(container.healthy), ..told.clone() };
        } else if !container.state.is_terminal() {
            container.state = state;
            if state.is_terminal() {
                container.message = message.to_string();
            }
        }
    }
    containers
}
