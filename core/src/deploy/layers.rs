//! The order that dependencies ask for.
//!
//! A dependency of a group holds for every app in it, one on a group for every app of that group.
//! Written out app by app that would be a thousand times a thousand pairs for two groups of a
//! thousand apps, so groups stand in the graph themselves: [`Node::Whole`] is reached once all
//! apps of a group are, [`Node::Gate`] once all is that a group depends on.

use crate::model::{AppId, Group, GroupId};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node<'a> {
    App(&'a str),
    Whole(&'a str),
    Gate(&'a str),
}

#[derive(Default)]
struct Graph<'a> {
    /// What each node still waits for, and the layer it has come to by now.
    nodes: BTreeMap<Node<'a>, (usize, usize)>,
    dependants: BTreeMap<Node<'a>, Vec<Node<'a>>>,
}

/// Where each app stands.
pub(super) struct Layers<'a> {
    pub of: BTreeMap<&'a str, usize>,
    pub cyclic: bool,
}

impl<'a> Graph<'a> {
    fn of(group: &'a Group) -> Self {
        let mut graph = Graph::default();
        let gated: Vec<(&str, &[AppId])> = group
            .groups
            .iter()
            .filter(|(_, record)| !record.dependencies.is_empty())
            .map(|(id, record)| (id.as_str(), record.dependencies.as_slice()))
            .collect();
        for (gate, dependencies) in &gated {
            graph.needs(group, Node::Gate(gate), dependencies);
        }
        for (id, app) in &group.apps {
            graph.nodes.entry(Node::App(id.as_str())).or_default();
            graph.needs(group, Node::App(id.as_str()), &app.dependencies);
        }
        for id in group.apps.keys() {
            let app = Node::App(id.as_str());
            for around in GroupId::around(id.as_str()) {
                // A group is a node only if something names it.
                if graph.nodes.contains_key(&Node::Gate(around)) {
                    graph.edge(app, Node::Gate(around));
                }
                if graph.nodes.contains_key(&Node::Whole(around)) {
                    graph.edge(Node::Whole(around), app);
                }
            }
        }
        graph
    }

    /// Let a node wait for what `dependencies` name: an app, or all of a group.
    fn needs(&mut self, group: &'a Group, node: Node<'a>, dependencies: &'a [AppId]) {
        for named in dependencies {
            let is_app = group.apps.contains_key(named);
            let needed =
                if is_app { Node::App(named.as_str()) } else { Node::Whole(named.as_str()) };
            self.edge(node, needed);
        }
    }

    fn edge(&mut self, node: Node<'a>, needed: Node<'a>) {
        self.nodes.entry(needed).or_default();
        self.nodes.entry(node).or_default().0 += 1;
        self.dependants.entry(needed).or_default().push(node);
    }
}

/// How long a chain of dependencies each app stands on. Worked off from the leaves, not by
/// recursion: a chain may be as long as there are apps. Apps of a cycle come last.
pub(super) fn layers(group: &Group) -> Layers<'_> {
    let Graph { mut nodes, dependants } = Graph::of(group);
    let mut ready: Vec<Node<'_>> =
        nodes.iter().filter(|(_, (open, _))| *open == 0).map(|(node, _)| *node).collect();
    let mut of = BTreeMap::new();
    let mut reached = 0;
    let mut last = 0;
    while let Some(node) = ready.pop() {
        reached += 1;
        let layer = nodes.get(&node).map_or(0, |(_, layer)| *layer);
        // Only apps take a step of their own.
        let after = match node {
            Node::App(id) => {
                of.insert(id, layer);
                layer + 1
            }
            Node::Whole(_) | Node::Gate(_) => layer,
        };
        last = last.max(after);
        for dependant in dependants.get(&node).into_iter().flatten() {
            if let Some((open, layer)) = nodes.get_mut(dependant) {
                *layer = after.max(*layer);
                *open -= 1;
                if *open == 0 {
                    ready.push(*dependant);
                }
            }
        }
    }
    for id in group.apps.keys() {
        of.entry(id.as_str()).or_insert(last);
    }
    Layers { of, cyclic: reached < nodes.len() }
}

