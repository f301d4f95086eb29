//! From a group in a request to the changes it means: relative ids, replaced members, scaling.
//!
//! Pure, as the rest of this room. Conflicts with what is there, locks and cycles are core's to
//! find when the changes are applied.

use super::{normalize, normalize_pod, pod_violations};
use bramble_core::command::{AppChange, GroupChange};
use bramble_core::model::{App, AppId, Group, GroupId, PPM, Time};
use bramble_core::validate::{self, Violation};
use bramble_protocol::rest::error::{FieldError, fields};
use bramble_protocol::rest::group::GroupUpdate;
use bramble_protocol::rest::pod::PodUpdate;
use bramble_protocol::rest::update::{AppUpdate, Field};
use std::collections::BTreeSet;

/// Most instances of an app (Marathon's 32-bit integer).
const INSTANCES_MAX: u64 = i32::MAX as u64;
/// Mistakes kept of one request; more would only say the same again.
const ERRORS_MAX: usize = 200;

const ALONE: &str = "not allowed in conjunction with other properties.";

/// What a request about a group comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupWork {
    pub groups: Vec<GroupChange>,
    pub apps: Vec<AppChange>,
}

/// Resolve a group's id as written against the group `base`.
///
/// # Errors
/// Every rule that it breaks, at `/id`.
pub fn resolve_group_id(text: &str, base: &GroupId) -> Result<GroupId, FieldError> {
    match validate::resolve_path(text, base.as_str()) {
        Ok(path) => Ok(GroupId(path)),
        Err(errors) => Err(FieldError { path: "/id".into(), errors }),
    }
}

/// Whether a request is a single order (`scaleBy`, `version`) or a definition, never both.
///
/// # Errors
/// The order's key, when there are others beside it.
pub fn check_alone(update: &GroupUpdate) -> Result<(), Vec<FieldError>> {
    let orders =
        [("/scaleBy", update.scale_by_ppm.is_given()), ("/version", update.version.is_given())];
    if update.goes_alone() || orders.iter().all(|(_, given)| !given) {
        return Ok(());
    }
    let given = orders.iter().filter(|(_, given)| *given);
    Err(given.map(|(path, _)| FieldError::new(*path, ALONE)).collect())
}

/// Give the changes that make the group `id` what `update` says.
///
/// # Errors
/// Everything wrong in the whole tree, each at its path.
pub fn define(
    update: &GroupUpdate,
    id: &GroupId,
    current: &Group,
    now: Time,
) -> Result<GroupWork, Vec<FieldError>> {
    let mut walk = Walk::new(current, now);
    walk.group(update, id, "");
    if walk.errors.is_empty() { Ok(walk.work) } else { Err(walk.errors) }
}

