//! What of the cluster's apps the plan of a change has to look at: thousands that it neither changes
//! nor meets by a dependency are not copied for it.

use super::draft::Draft;
use crate::model::{App, AppId, Group, GroupId, State};
use std::collections::BTreeSet;

/// The root group as it is, without the apps that stand alone in the graph of dependencies and
/// that the draft leaves alone.
pub(super) fn of(state: &State, draft: &Draft) -> Group {
    let known = state.apps.values().map(|record| &record.app);
    let apps = || known.clone().chain(draft.apps.values().flatten());
    let groups = || state.groups.iter().chain(draft.groups.iter().filter_map(present));
    let gates: BTreeSet<&str> =
        groups().filter(|(_, g)| !g.dependencies.is_empty()).map(|(id, _)| id.as_str()).collect();
    let of_apps = apps().flat_map(|app| &app.dependencies);
    let named: BTreeSet<&str> = of_apps
        .chain(groups().flat_map(|(_, group)| &group.dependencies))
        .map(AppId::as_str)
        .collect();
    let linked = |app: &App| {
        let id = app.id.as_str();
        let by_group = |around: &str| gates.contains(around) || named.contains(around);
        !app.dependencies.is_empty()
            || named.contains(id)
            || ((!gates.is_empty() || !named.is_empty()) && GroupId::around(id).any(by_group))
    };
    let involved =
        state.apps.iter().filter(|(id, r)| draft.apps.contains_key(*id) || linked(&r.app));
    let mut root = Group {
        apps: involved.map(|(id, record)| (id.clone(), record.app.clone())).collect(),
        groups: state.groups.clone(),
    };
    // Of those that only follow from paths, what the draft changes.
    for id in draft.groups.keys().filter(|id| !state.groups.contains_key(*id)) {
        root.groups.extend(state.group(id).map(|record| (id.clone(), record)));
    }
    root
}

fn present<'a, K, V>((key, value): (&'a K, &'a Option<V>)) -> Option<(&'a K, &'a V)> {
    value.as_ref().map(|value| (key, value))
}
