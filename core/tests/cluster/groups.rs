//! Groups: what a change makes of them, their dependencies, their past.

use crate::bench::{Bench, agent, app};
use bramble_core::command::{AppChange, Command, GroupChange, Rejection};
use bramble_core::event::Event;
use bramble_core::machine::preview;
use bramble_core::model::*;
use proptest::prelude::*;

fn bench() -> Bench {
    Bench::with(vec![agent("n1", 8000, 4096)])
}

fn gid(text: &str) -> GroupId {
    GroupId::new(text)
}

fn ids(names: &[&str]) -> Vec<AppId> {
    names.iter().map(|n| AppId::new(*n)).collect()
}

fn put(id: &str, dependencies: &[&str]) -> GroupChange {
    GroupChange::Put { id: gid(id), dependencies: ids(dependencies) }
}

fn create(id: &str) -> GroupChange {
    GroupChange::Create { id: gid(id), dependencies: vec![] }
}

fn change(
    bench: &mut Bench,
    groups: Vec<GroupChange>,
    apps: Vec<AppChange>,
) -> Result<Vec<Event>, Rejection> {
    let deployment_id = DeploymentId::new(format!("g{}", bench.entries.len()));
    bench.clock += 1;
    let group = GroupId::root();
    let (force, replaces) = (false, None);
    bench.apply(Command::ChangeGroup { deployment_id, group, groups, apps, force, replaces })
}

fn groups(bench: &Bench) -> String {
    let names: Vec<&str> = bench.state.groups.keys().map(GroupId::as_str).collect();
    names.join(" ")
}

fn new(id: &str) -> AppChange {
    AppChange::Create(app(id, 1))
}

#[test]
fn parents_come_with_their_members_and_stay_without() {
    let mut bench = bench();
    bench.create(app("/a/b/x", 1));
    bench.finish();
    assert_eq!(groups(&bench), "/ /a /a/b");
    bench.change(vec![AppChange::Remove(AppId::new("/a/b/x"))], false).expect("removed");
    bench.finish();
    assert_eq!(groups(&bench), "/ /a /a/b");
    assert_eq!(bench.state.group(&gid("/a/b")).map(|g| g.dependencies), Some(vec![]));
    assert_eq!(bench.state.group(&gid("/a/c")), None);
    // An app may stand where nothing is left of a group, but not where one still says something.
    bench.create(app("/a", 1));
    bench.finish();
    assert_eq!(groups(&bench), "/");
    change(&mut bench, vec![put("/g/h", &["/a"])], vec![]).expect("put");
    let taken = Rejection::PathTaken(AppId::new("/g"), AppId::new("/g/h"));
    assert_eq!(bench.change(vec![new("/g")], false), Err(taken));
    // Neighbours whose names only begin alike are not in the way.
    change(&mut bench, vec![put("/k-l", &["/a"])], vec![]).expect("put");
    bench.create(app("/k", 1));
}

#[test]
fn changes_of_groups_are_refused_whole() {
    let mut bench = bench();
    change(&mut bench, vec![create("/g"), create("/g/empty")], vec![new("/g/a"), new("/x")])
        .expect("created");
    bench.finish();
    let before = bench.state.clone();
    let taken = |app: &str, group: &str| Rejection::PathTaken(AppId::new(app), AppId::new(group));
    let rows: Vec<(Vec<GroupChange>, Vec<AppChange>, Rejection)> = vec![
        (vec![create("/g")], vec![], Rejection::GroupExists(gid("/g"))),
        (vec![create("/")], vec![], Rejection::GroupExists(gid("/"))),
        (vec![create("/n"), create("/n")], vec![], Rejection::GroupExists(gid("/n"))),
        (vec![create("/x")], vec![], taken("/x", "/x")),
        (vec![put("/x/y", &[])], vec![], taken("/x", "/x/y")),
        (vec![put("/n", &[])], vec![new("/n")], taken("/n", "/n")),
        (vec![GroupChange::Remove(gid("/no"))], vec![], Rejection::GroupUnknown(gid("/no"))),
        (vec![create("/n")], vec![new("/g/a")], Rejection::AppExists(AppId::new("/g/a"))),
        (vec![put("/g", &["/g"])], vec![], Rejection::DependencyCycle),
        (vec![put("/g", &["/x"])], vec![dependent("/x", "/g/a")], Rejection::DependencyCycle),
    ];
    for (groups, apps, rejection) in rows {
        assert_eq!(preview(&bench.state, &groups, &apps), Err(rejection.clone()));
        let shown = format!("{groups:?} {apps:?}");
        assert_eq!(change(&mut bench, groups, apps), Err(rejection), "{shown}");
        let now = State { applied_index: 0, now: Time(0), ..bench.state.clone() };
        assert!(now == State { applied_index: 0, now: Time(0), ..before.clone() }, "{shown}");
    }
}

