//! A change of apps worked out on paper: what every touched app becomes, before anything is
//! written. It must never change the state.

use super::groups;
use crate::command::{AppChange, GroupChange, Rejection};
use crate::model::{App, AppId, Goal, GroupId, GroupRecord, Instance, State, Time};
use std::collections::{BTreeMap, BTreeSet};

/// What the changes of one command come to.
pub(super) struct Draft {
    /// The touched apps as they shall be; `None` = removed.
    pub apps: BTreeMap<AppId, Option<App>>,
    /// The touched groups as they shall be; `None` = removed.
    pub groups: BTreeMap<GroupId, Option<GroupRecord>>,
    /// Apps that get new tasks although their definition stays.
    pub restarts: BTreeSet<AppId>,
    /// The version of everything that changes.
    pub version: Time,
}

/// Work out the changes in order, first of the groups, then of the apps, later ones seeing
/// earlier ones.
pub(super) fn draft(
    state: &State,
    group_changes: &[GroupChange],
    changes: &[AppChange],
) -> Result<Draft, Rejection> {
    let mut apps: BTreeMap<AppId, Option<App>> = BTreeMap::new();
    let mut groups = groups::draft(state, group_changes, &mut apps)?;
    let mut restarts = BTreeSet::new();
    for change in changes {
        let (id, app) = match change {
            AppChange::Create(app) | AppChange::Update(app) => (&app.id, Some(app.clone())),
            AppChange::Restart(id) => (id, current(state, &apps, id).cloned()),
            AppChange::Remove(id) => (id, None),
        };
        match (change, current(state, &apps, id)) {
            (AppChange::Create(_), Some(known)) => return Err(exists(known)),
            (AppChange::Create(_), None) | (_, Some(_)) => {}
            (_, None) => return Err(Rejection::AppUnknown(id.clone())),
        }
        match change {
            AppChange::Restart(_) => restarts.insert(id.clone()),
            // What is replaced or gone needs no restart of its own.
            AppChange::Create(_) | AppChange::Remove(_) => restarts.remove(id),
            AppChange::Update(_) => false,
        };
        apps.insert(id.clone(), app);
    }
    check_kinds(state, &apps)?;
    check_paths(state, &apps)?;
    groups::check_paths(state, &apps, &mut groups)?;
    let version = next_version(state, &apps);
    Ok(Draft { apps, groups, restarts, version })
}

pub(super) fn current<'a>(
    state: &'a State,
    apps: &'a BTreeMap<AppId, Option<App>>,
    id: &AppId,
) -> Option<&'a App> {
    match apps.get(id) {
        Some(drafted) => drafted.as_ref(),
        None => state.apps.get(id).map(|r| &r.app),
    }
}

fn exists(known: &App) -> Rejection {
    let id = known.id.clone();
    if known.is_pod() { Rejection::PodExists(id) } else { Rejection::AppExists(id) }
}

/// An app does not become a pod, nor a pod an app: its tasks, versions and clients are of one kind.
fn check_kinds(state: &State, apps: &BTreeMap<AppId, Option<App>>) -> Result<(), Rejection> {
    let drafted = apps.values().flatten();
    let known = drafted.filter_map(|app| Some((app, &state.apps.get(&app.id)?.app)));
    match known.into_iter().find(|(app, known)| app.is_pod() != known.is_pod()) {
        Some((_, known)) => Err(exists(known)),
        None => Ok(()),
    }
}