struct Walk<'a> {
    current: &'a Group,
    now: Time,
    work: GroupWork,
    errors: Vec<FieldError>,
    apps: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn new(current: &'a Group, now: Time) -> Self {
        Self {
            current,
            now,
            work: GroupWork::default(),
            errors: Vec::new(),
            apps: BTreeSet::new(),
            groups: BTreeSet::new(),
        }
    }

    fn fail(&mut self, path: &str, mut error: FieldError) {
        if self.errors.len() < ERRORS_MAX {
            error.path = if error.path == "/" && !path.is_empty() {
                path.to_string()
            } else {
                format!("{path}{}", error.path)
            };
            self.errors.push(error);
        }
    }

    fn group(&mut self, update: &GroupUpdate, id: &GroupId, path: &str) {
        let known = self.current.groups.get(id).map(|record| record.dependencies.clone());
        let dependencies = match update.dependencies.given() {
            Some(texts) => self.dependencies(texts, id.as_str(), path),
            None => known.unwrap_or_default(),
        };
        self.work.groups.push(GroupChange::Put { id: id.clone(), dependencies });
        let (apps, pods) = (update.apps.given(), update.pods.given());
        for (i, app) in apps.into_iter().flatten().enumerate() {
            self.member(app, id, &format!("{path}/apps({i})"));
        }
        for (i, pod) in pods.into_iter().flatten().enumerate() {
            self.pod(pod, id, &format!("{path}/pods({i})"));
        }
        // After both lists: what one of them names is not gone because the other leaves it out.
        for (listed, pods) in [(apps.is_some(), false), (pods.is_some(), true)] {
            if listed {
                self.remove_others(id, pods);
            }
        }
        if let Some(groups) = update.groups.given() {
            self.subgroups(groups, id, path);
        }
    }

    fn dependencies(&mut self, texts: &[String], base: &str, path: &str) -> Vec<AppId> {
        let mut ids: Vec<AppId> = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            match validate::resolve(text, base) {
                Ok(id) if ids.contains(&id) => {}
                Ok(id) => ids.push(id),
                Err(errors) => {
                    let error = FieldError { path: format!("/dependencies({i})"), errors };
                    self.fail(path, error);
                }
            }
        }
        ids
    }

    /// Remove the apps, or the pods, directly in a group that the request does not define.
    fn remove_others(&mut self, group: &GroupId, pods: bool) {
        let members = self.current.apps_below(group);
        let gone = members.filter(|(id, app)| {
            app.is_pod() == pods
                && is_direct(id.as_str(), group)
                && !self.apps.contains(id.as_str())
        });
        self.work.apps.extend(gone.map(|(id, _)| AppChange::Remove(id.clone())));
    }

    /// The id of an app or a pod, if it is right and given once.
    fn own_id(&mut self, id: &Field<String>, group: &GroupId, path: &str) -> Option<AppId> {
        let resolved = match id.given() {
            Some(text) => validate::resolve(text, group.as_str())
                .map_err(|errors| FieldError { path: "/id".into(), errors })
                .and_then(|id| {
                    check_child(text, id.as_str(), group)?;
                    Ok(id)
                }),
            None => Err(FieldError::new("/id", "error.path.missing")),
        };
        let id = match resolved {
            Ok(id) => id,
            Err(error) => {
                self.fail(path, error);
                return None;
            }
        };
        if !self.apps.insert(id.0.clone()) {
            self.fail(path, FieldError::new("/id", format!("{id} is defined twice")));
            return None;
        }
        self.check_kinds(id.as_str(), path);
        Some(id)
    }

    fn pod(&mut self, update: &PodUpdate, group: &GroupId, path: &str) {
        let Some(id) = self.own_id(&update.common.id, group, path) else { return };
        match normalize_pod(update, id.clone(), self.now) {
            Ok(app) => {
                let broken = pod_violations(&app, self.current.apps.get(&id));
                fields(&broken).into_iter().for_each(|error| self.fail(path, error));
                self.put(app);
            }
            Err(errors) => errors.into_iter().for_each(|error| self.fail(path, error)),
        }
    }

    fn put(&mut self, app: App) {
        let known = self.current.apps.contains_key(&app.id);
        let change = if known { AppChange::Update } else { AppChange::Create };
        self.work.apps.push(change(app));
    }

    fn member(&mut self, update: &AppUpdate, group: &GroupId, path: &str) {
        let Some(id) = self.own_id(&update.id, group, path) else { return };
        let mut update = update.clone();
        if let Field::Given(texts) = &update.dependencies {
            let ids = self.dependencies(&texts.clone(), group.as_str(), path);
            update.dependencies = Field::Given(ids.into_iter().map(|id| id.0).collect());
        }
        let app = match normalize(&update, id.clone(), None, self.now) {
            Ok(app) => app,
            Err(errors) => {
                return errors.into_iter().for_each(|error| self.fail(path, error));
            }
        };
        self.violations(&app, path);
        self.put(app);
    }

    fn violations(&mut self, app: &App, path: &str) {
        let mut broken: Vec<Violation> = validate::validate(app);
        if let Some(old) = self.current.apps.get(&app.id) {
            broken.extend(validate::validate_change(old, app));
        }
        for error in fields(&broken) {
            self.fail(path, error);
        }
    }

    fn subgroups(&mut self, groups: &[GroupUpdate], group: &GroupId, path: &str) {
        let mut listed = BTreeSet::new();
        for (i, update) in groups.iter().enumerate() {
            let path = format!("{path}/groups({i})");
            let resolved = match update.id.given() {
                Some(text) => resolve_group_id(text, group).and_then(|id| {
                    check_child(text, id.as_str(), group)?;
                    Ok(id)
                }),
                None => Err(FieldError::new("/id", "error.path.missing")),
            };
            match resolved {
                Ok(id) if !self.groups.insert(id.0.clone()) => {
                    self.fail(&path, FieldError::new("/id", format!("{id} is defined twice")));
                }
                Ok(id) => {
                    self.check_kinds(id.as_str(), &path);
                    for key in check_alone(update).err().into_iter().flatten() {
                        self.fail(&path, key);
                    }
                    if update.scale_by_ppm.is_given() {
                        let message = "only the group that the path names can be scaled";
                        self.fail(&path, FieldError::new("/scaleBy", message));
                    }
                    if listed.insert(id.clone()) {
                        self.group(update, &id, &path);
                    }
                }
                Err(error) => self.fail(&path, error),
            }
        }
        let gone = self.current.groups_below(group).map(|(id, _)| id);
        // An app may be listed by a path that leads through a group nobody lists.
        let kept = |id: &GroupId| {
            let prefix = id.prefix();
            let group = listed.iter().any(|l| l == id || l.0.starts_with(&prefix));
            group || self.apps.iter().any(|app| app.starts_with(&prefix))
        };
        let gone: Vec<GroupId> =
            gone.filter(|id| is_direct(id.as_str(), group) && !kept(id)).cloned().collect();
        self.work.groups.extend(gone.into_iter().map(GroupChange::Remove));
    }

    fn check_kinds(&mut self, id: &str, path: &str) {
        if self.apps.contains(id) && self.groups.contains(id) {
            let message = "Groups and Applications may not have the same identifier.";
            self.fail(path, FieldError::new("/id", message));
        }
    }
}