fn dependent(id: &str, on: &str) -> AppChange {
    AppChange::Update(App { dependencies: ids(&[on]), ..app(id, 1) })
}

#[test]
fn a_group_goes_with_everything_in_it() {
    let mut bench = bench();
    let apps = vec![new("/g/a"), new("/g/h/b"), new("/g-i"), new("/k/l")];
    change(&mut bench, vec![create("/g/empty")], apps).expect("created");
    bench.finish();
    change(&mut bench, vec![GroupChange::Remove(gid("/g"))], vec![]).expect("removed");
    bench.finish();
    assert_eq!(groups(&bench), "/ /k");
    assert_eq!(bench.state.apps.len(), 2);
    // Removed and defined anew in one change, it is new.
    let again = vec![GroupChange::Remove(gid("/k")), create("/k")];
    change(&mut bench, again, vec![new("/k/m")]).expect("replaced");
    bench.finish();
    assert!(bench.state.apps.keys().map(AppId::as_str).eq(["/g-i", "/k/m"]));
    change(&mut bench, vec![GroupChange::Remove(gid("/"))], vec![]).expect("all removed");
    bench.finish();
    assert_eq!((groups(&bench).as_str(), bench.state.apps.len()), ("/", 0));
    assert!(bench.state.instances.is_empty());
}

#[test]
fn what_stays_as_it_is_is_neither_locked_nor_remembered() {
    let mut bench = bench();
    change(&mut bench, vec![create("/g")], vec![new("/g/a"), new("/g/b")]).expect("created");
    bench.finish();
    let locked = bench.update(app("/g/a", 2));
    let same = bench.stored("/g/a").app.clone();
    let history = bench.state.group_history.len();
    // Service ports written as 0 are those the app has: nothing changes.
    let written = App { port_definitions: app("/g/a", 2).port_definitions, ..same };
    let version = bench.state.group(&gid("/g")).expect("there").version;
    change(&mut bench, vec![put("/g", &[])], vec![AppChange::Update(written)]).expect("no change");
    assert_eq!(bench.state.group(&gid("/g")).expect("there").version, version);
    assert_eq!(bench.state.group_history.len(), history);
    // One locked app that does change refuses all of it.
    let both = vec![AppChange::Update(app("/g/a", 3)), AppChange::Update(app("/g/b", 3))];
    assert_eq!(change(&mut bench, vec![], both), Err(Rejection::Locked(vec![locked])));
    assert_eq!(bench.stored("/g/b").app.instances, 1);
}

