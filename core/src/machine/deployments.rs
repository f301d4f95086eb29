//! Deployments on their way, and the launch delay that they and users reset.

use super::rollouts;
use crate::command::Rejection;
use crate::event::Event;
use crate::model::{ActionKind, AppId, DeploymentId, LaunchDelay, State};

/// Deployments that may run at once (Marathon's `max_running_deployments`).
pub const DEPLOYMENTS_MAX: u32 = 100;

pub(super) fn advance(
    state: &mut State,
    id: &DeploymentId,
    from_step: u32,
) -> Result<Vec<Event>, Rejection> {
    let deployment =
        state.deployments.get_mut(id).ok_or_else(|| Rejection::DeploymentUnknown(id.clone()))?;
    let at = deployment.current_step;
    if at != from_step {
        return Err(Rejection::StepMismatch { id: id.clone(), at, from: from_step });
    }
    if at as usize + 1 >= deployment.plan.steps.len() {
        let deployment = Box::new(deployment.clone());
        state.deployments.remove(id);
        return Ok(vec![Event::DeploymentFinished { id: id.clone(), deployment }]);
    }
    rollouts::leave_step(deployment, state.now);
    deployment.current_step = at + 1;
    rollouts::enter_step(deployment, state.now);
    let shown = Box::new(deployment.clone());
    let restarts: Vec<AppId> = deployment
        .current_actions()
        .iter()
        .filter(|a| a.kind == ActionKind::Restart)
        .map(|a| a.app_id.clone())
        .collect();
    for app_id in restarts {
        // Old tasks may have failed while this step was waited for; the new config is not to
        // blame (Marathon resets the delay when a restart begins).
        if let Some(record) = state.apps.get_mut(&app_id) {
            record.delay = LaunchDelay::default();
        }
    }
    Ok(vec![Event::DeploymentStep { id: id.clone(), step: at + 1, deployment: shown }])
}

pub(super) fn cancel(state: &mut State, id: &DeploymentId) -> Result<Vec<Event>, Rejection> {
    let deployment =
        state.deployments.remove(id).ok_or_else(|| Rejection::DeploymentUnknown(id.clone()))?;
    Ok(vec![Event::DeploymentCancelled { id: id.clone(), deployment: Box::new(deployment) }])
}

pub(super) fn reset_delay(state: &mut State, app_id: &AppId) -> Result<Vec<Event>, Rejection> {
    let record = state.apps.get_mut(app_id).ok_or_else(|| Rejection::AppUnknown(app_id.clone()))?;
    record.delay = LaunchDelay::default();
    if let Some(rollout) = state.rollout_mut(app_id) {
        rollout.stable_delay = LaunchDelay::default();
    }
    Ok(vec![Event::DelayReset { app_id: app_id.clone() }])
}