/// An app may not stand where another app's group is.
fn check_paths(state: &State, apps: &BTreeMap<AppId, Option<App>>) -> Result<(), Rejection> {
    let lives = |id: &AppId| current(state, apps, id).is_some();
    for id in apps.keys().filter(|id| lives(id) && !state.apps.contains_key(*id)) {
        let parents = id.0.char_indices().filter(|(at, c)| *c == '/' && *at > 0);
        for (at, _) in parents {
            let parent = AppId::new(&id.0[..at]);
            if lives(&parent) {
                return Err(Rejection::PathTaken(parent, id.clone()));
            }
        }
        let below = format!("{id}/");
        let from = AppId::new(below.clone());
        let stored = state.apps.range(from.clone()..).map(|(k, _)| k);
        let drafted = apps.range(from..).map(|(k, _)| k);
        let child = stored
            .take_while(|k| k.0.starts_with(&below))
            .chain(drafted.take_while(|k| k.0.starts_with(&below)))
            .find(|k| lives(k));
        if let Some(child) = child {
            return Err(Rejection::PathTaken(id.clone(), child.clone()));
        }
    }
    Ok(())
}

/// Later than every earlier version of every touched app and of the root group, and not before
/// now.
fn next_version(state: &State, apps: &BTreeMap<AppId, Option<App>>) -> Time {
    apps.keys()
        .filter_map(|id| state.record(id))
        .map(|record| record.app.version)
        .chain(state.groups.get(&GroupId::root()).map(|root| root.version))
        .map(|version| version.plus_ms(1))
        .fold(state.now, Time::max)
}

impl Draft {
    /// The apps that do not stay as they are.
    pub fn changed(&self, state: &State) -> BTreeSet<AppId> {
        let stays = |id: &AppId, app: Option<&App>| {
            !self.restarts.contains(id) && state.apps.get(id).map(|r| &r.app) == app
        };
        let changed = self.apps.iter().filter(|(id, app)| !stays(id, app.as_ref()));
        changed.map(|(id, _)| id.clone()).collect()
    }

    /// Set the versions of every app by what changes of it (Marathon's `versionInfo`, section 3);
    /// one that does not change at all stays as it was.
    ///
    /// What goes back `restores` the time of its configuration too: then tasks that have it
    /// already are seen to have it.
    pub fn set_versions(&mut self, state: &State, restores: bool) {
        let version = self.version;
        for (id, drafted) in &mut self.apps {
            let Some(app) = drafted else { continue };
            let old = state.apps.get(id).map(|r| &r.app);
            let Some(old) = old else {
                stamp(app, [version; 4]);
                continue;
            };
            let scaled = app.instances != old.instances;
            let scaling = if scaled { version } else { old.last_scaling };
            let restart = self.restarts.contains(id);
            if app.config() != old.config() {
                let again = if restores { config_again(state, app) } else { None };
                let resized = !restart && app.only_resizes(old);
                let tasks = if resized { old.tasks_since() } else { version };
                match again {
                    Some((config, tasks)) => stamp(app, [version, scaling, config, tasks]),
                    None => stamp(app, [version, version, version, tasks]),
                }
            } else if restart {
                stamp(app, [version, scaling, version, version]);
            } else if scaled {
                stamp(app, [version, scaling, old.last_config_change, old.tasks_since()]);
            } else {
                app.clone_from(old);
            }
            if has_outdated(state, old) {
                // A restart was cancelled half way: this change shall not leave its remains.
                self.restarts.insert(id.clone());
            }
        }
    }
}

fn stamp(app: &mut App, [version, scaling, config, tasks]: [Time; 4]) {
    app.version = version;
    app.last_scaling = scaling;
    app.last_config_change = config;
    app.last_restart = tasks;
}

/// When an app, as it was before, had got its configuration, if that is still known; and the
/// version from which on tasks differ from it in their size alone.
fn config_again(state: &State, app: &App) -> Option<(Time, Time)> {
    let earlier = state.apps.get(&app.id)?.at_version(app.version)?;
    let same = earlier.config() == app.config();
    same.then(|| (earlier.last_config_change, earlier.tasks_since()))
}

/// Whether a change of tasks is not at its end. A size that is only on its way may be refused yet.
fn has_outdated(state: &State, app: &App) -> bool {
    let Some(record) = state.apps.get(&app.id) else { return false };
    let outdated = |i: &Instance| i.goal == Goal::Running && !record.is_current(i.version);
    state.instances_of(&app.id).any(outdated)
}