#[test]
fn a_deployment_that_is_taken_back_ends_and_locks_nothing() {
    let mut bench = bench();
    change(&mut bench, vec![create("/g")], vec![new("/g/a")]).expect("created");
    let first = bench.state.deployments.keys().next().expect("under way").clone();
    let other = bench.create(app("/x", 1));
    let back = |groups: Vec<GroupChange>, apps: Vec<AppChange>, n: u8| Command::ChangeGroup {
        deployment_id: DeploymentId::new(format!("back{n}")),
        group: GroupId::root(),
        groups,
        apps,
        force: false,
        replaces: Some(first.clone()),
    };
    let too_much = back(vec![], vec![AppChange::Remove(AppId::new("/x"))], 1);
    assert_eq!(bench.apply(too_much), Err(Rejection::Locked(vec![other])));
    assert!(bench.state.deployments.contains_key(&first));
    bench.must(back(vec![GroupChange::Remove(gid("/g"))], vec![], 2));
    assert!(!bench.state.deployments.contains_key(&first));
    // Gone already, it is no hindrance; neither is that nothing changes.
    bench.must(back(vec![], vec![], 3));
    bench.finish();
    assert_eq!(groups(&bench), "/");
    assert!(bench.state.apps.keys().map(AppId::as_str).eq(["/x"]));
}

#[test]
fn dependencies_of_groups_order_the_steps() {
    let mut bench = bench();
    let groups = vec![put("/web", &["/db"]), put("/db", &["/disk"])];
    let apps = vec![new("/db/one"), new("/disk"), new("/web/a"), new("/web/in/b")];
    let plan = preview(&bench.state, &groups, &apps).expect("a plan");
    change(&mut bench, groups, apps).expect("created");
    let deployment = bench.state.deployments.values().next().expect("under way");
    assert_eq!(deployment.plan, plan, "a preview is what would happen");
    let steps: Vec<String> = plan
        .steps
        .iter()
        .map(|s| s.actions.iter().map(|a| a.app_id.as_str()).collect::<Vec<_>>().join(" "))
        .collect();
    let all = "/db/one /disk /web/a /web/in/b";
    assert_eq!(steps, [all, "/disk", "/db/one", "/web/a /web/in/b"]);
    bench.finish();
}

#[test]
fn roles_are_switched_without_a_deployment() {
    let mut bench = bench();
    bench.create(app("/g/a", 1));
    bench.finish();
    let version = bench.state.group(&gid("/g")).expect("there").version;
    let switch = |group: &str| Command::EnforceRole { group: gid(group), enforce: true };
    let changed = Event::GroupChanged { group_id: gid("/g"), version };
    assert_eq!(bench.must(switch("/g")), [changed]);
    assert_eq!(bench.state.groups[&gid("/g")].enforce_role, Some(true));
    assert_eq!(bench.apply(switch("/no")), Err(Rejection::GroupUnknown(gid("/no"))));
    // It outlives later changes of the group.
    change(&mut bench, vec![put("/g", &["/x"])], vec![]).expect("put");
    assert_eq!(bench.state.groups[&gid("/g")].enforce_role, Some(true));
}

/// Every version that is known gives back what was there then.
#[test]
fn the_past_is_bounded_and_true() {
    let mut bench = bench();
    let mut past: Vec<(Time, Group)> = Vec::new();
    for round in 0..(GROUP_VERSIONS_MAX + 7) {
        let name = format!("/g/h{}/a", round % 3);
        let exists = bench.state.apps.contains_key(&AppId::new(name.as_str()));
        let changes = match (round % 5, exists) {
            (0, true) => vec![AppChange::Remove(AppId::new(name.as_str()))],
            (_, true) => vec![AppChange::Update(app(&name, round))],
            (_, false) => vec![AppChange::Create(app(&name, round))],
        };
        change(&mut bench, vec![put("/g", &[&format!("/x{}", round % 2)])], changes).expect("done");
        bench.state.deployments.clear();
        let root = bench.state.root();
        past.push((root.groups[&GroupId::root()].version, root));
    }
    assert_eq!(bench.state.group_history.len(), GROUP_VERSIONS_MAX as usize);
    let known = bench.state.group_versions(&GroupId::root());
    assert_eq!(known.len(), GROUP_VERSIONS_MAX as usize + 1);
    assert!(known.is_sorted_by(|a, b| a > b), "newest first");
    for (version, root) in past.iter().rev().take(known.len()) {
        assert_eq!(bench.state.root_at(*version).as_ref(), Some(root));
    }
    assert_eq!(bench.state.root_at(past[0].0), None, "too long ago");
    assert_eq!(bench.state.root_at(Time(1)), None);
    let part = bench.state.group_versions(&gid("/g/h0"));
    assert!(part.len() > 10 && part.iter().all(|v| known.contains(v)), "{part:?}");
    assert_eq!(bench.state.group_versions(&gid("/none")), []);
}

