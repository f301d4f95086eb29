//! Groups: what a command makes of them and of their past. Their apps are changed by `apps`.

use super::apps::{self, Request};
use super::draft::{Draft, current};
use crate::command::{GroupChange, Rejection};
use crate::event::Event;
use crate::model::{
    App, AppId, GROUP_HISTORY_APPS_MAX, GROUP_VERSIONS_MAX, Group, GroupChangeRecord, GroupId,
    GroupRecord, State,
};
use std::collections::{BTreeMap, BTreeSet};

type Apps = BTreeMap<AppId, Option<App>>;
type Groups = BTreeMap<GroupId, Option<GroupRecord>>;

pub(super) fn change(
    state: &mut State,
    group: &GroupId,
    request: &Request<'_>,
) -> Result<Vec<Event>, Rejection> {
    let (version, mut events) = apps::deploy_change(state, request)?;
    events.insert(0, Event::GroupChanged { group_id: group.clone(), version });
    Ok(events)
}

pub(super) fn enforce_role(
    state: &mut State,
    group: &GroupId,
    enforce: bool,
) -> Result<Vec<Event>, Rejection> {
    let record = state.group(group).ok_or_else(|| Rejection::GroupUnknown(group.clone()))?;
    let version = record.version;
    let record = GroupRecord { enforce_role: Some(enforce), ..record };
    state.groups.insert(group.clone(), record);
    Ok(vec![Event::GroupChanged { group_id: group.clone(), version }])
}

/// Work out the changes of groups in order. Apps of a removed group are removed in `apps`.
pub(super) fn draft(
    state: &State,
    changes: &[GroupChange],
    apps: &mut Apps,
) -> Result<Groups, Rejection> {
    let mut groups = Groups::new();
    for change in changes {
        match change {
            GroupChange::Create { id, dependencies } => {
                if present(state, &groups, id).is_some() {
                    return Err(Rejection::GroupExists(id.clone()));
                }
                put_draft(state, &mut groups, id, dependencies);
            }
            GroupChange::Put { id, dependencies } => {
                put_draft(state, &mut groups, id, dependencies);
            }
            GroupChange::Remove(id) => {
                if present(state, &groups, id).is_none() {
                    return Err(Rejection::GroupUnknown(id.clone()));
                }
                remove_draft(state, &mut groups, id, apps);
            }
        }
    }
    Ok(groups)
}

fn present(state: &State, groups: &Groups, id: &GroupId) -> Option<GroupRecord> {
    match groups.get(id) {
        Some(drafted) => drafted.clone(),
        None => state.group(id),
    }
}

fn put_draft(state: &State, groups: &mut Groups, id: &GroupId, dependencies: &[AppId]) {
    let earlier = present(state, groups, id).unwrap_or_default();
    let record = GroupRecord { dependencies: dependencies.to_vec(), ..earlier };
    groups.insert(id.clone(), Some(record));
}

fn remove_draft(state: &State, groups: &mut Groups, id: &GroupId, apps: &mut Apps) {
    apps.extend(state.apps_below(id).map(|(app, _)| (app.clone(), None)));
    let prefix = id.prefix();
    let below = |other: &GroupId| other.0.starts_with(&prefix) && !other.is_root();
    let stored: Vec<GroupId> = state.groups.keys().filter(|g| below(g)).cloned().collect();
    groups.extend(stored.into_iter().map(|group| (group, None)));
    for (_, drafted) in groups.iter_mut().filter(|(group, _)| below(group)) {
        *drafted = None;
    }
    let gone = if id.is_root() { Some(GroupRecord::default()) } else { None };
    groups.insert(id.clone(), gone);
}

/// A group may not stand where an app is. An app may stand where a group was, if nothing is left
/// in that group: one that only outlived its apps is in nobody's way.
pub(super) fn check_paths(
    state: &State,
    apps: &Apps,
    groups: &mut Groups,
) -> Result<(), Rejection> {
    for (id, _) in groups.iter().filter(|(_, record)| record.is_some()) {
        let own = AppId::new(id.as_str());
        let around = GroupId::around(id.as_str()).map(AppId::new);
        if let Some(app) = around.chain([own.clone()]).find(|a| current(state, apps, a).is_some()) {
            return Err(Rejection::PathTaken(app, own));
        }
    }
    let new = apps.iter().filter(|(id, app)| app.is_some() && !state.apps.contains_key(*id));
    for (id, _) in new {
        let group = GroupId::new(id.as_str());
        let prefix = group.prefix();
        let in_the_way = |other: &GroupId| *other == group || other.0.starts_with(&prefix);
        let stored = state.groups.range(group.clone()..).map(|(other, _)| other);
        // Paths that only begin alike (`/a-b`) may lie between a group and what is in it.
        let alike = stored.take_while(|other| other.0.starts_with(id.as_str()));
        let left: Vec<GroupId> = alike.filter(|other| in_the_way(other)).cloned().collect();
        for other in left {
            let record = present(state, groups, &other);
            if record.is_some_and(|record| !record.dependencies.is_empty()) {
                return Err(Rejection::PathTaken(id.clone(), AppId(other.0)));
            }
            groups.insert(other, None);
        }
    }
    Ok(())
}

