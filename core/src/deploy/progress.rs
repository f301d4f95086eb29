//! Where each app of a deployment stands, and which of its tasks the world is to see.

use super::crowd::{Crowd, count};
use crate::model::{
    ActionKind, AppId, Deployment, DeploymentAction, Instance, Phase, Rollout, RolloutKind, State,
    Time,
};

/// What happens to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its step has not begun.
    Pending,
    Starting,
    Stopping,
    Scaling,
    Rolling,
    /// Canaries start.
    Canary,
    /// They wait to be promoted or withdrawn.
    CanaryWaiting,
    /// A second set starts.
    Green,
    GreenWaiting,
    /// Promoted, it takes the place of the old version.
    Promoted,
    Done,
}

/// One of an app's two versions while one follows the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// `None`: there is no such version.
    pub version: Option<Time>,
    /// Instances that shall run in the present stage; of an old version that is replaced, 0.
    pub wanted: u32,
    /// Instances not told to stop.
    pub instances: u32,
    /// Those that do their work.
    pub ready: u32,
    /// Whether requests to the app may go to them.
    pub live: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    pub app_id: &'a AppId,
    pub stage: Stage,
    pub old: Set,
    pub new: Set,
    /// Instances of either that still stop.
    pub stopping: u32,
    pub rollout: Option<&'a Rollout>,
}

/// Say where every app of a deployment stands, in the order of its steps, each app once.
pub fn progress<'a>(deployment: &'a Deployment, state: &'a State) -> Vec<Progress<'a>> {
    // A new app starts in one step and grows in a later one: what counts is the action under way,
    // before that the first one to come, after that the last one.
    let mut all: Vec<(usize, &DeploymentAction)> = Vec::new();
    for (at, step) in deployment.plan.steps.iter().enumerate() {
        for action in &step.actions {
            match all.iter_mut().find(|(_, known)| known.app_id == action.app_id) {
                Some(known) if known.0 < deployment.current_step as usize => *known = (at, action),
                Some(_) => {}
                None => all.push((at, action)),
            }
        }
    }
    all.into_iter().map(|(at, action)| of_app(deployment, state, at, action)).collect()
}

fn of_app<'a>(
    deployment: &'a Deployment,
    state: &'a State,
    step: usize,
    action: &'a DeploymentAction,
) -> Progress<'a> {
    let app_id = &action.app_id;
    let rollout = deployment.rollouts.get(app_id);
    let stage = match step.cmp(&(deployment.current_step as usize)) {
        std::cmp::Ordering::Less => Stage::Done,
        std::cmp::Ordering::Greater => Stage::Pending,
        std::cmp::Ordering::Equal => stage(action.kind, rollout),
    };
    let crowd = Crowd::of(state, app_id);
    let wanted = crowd.app.map_or(0, |app| app.instances);
    let original = deployment.original.apps.get(app_id);
    let held = rollout.filter(|rollout| rollout.is_held());
    let mut old = set(&crowd, &crowd.old);
    old.version = rollout.map(|r| r.stable).or(original.map(|app| app.version));
    old.wanted = held.map_or(0, |rollout| rollout.stable_instances);
    let mut new = set(&crowd, &crowd.new);
    new.version = crowd.app.map(|app| app.version);
    new.wanted = held.map_or(wanted, |rollout| rollout.fresh(wanted));
    // The second set is seen once it is promoted, and once all of it works nothing else is.
    let second = rollout.is_some_and(|rollout| rollout.kind == RolloutKind::BlueGreen);
    new.live = !(second && held.is_some());
    old.live = !second || held.is_some() || new.ready < new.wanted;
    Progress { app_id, stage, old, new, stopping: crowd.stopping, rollout }
}

fn stage(kind: ActionKind, rollout: Option<&Rollout>) -> Stage {
    let trial = rollout.map(|rollout| (rollout.kind, rollout.phase));
    match (kind, trial) {
        (ActionKind::Start, _) => Stage::Starting,
        (ActionKind::Stop, _) => Stage::Stopping,
        (ActionKind::Scale, _) => Stage::Scaling,
        (ActionKind::Restart, None | Some((RolloutKind::Rolling, _))) => Stage::Rolling,
        (_, Some((RolloutKind::Canary { .. }, Phase::Pending | Phase::Trying))) => Stage::Canary,
        (_, Some((RolloutKind::Canary { .. }, Phase::Waiting))) => Stage::CanaryWaiting,
        (_, Some((RolloutKind::BlueGreen, Phase::Pending | Phase::Trying))) => Stage::Green,
        (_, Some((RolloutKind::BlueGreen, Phase::Waiting))) => Stage::GreenWaiting,
        (_, Some((_, Phase::Rolling | Phase::Proven))) => Stage::Promoted,
    }
}

fn set(crowd: &Crowd<'_>, instances: &[&Instance]) -> Set {
    let ready: Vec<_> = instances.iter().filter(|i| crowd.is_ready(i)).collect();
    Set { instances: count(instances), ready: count(&ready), ..Set::default() }
}