#[test]
fn large_changes_shorten_the_past() {
    let mut bench = bench();
    let all = |instances| (0..1000).map(move |n| app(&format!("/g/a{n}"), instances));
    change(&mut bench, vec![], all(0).map(AppChange::Create).collect()).expect("created");
    for round in 1..8 {
        bench.state.deployments.clear();
        let scaled = (0..1000)
            .map(|n| App { instances: round, ..bench.stored(&format!("/g/a{n}")).app.clone() });
        let scaled = scaled.map(AppChange::Update).collect();
        change(&mut bench, vec![], scaled).expect("scaled");
    }
    let kept = |c: &GroupChangeRecord| c.apps.values().flatten().count();
    let kept: Vec<usize> = bench.state.group_history.iter().map(kept).collect();
    assert_eq!(kept, [1000; 4]);
    assert!(kept.iter().sum::<usize>() <= GROUP_HISTORY_APPS_MAX as usize);
}

const PATHS: [&str; 6] = ["/a", "/a/b", "/a/b/c", "/a-b", "/d", "/d/e"];

fn step() -> impl Strategy<Value = (u8, usize, usize, u8, u8)> {
    (0..6u8, 0..PATHS.len(), 0..PATHS.len(), 0..4u8, 0..3u8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    /// Whatever is asked: no path is both, every app has its groups, every kept version is true,
    /// and nothing ever waits for itself.
    #[test]
    fn every_tree_is_sound(steps in prop::collection::vec(step(), 1..40)) {
        let mut bench = bench();
        let mut past: Vec<(Time, Group)> = Vec::new();
        for (kind, at, other, count, change_app) in steps {
            let (path, other) = (PATHS[at], PATHS[other]);
            let groups = match kind {
                0 => vec![create(path)],
                1 => vec![put(path, &[other])],
                2 => vec![GroupChange::Remove(gid(path))],
                _ => vec![],
            };
            let app = App { dependencies: ids(&[other]), ..app(path, u32::from(count)) };
            let apps = match change_app {
                0 => vec![AppChange::Create(app)],
                1 => vec![AppChange::Remove(AppId::new(other))],
                _ => vec![],
            };
            let previewed = preview(&bench.state, &groups, &apps);
            let before = bench.state.root();
            let result = change(&mut bench, groups, apps);
            prop_assert_eq!(previewed.is_ok(), result.is_ok());
            bench.state.deployments.clear();
            let root = bench.state.root();
            if result.is_err() {
                prop_assert!(root == before);
                continue;
            }
            prop_assert!(!bramble_core::deploy::is_cyclic(&root));
            for id in root.apps.keys() {
                prop_assert!(!root.groups.contains_key(&gid(id.as_str())), "{} twice", id);
                for around in GroupId::around(id.as_str()) {
                    prop_assert!(bench.state.groups.contains_key(&gid(around)), "{}", around);
                }
            }
            for id in root.groups.keys() {
                let parent = GroupId::parent_of(id.as_str());
                prop_assert!(parent.is_none_or(|p| root.groups.contains_key(&p)), "{}", id);
            }
            let version = root.groups[&GroupId::root()].version;
            past.retain(|(known, _)| *known != version);
            past.push((version, root));
        }
        for (version, root) in &past {
            let known = bench.state.root_at(*version);
            prop_assert_eq!(known.as_ref(), Some(root));
        }
        let bytes = serde_cbor::to_vec(&bench.state).expect("encodes");
        let read: State = serde_cbor::from_slice(&bytes).expect("decodes");
        prop_assert!(read == bench.state);
    }
}