/// A member written absolutely must be a child of its group; one written relatively must not
/// leave it.
fn check_child(text: &str, id: &str, group: &GroupId) -> Result<(), FieldError> {
    let inside = id.starts_with(&group.prefix()) && id != group.as_str();
    let child = !text.starts_with('/') || group.is_root() || is_direct(id, group);
    if inside && child {
        return Ok(());
    }
    Err(FieldError::new("/id", format!("Identifier is not child of '{group}'")))
}

fn is_direct(id: &str, group: &GroupId) -> bool {
    GroupId::parent_of(id).as_ref() == Some(group)
}

/// Give the changes that multiply the count of every app below `id`, rounded up.
///
/// # Errors
/// A count that an app may not have, at `/scaleBy`.
pub fn scale(current: &Group, id: &GroupId, factor_ppm: u64) -> Result<GroupWork, Vec<FieldError>> {
    let mut work = GroupWork::default();
    let mut broken = Vec::new();
    for (_, app) in current.apps_below(id) {
        let wanted = (u128::from(app.instances) * u128::from(factor_ppm)).div_ceil(u128::from(PPM));
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX).min(INSTANCES_MAX);
        let instances = u32::try_from(wanted).unwrap_or(u32::MAX);
        let scaled = App { instances, ..app.clone() };
        for violation in validate::validate(&scaled) {
            broken.push(Violation::new("/scaleBy", format!("{}: {}", app.id, violation.message)));
        }
        work.apps.push(AppChange::Update(scaled));
    }
    broken.truncate(ERRORS_MAX);
    if broken.is_empty() { Ok(work) } else { Err(fields(&broken)) }
}

/// Give the changes that bring everything below `id` back to what it was in `earlier`.
pub fn restore(current: &Group, id: &GroupId, earlier: &Group) -> GroupWork {
    let mut work = GroupWork::default();
    let own = |group: &Group| group.groups.get(id).map(|r| (id.clone(), r.dependencies.clone()));
    let below = |group: &Group| -> Vec<(GroupId, Vec<AppId>)> {
        let all = group.groups_below(id).map(|(id, r)| (id.clone(), r.dependencies.clone()));
        own(group).into_iter().chain(all).collect()
    };
    let kept: Vec<(GroupId, Vec<AppId>)> = below(earlier);
    // Removals first: a removed group takes its apps along, and some may be in kept ones' way.
    let gone = below(current).into_iter().filter(|(id, _)| !kept.iter().any(|(k, _)| k == id));
    let mut removed: Vec<GroupId> = Vec::new();
    for (group, _) in gone {
        if !removed.iter().any(|above| group.0.starts_with(&above.prefix())) {
            removed.push(group);
        }
    }
    let vanishes = |app: &AppId| removed.iter().any(|group| app.0.starts_with(&group.prefix()));
    for (app, _) in current.apps_below(id) {
        if !earlier.apps.contains_key(app) && !vanishes(app) {
            work.apps.push(AppChange::Remove(app.clone()));
        }
    }
    for (app_id, app) in earlier.apps_below(id) {
        let known = current.apps.contains_key(app_id);
        let change = if known { AppChange::Update } else { AppChange::Create };
        work.apps.push(change(app.clone()));
    }
    work.groups.extend(removed.into_iter().map(GroupChange::Remove));
    let put = |(id, dependencies)| GroupChange::Put { id, dependencies };
    work.groups.extend(kept.into_iter().map(put));
    work
}