/// Whether an app has to wait for itself.
pub fn is_cyclic(group: &Group) -> bool {
    layers(group).cyclic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{App, GroupRecord};

    fn group(apps: &[(&str, &[&str])], groups: &[(&str, &[&str])]) -> Group {
        let ids = |names: &[&str]| names.iter().map(|n| AppId::new(*n)).collect::<Vec<_>>();
        let mut all = Group::default();
        for (id, dependencies) in apps {
            let id = AppId::new(*id);
            let app = App { dependencies: ids(dependencies), ..App::with_defaults(id.clone()) };
            all.apps.insert(id, app);
        }
        for (id, dependencies) in groups {
            let record = GroupRecord { dependencies: ids(dependencies), ..<_>::default() };
            all.groups.insert(GroupId::new(*id), record);
        }
        all
    }

    /// Apps with their dependencies, groups with theirs, the layers in the order of the apps.
    type Row<'a> =
        (&'a [(&'a str, &'a [&'a str])], &'a [(&'a str, &'a [&'a str])], &'a [usize], bool);

    #[test]
    fn groups_wait_and_are_waited_for() {
        let rows: &[Row<'_>] = &[
            (&[("/a", &[]), ("/b", &["/a"])], &[], &[0, 1], false),
            (&[("/g/a", &[]), ("/g/b", &["/g/a"]), ("/x", &["/g"])], &[], &[0, 1, 2], false),
            // The group's dependency is every member's, at any depth.
            (
                &[("/db/a", &[]), ("/g/a", &[]), ("/g/h/b", &[])],
                &[("/g", &["/db"])],
                &[0, 1, 1],
                false,
            ),
            (
                &[("/db", &[]), ("/g/a", &[]), ("/g/h/b", &[])],
                &[("/g/h", &["/db", "/g/a"])],
                &[0, 0, 1],
                false,
            ),
            // Through a group in the middle.
            (
                &[("/a/x", &[]), ("/b/x", &[]), ("/c/x", &[])],
                &[("/c", &["/b"]), ("/b", &["/a"])],
                &[0, 1, 2],
                false,
            ),
            // What nobody is cannot be waited for.
            (&[("/a", &["/nowhere"])], &[("/g", &["/none"])], &[0], false),
            (&[("/a", &["/b"]), ("/b", &["/a"]), ("/c", &[])], &[], &[1, 1, 0], true),
            (&[("/a", &["/a"])], &[], &[0], true),
            (&[("/g/a", &["/g"])], &[], &[0], true),
            (&[("/g/a", &[]), ("/h/b", &[])], &[("/g", &["/h"]), ("/h", &["/g"])], &[0, 0], true),
            (&[("/g/a", &[])], &[("/g", &["/g/a"])], &[0], true),
        ];
        for (apps, groups, expected, cyclic) in rows {
            let all = group(apps, groups);
            let layers = layers(&all);
            let found: Vec<usize> = all.apps.keys().map(|id| layers.of[id.as_str()]).collect();
            assert_eq!(
                (found.as_slice(), layers.cyclic),
                (*expected, *cyclic),
                "{apps:?} {groups:?}"
            );
        }
    }

    #[test]
    fn groups_of_a_thousand_cost_thousands_of_edges_and_not_a_million() {
        let ids: Vec<String> =
            ["/g", "/h"].iter().flat_map(|g| (0..1000).map(move |n| format!("{g}/a{n}"))).collect();
        let apps: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &[][..])).collect();
        let all = group(&apps, &[("/g", &["/h"])]);
        let edges: usize = Graph::of(&all).dependants.values().map(Vec::len).sum();
        assert_eq!(edges, 2001);
        let layers = layers(&all);
        assert!(
            all.apps.keys().all(|id| layers.of[id.as_str()] == usize::from(id.0.starts_with("/g")))
        );
    }
}
