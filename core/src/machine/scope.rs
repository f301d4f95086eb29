//! What of the cluster's apps the plan of a change has to look at: thousands that it neither changes
//! nor meets by a dependency are not copied for it.

use super::draft::Draft;
use crate::model::{App, AppId, Group, GroupId, State};
use std::collections::BTreeSet;

/// The root group as it is, without the apps that stand alone in the graph of dependencies and
/// that the draft leaves alone.
pub(super) fn of(state: &State, draft: &Draft) -> Group {
    let known = state.apps.values().map(|record| &record.app);
    let apps = known.chain(draft.apps.values().flatten());
    let drafted = draft.groups.iter().filter_map(|(id, group)| Some((id, group.as_ref()?)));
    // Apps and groups that something depends on, and groups that depend on something.
    let mut links: BTreeSet<&str> =
        apps.flat_map(|app| &app.dependencies).map(AppId::as_str).collect();
    for (id, group) in state.groups.iter().chain(drafted) {
        if !group.dependencies.is_empty() {
            links.insert(id.as_str());
            links.extend(group.dependencies.iter().map(AppId::as_str));
        }
    }
    let linked = |app: &App| {
        let around = || GroupId::around(app.id.as_str()).chain([app.id.as_str()]);
        !app.dependencies.is_empty()
            || (!links.is_empty() && around().any(|path| links.contains(path)))
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
