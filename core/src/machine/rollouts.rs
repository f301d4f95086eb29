//! New versions on trial: when a trial begins, how far it is, and the word that ends it.

use crate::command::Rejection;
use crate::deploy::{asked, review};
use crate::event::Event;
use crate::model::{
    ActionKind, App, AppId, Deployment, DeploymentId, Phase, Rollout, RolloutKind, State, Time,
};
use std::collections::BTreeMap;

/// The trials of a deployment that is about to begin: of every app that gets a new version, not
/// merely new tasks, and whose labels ask for one.
pub(super) fn of(state: &State, deployment: &Deployment) -> BTreeMap<AppId, Rollout> {
    let actions = deployment.plan.steps.iter().flat_map(|step| &step.actions);
    let restarts = actions.filter(|action| action.kind == ActionKind::Restart);
    restarts
        .filter_map(|action| {
            let id = &action.app_id;
            let old = deployment.original.apps.get(id)?;
            let new = deployment.target.apps.get(id)?;
            Some((id.clone(), trial(state, old, new)?))
        })
        .collect()
}

fn trial(state: &State, old: &App, new: &App) -> Option<Rollout> {
    let same = old.config() == new.config();
    // What was itself on trial is nothing to go back to.
    let untrusted = state.rollout(&old.id).filter(|earlier| !earlier.is_trusted());
    let (stable, stable_instances) = match untrusted {
        // The count is the user's word about the app, whichever version serves it.
        Some(earlier) if same => (earlier.stable, new.instances),
        Some(earlier) => (earlier.stable, earlier.stable_instances),
        None if same => return None,
        None => (old.version, old.instances),
    };
    let (asked, _) = asked(new);
    // With nothing running there is nothing to keep up.
    let kind = if stable_instances == 0 { RolloutKind::Rolling } else { asked.kind(new.instances) };
    let wanted = kind != RolloutKind::Rolling || asked.rollback_after_ms.is_some();
    wanted.then(|| Rollout {
        kind,
        phase: Phase::Pending,
        stable,
        stable_instances,
        rollback_after_ms: asked.rollback_after_ms,
        deadline: None,
        stable_delay: <_>::default(),
    })
}

/// Begin the trials of the step that a deployment has come to.
pub(super) fn enter_step(deployment: &mut Deployment, now: Time) {
    let apps: Vec<AppId> =
        deployment.current_actions().iter().map(|action| action.app_id.clone()).collect();
    for id in apps {
        let Some(rollout) = deployment.rollouts.get_mut(&id) else { continue };
        if rollout.phase == Phase::Pending {
            let staged = rollout.kind != RolloutKind::Rolling;
            rollout.enter(if staged { Phase::Trying } else { Phase::Rolling }, now);
        }
    }
}

/// End the trials of the step that is done: from now on it holds nothing back.
pub(super) fn leave_step(deployment: &mut Deployment, now: Time) {
    let apps: Vec<AppId> =
        deployment.current_actions().iter().map(|action| action.app_id.clone()).collect();
    for id in apps {
        if let Some(rollout) = deployment.rollouts.get_mut(&id)
            && rollout.phase != Phase::Pending
        {
            rollout.enter(Phase::Proven, now);
        }
    }
}

/// Write down what [`review`] finds; finding nothing changes nothing.
pub(super) fn record(state: &mut State, id: &DeploymentId) -> Result<Vec<Event>, Rejection> {
    let deployment = known(state, id)?;
    let found = review(deployment, state);
    Ok(enter(state, id, found))
}

pub(super) fn promote(state: &mut State, id: &DeploymentId) -> Result<Vec<Event>, Rejection> {
    let deployment = known(state, id)?;
    let in_phase = |phase| {
        let rollouts = deployment.rollouts.iter().filter(move |(_, r)| r.phase == phase);
        rollouts.map(|(app_id, _)| app_id.clone()).collect::<Vec<AppId>>()
    };
    let (still, waiting) = (in_phase(Phase::Trying), in_phase(Phase::Waiting));
    if !still.is_empty() || waiting.is_empty() {
        return Err(Rejection::NotWaiting { id: id.clone(), still });
    }
    let promoted = waiting.into_iter().map(|app_id| (app_id, Phase::Rolling)).collect();
    Ok(enter(state, id, promoted))
}

fn known<'a>(state: &'a State, id: &DeploymentId) -> Result<&'a Deployment, Rejection> {
    state.deployments.get(id).ok_or_else(|| Rejection::DeploymentUnknown(id.clone()))
}

fn enter(state: &mut State, id: &DeploymentId, phases: Vec<(AppId, Phase)>) -> Vec<Event> {
    let now = state.now;
    let Some(deployment) = state.deployments.get_mut(id) else { return Vec::new() };
    let mut events = Vec::new();
    for (app_id, phase) in phases {
        if let Some(rollout) = deployment.rollouts.get_mut(&app_id) {
            rollout.enter(phase, now);
            events.push(Event::RolloutChanged { id: id.clone(), app_id, phase });
        }
    }
    events
}
