//! How far new versions on trial have come, and whose time is over.

use super::IdSource;
use super::crowd::Crowd;
use crate::command::Command;
use crate::model::{
    ActionKind, AppId, Deployment, DeploymentId, Phase, Rollout, State, Time, UndoReason,
};

/// The apps of the present step that are on trial and still there.
fn on_trial<'a>(
    deployment: &'a Deployment,
    state: &'a State,
) -> impl Iterator<Item = (&'a AppId, &'a Rollout, bool)> {
    let actions = deployment.current_actions().iter().filter(|a| a.kind == ActionKind::Restart);
    actions.filter_map(|action| {
        let id = &action.app_id;
        let rollout = deployment.rollouts.get(id)?;
        let app = &state.apps.get(id)?.app;
        let ready = Crowd::of(state, id).new_ready_count() >= rollout.fresh(app.instances);
        Some((id, rollout, ready))
    })
}

/// The phases that new versions have reached and that are not written down yet.
pub(crate) fn review(deployment: &Deployment, state: &State) -> Vec<(AppId, Phase)> {
    let next = |(id, rollout, ready): (&AppId, &Rollout, bool)| {
        let phase = match (rollout.phase, ready) {
            (Phase::Trying, true) => Phase::Waiting,
            // One of them failed meanwhile: it has as long as at first.
            (Phase::Waiting, false) => Phase::Trying,
            (Phase::Rolling, true) if rollout.deadline.is_some() => Phase::Proven,
            _ => return None,
        };
        Some((id.clone(), phase))
    };
    on_trial(deployment, state).filter_map(next).collect()
}

/// Why a deployment has to be taken back at `now`, if it has to.
pub(crate) fn overdue(deployment: &Deployment, state: &State, now: Time) -> Option<UndoReason> {
    let late = |rollout: &Rollout| rollout.deadline.is_some_and(|deadline| deadline <= now);
    // Asked of every deployment at every look: most have nothing on trial.
    if !deployment.rollouts.values().any(late) {
        return None;
    }
    let (id, rollout, _) = on_trial(deployment, state).find(|(_, r, ready)| late(r) && !ready)?;
    let after_ms = rollout.rollback_after_ms.unwrap_or_default();
    Some(UndoReason::Overdue { app_id: id.clone(), after_ms })
}

/// The command that takes back a deployment whose time is over at `now`.
///
/// It comes instead of all that [`advance`](super::advance) wants: that would be meant for the
/// version which goes.
pub fn give_up(
    deployment: &Deployment,
    state: &State,
    now: Time,
    ids: &mut dyn IdSource,
) -> Option<Command> {
    let reason = overdue(deployment, state, now)?;
    let (id, deployment_id) = (deployment.id.clone(), DeploymentId::new(ids.uuid()));
    Some(Command::RollBack { id, deployment_id, reason })
}

/// The next deadline, past ones included; nothing else tells the deployer to look.
pub fn next_deadline(state: &State) -> Option<Time> {
    state.deployments.values().flat_map(|d| d.rollouts.values()).filter_map(|r| r.deadline).min()
}
