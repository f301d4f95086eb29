//! From two groups to steps (Marathon's contract, section 2.4).

use super::layers::layers;
use crate::model::{ActionKind, App, AppId, DeploymentAction, Group, Plan, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Plan the steps from `original` to `target`: all stops, all starts, then one step for each layer
/// of dependencies, what others depend on first. Nothing to do gives no step.
pub fn plan(original: &Group, target: &Group) -> Plan {
    plan_with_restarts(original, target, &BTreeSet::new())
}

/// Plan the steps, restarting `restarts` even where their definition stays.
pub fn plan_with_restarts(original: &Group, target: &Group, restarts: &BTreeSet<AppId>) -> Plan {
    let action =
        |kind, app: &App| DeploymentAction { kind, app_id: app.id.clone(), pod: app.is_pod() };
    let stops = original
        .apps
        .values()
        .filter(|app| !target.apps.contains_key(&app.id))
        .map(|app| action(ActionKind::Stop, app))
        .collect();
    let starts = target
        .apps
        .values()
        .filter(|app| !original.apps.contains_key(&app.id))
        .map(|app| action(ActionKind::Start, app))
        .collect();
    let layers = layers(target);
    let mut changes: BTreeMap<usize, Vec<DeploymentAction>> = BTreeMap::new();
    for (id, app) in &target.apps {
        let forced = restarts.contains(id);
        let Some(kind) = change_of(original.apps.get(id), app, forced) else { continue };
        let layer = layers.of.get(id.as_str()).copied().unwrap_or_default();
        changes.entry(layer).or_default().push(action(kind, app));
    }
    let steps = [stops, starts]
        .into_iter()
        .chain(changes.into_values())
        .filter(|actions: &Vec<_>| !actions.is_empty())
        .map(|actions| Step { actions })
        .collect();
    Plan { steps }
}

fn change_of(original: Option<&App>, target: &App, forced: bool) -> Option<ActionKind> {
    let Some(original) = original else { return Some(ActionKind::Scale) };
    let restart = forced || (original != target && original.config() != target.config());
    if restart && target.instances > 0 {
        return Some(ActionKind::Restart);
    }
    (restart || original.instances != target.instances).then_some(ActionKind::Scale)
}