/// Leave only groups that change, and give the version of the change to every group around it;
/// those that do not exist yet come to be.
pub(super) fn stamp(state: &State, draft: &mut Draft) {
    draft.groups.retain(|id, drafted| {
        let (old, new) = (state.group(id), drafted.as_ref());
        old.as_ref().map(essence) != new.map(essence)
            || (new.is_some() && !state.groups.contains_key(id))
    });
    let changed = draft.changed(state);
    let gone = |id: &AppId| draft.apps.get(id).is_some_and(Option::is_none);
    let paths = |alive: bool| {
        let apps = changed.iter().filter(move |id| gone(id) != alive).map(|id| id.0.clone());
        let groups = draft.groups.iter().filter(move |(_, g)| g.is_some() == alive);
        apps.chain(groups.map(|(id, _)| id.0.clone())).collect::<Vec<String>>()
    };
    let (dead, alive) = (paths(false), paths(true));
    let version = draft.version;
    for (path, revives) in dead.iter().map(|p| (p, false)).chain(alive.iter().map(|p| (p, true))) {
        let own = draft.groups.contains_key(&GroupId::new(path.as_str())).then_some(path.as_str());
        for around in GroupId::around(path).chain(own) {
            if current(state, &draft.apps, &AppId::new(around)).is_some() {
                continue;
            }
            let id = GroupId::new(around);
            let removed = draft.groups.get(&id).is_some_and(Option::is_none);
            if removed && !revives {
                continue;
            }
            let record = present(state, &draft.groups, &id).unwrap_or_default();
            draft.groups.insert(id, Some(GroupRecord { version, ..record }));
        }
    }
}

/// What of a record is more than bookkeeping.
fn essence(record: &GroupRecord) -> (&[AppId], Option<bool>) {
    (&record.dependencies, record.enforce_role)
}

/// Groups that are not the same in both, whatever their versions.
pub(super) fn differing(original: &Group, target: &Group) -> BTreeSet<GroupId> {
    let ids = original.groups.keys().chain(target.groups.keys());
    let differs = |id: &&GroupId| {
        original.groups.get(*id).map(essence) != target.groups.get(*id).map(essence)
    };
    ids.filter(differs).cloned().collect()
}

/// Keep what a draft is about to replace.
pub(super) fn remember(state: &mut State, draft: &Draft, changed: &BTreeSet<AppId>) {
    if changed.is_empty() && draft.groups.is_empty() {
        return;
    }
    let before = |id: &AppId| state.apps.get(id).map(|record| record.app.clone());
    let record = GroupChangeRecord {
        version: draft.version,
        apps: changed.iter().map(|id| (id.clone(), before(id))).collect(),
        groups: draft.groups.keys().map(|id| (id.clone(), state.group(id))).collect(),
    };
    state.group_history.push(record);
    let kept = |change: &GroupChangeRecord| change.apps.values().flatten().count();
    let mut definitions: usize = state.group_history.iter().map(kept).sum();
    let mut surplus = state.group_history.len().saturating_sub(GROUP_VERSIONS_MAX as usize);
    let last = state.group_history.len() - 1;
    let mut dropped = 0;
    while dropped < last && (surplus > 0 || definitions > GROUP_HISTORY_APPS_MAX as usize) {
        definitions -= kept(&state.group_history[dropped]);
        surplus = surplus.saturating_sub(1);
        dropped += 1;
    }
    state.group_history.drain(..dropped);
}

/// Write the groups of a draft.
pub(super) fn put(state: &mut State, groups: Groups) {
    for (id, record) in groups {
        match record {
            Some(record) => state.groups.insert(id, record),
            None => state.groups.remove(&id),
        };
    }
}
