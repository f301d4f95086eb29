//! Groups: what the cluster keeps of them beside the paths of their apps, and their past.
//!
//! Apps stay flat, by path; a group is what its members' paths have in common, plus a record. Its
//! past is kept as what each change replaced, so that an app that did not change costs nothing.

use super::{App, AppId, Group, GroupId, State, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Earlier changes kept (Marathon's `zk_max_versions`).
pub const GROUP_VERSIONS_MAX: u32 = 50;
/// Replaced app definitions kept in all of them together: a group of a thousand apps changed
/// again and again must not fill the memory. The latest change is kept whatever its size.
pub const GROUP_HISTORY_APPS_MAX: u32 = 4096;

/// A group besides its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Apps or groups that have to be up before any app of this group is touched.
    pub dependencies: Vec<AppId>,
    /// Only of groups directly below the root; `None`: never said.
    pub enforce_role: Option<bool>,
    /// Time of the last change of anything in the group.
    pub version: Time,
}

/// What one change replaced; `None` = it was not there before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChangeRecord {
    /// The version that the change made.
    pub version: Time,
    pub apps: BTreeMap<AppId, Option<App>>,
    /// Every changed group and all groups around what changed.
    pub groups: BTreeMap<GroupId, Option<GroupRecord>>,
}

impl Group {
    /// Add the groups that follow from the paths of apps alone.
    fn imply(&mut self) {
        for (id, app) in &self.apps {
            for path in GroupId::around(id.as_str()) {
                let group = GroupId::new(path);
                let implied = || GroupRecord { version: app.version, ..GroupRecord::default() };
                self.groups.entry(group).or_insert_with(implied);
            }
        }
        self.groups.entry(GroupId::root()).or_default();
    }

    /// Apps below a group at any depth, in order.
    pub fn apps_below(&self, group: &GroupId) -> impl Iterator<Item = (&AppId, &App)> {
        let prefix = group.prefix();
        let from = AppId::new(prefix.clone());
        self.apps.range(from..).take_while(move |(id, _)| id.0.starts_with(&prefix))
    }

    /// Groups below a group at any depth, without itself, in order.
    pub fn groups_below(&self, group: &GroupId) -> impl Iterator<Item = (&GroupId, &GroupRecord)> {
        let prefix = group.prefix();
        let from = GroupId::new(prefix.clone());
        let below = self.groups.range(from..).take_while(move |(id, _)| id.0.starts_with(&prefix));
        // The root's own path is its prefix.
        below.filter(|(id, _)| !id.is_root())
    }
}

impl State {
    /// Every app and group as one group, the implied ones included.
    pub fn root(&self) -> Group {
        let apps = self.apps.iter().map(|(id, r)| (id.clone(), r.app.clone())).collect();
        let mut root = Group { apps, groups: self.groups.clone() };
        root.imply();
        root
    }

    /// A group's record, also of one that only follows from the paths of apps; `None`: there is
    /// no such group.
    pub fn group(&self, id: &GroupId) -> Option<GroupRecord> {
        if let Some(record) = self.groups.get(id) {
            return Some(record.clone());
        }
        let version = self.apps_below(id).map(|(_, record)| record.app.version).max();
        let exists = version.is_some() || id.is_root();
        let version = version.unwrap_or_default();
        exists.then(|| GroupRecord { version, ..GroupRecord::default() })
    }

    /// Apps below a group at any depth, in order.
    pub fn apps_below(&self, group: &GroupId) -> impl Iterator<Item = (&AppId, &super::AppRecord)> {
        let prefix = group.prefix();
        let from = AppId::new(prefix.clone());
        self.apps.range(from..).take_while(move |(id, _)| id.0.starts_with(&prefix))
    }

    /// The known versions of a group, newest first; empty when it is not there now.
    pub fn group_versions(&self, id: &GroupId) -> Vec<Time> {
        let Some(record) = self.group(id) else { return Vec::new() };
        let earlier = self.group_history.iter().rev().filter_map(|change| change.groups.get(id));
        let mut versions = vec![record.version];
        versions.extend(earlier.flatten().map(|record| record.version));
        versions.dedup();
        versions
    }

    /// Everything as it was right after the change that made `version`; `None` when that is not
    /// known (any more).
    pub fn root_at(&self, version: Time) -> Option<Group> {
        let mut root = self.root();
        for change in self.group_history.iter().rev() {
            if root.groups.get(&GroupId::root()).is_some_and(|r| r.version == version) {
                break;
            }
            restore(&mut root.apps, &change.apps);
            restore(&mut root.groups, &change.groups);
            root.groups.entry(GroupId::root()).or_default();
        }
        let found = root.groups.get(&GroupId::root()).is_some_and(|r| r.version == version);
        found.then_some(root)
    }
}

fn restore<K: Ord + Clone, V: Clone>(now: &mut BTreeMap<K, V>, before: &BTreeMap<K, Option<V>>) {
    for (key, value) in before {
        match value {
            Some(value) => now.insert(key.clone(), value.clone()),
            None => now.remove(key),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_groups_around_them() {
        let rows: [(&str, &[&str], Option<&str>); 4] = [
            ("/", &[], None),
            ("/a", &["/"], Some("/")),
            ("/a/b", &["/", "/a"], Some("/a")),
            ("/a/b/c", &["/", "/a", "/a/b"], Some("/a/b")),
        ];
        for (path, around, parent) in rows {
            assert_eq!(GroupId::around(path).collect::<Vec<_>>(), around, "{path}");
            assert_eq!(GroupId::parent_of(path), parent.map(GroupId::new), "{path}");
        }
        assert_eq!(GroupId::root().prefix(), "/");
        assert_eq!(GroupId::new("/a").prefix(), "/a/");
    }

    #[test]
    fn groups_follow_from_the_paths_of_apps() {
        let mut root = Group::default();
        for (id, version) in [("/a/b/x", 3), ("/a/y", 5), ("/ab", 4)] {
            let app = App { version: Time(version), ..App::with_defaults(AppId::new(id)) };
            root.apps.insert(app.id.clone(), app);
        }
        root.imply();
        let all: Vec<&str> = root.groups.keys().map(GroupId::as_str).collect();
        assert_eq!(all, ["/", "/a", "/a/b"]);
        let below = |id: &str| {
            let id = GroupId::new(id);
            let apps: Vec<_> = root.apps_below(&id).map(|(id, _)| id.0.clone()).collect();
            let groups: Vec<_> = root.groups_below(&id).map(|(id, _)| id.0.clone()).collect();
            (apps.join(" "), groups.join(" "))
        };
        assert_eq!(below("/"), ("/a/b/x /a/y /ab".into(), "/a /a/b".into()));
        assert_eq!(below("/a"), ("/a/b/x /a/y".into(), "/a/b".into()));
        assert_eq!(below("/b"), (String::new(), String::new()));
    }
}
