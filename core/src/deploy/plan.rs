//! From two groups to steps (Marathon's contract, section 2.4).

use crate::model::{ActionKind, App, AppId, DeploymentAction, Group, Plan, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Plan the steps from `original` to `target`: all stops, all starts, then one step for each layer
/// of dependencies, what others depend on first. Nothing to do gives no step.
pub fn plan(original: &Group, target: &Group) -> Plan {
    plan_with_restarts(original, target, &BTreeSet::new())
}

/// Plan the steps, restarting `restarts` even where their definition stays.
pub fn plan_with_restarts(original: &Group, target: &Group, restarts: &BTreeSet<AppId>) -> Plan {
    let action = |kind, id: &AppId| DeploymentAction { kind, app_id: id.clone() };
    let stops = original
        .apps
        .keys()
        .filter(|id| !target.apps.contains_key(*id))
        .map(|id| action(ActionKind::Stop, id))
        .collect();
    let starts = target
        .apps
        .keys()
        .filter(|id| !original.apps.contains_key(*id))
        .map(|id| action(ActionKind::Start, id))
        .collect();
    let layers = layers(target);
    let mut changes: BTreeMap<usize, Vec<DeploymentAction>> = BTreeMap::new();
    for (id, app) in &target.apps {
        let forced = restarts.contains(id);
        let Some(kind) = change_of(original.apps.get(id), app, forced) else { continue };
        let layer = layers.get(id).copied().unwrap_or_default();
        changes.entry(layer).or_default().push(action(kind, id));
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

/// How long a chain of dependencies each app stands on. Worked off from the leaves, not by
/// recursion: a chain may be as long as there are apps. Apps of a cycle come last.
fn layers(group: &Group) -> BTreeMap<&AppId, usize> {
    let mut open: BTreeMap<&AppId, usize> = BTreeMap::new();
    let mut dependants: BTreeMap<&AppId, Vec<&AppId>> = BTreeMap::new();
    for (id, app) in &group.apps {
        let needs: BTreeSet<&AppId> =
            app.dependencies.iter().flat_map(|d| members(group, d)).filter(|n| *n != id).collect();
        open.insert(id, needs.len());
        for need in needs {
            dependants.entry(need).or_default().push(id);
        }
    }
    let mut layers = BTreeMap::new();
    let mut ready: Vec<&AppId> =
        open.iter().filter(|(_, needs)| **needs == 0).map(|(id, _)| *id).collect();
    let mut layer = 0;
    while !ready.is_empty() {
        let mut next = Vec::new();
        for id in ready {
            layers.insert(id, layer);
            for dependant in dependants.get(id).into_iter().flatten() {
                if let Some(needs) = open.get_mut(*dependant) {
                    *needs -= 1;
                    if *needs == 0 {
                        next.push(*dependant);
                    }
                }
            }
        }
        ready = next;
        layer += 1;
    }
    for id in group.apps.keys() {
        layers.entry(id).or_insert(layer);
    }
    layers
}

/// The apps a dependency names: one app, or all of a group.
fn members<'a>(group: &'a Group, named: &AppId) -> Vec<&'a AppId> {
    if let Some((id, _)) = group.apps.get_key_value(named) {
        return vec![id];
    }
    let below = format!("{}/", named.0.trim_end_matches('/'));
    group
        .apps
        .range(AppId::new(below.clone())..)
        .map(|(id, _)| id)
        .take_while(|id| id.0.starts_with(&below))
        .collect()
}
