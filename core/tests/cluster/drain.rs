//! Drained agents: nothing comes to them, and what they have moves away within its app's bounds.

use crate::bench::{Bench, agent, app, pod, resident};
use bramble_core::command::{AppChange, Command, Placed, Rejection};
use bramble_core::deploy::{self, Stay};
use bramble_core::event::{Event, RefusedAssignment};
use bramble_core::model::*;
use proptest::prelude::*;

fn drain(bench: &mut Bench, agent: &str) -> Vec<Event> {
    bench.must(Command::Drain { agent_id: AgentId::new(agent) })
}

fn undrain(bench: &mut Bench, agent: &str) -> Vec<Event> {
    bench.must(Command::Undrain { agent_id: AgentId::new(agent) })
}

fn three() -> Bench {
    Bench::with(["n1", "n2", "n3"].map(|name| agent(name, 1000, 160)).to_vec())
}

fn hosts(bench: &Bench, id: &str) -> Vec<String> {
    let tasks = bench.instances(id).into_iter().filter_map(|i| i.task.as_ref());
    let mut hosts: Vec<String> = tasks.map(|t| t.host.clone()).collect();
    hosts.sort();
    hosts
}

fn working(state: &State, id: &str) -> u32 {
    let running = state.instances.values().filter(|i| i.goal == Goal::Running && i.app_id.0 == id);
    let tasks = running.filter_map(|i| i.task.as_ref());
    tasks.filter(|t| t.state == TaskState::Running).count() as u32
}

/// What is said of the tasks on an agent.
fn stays(bench: &Bench, agent: &str) -> Vec<Stay> {
    deploy::left(&bench.state, &AgentId::new(agent)).into_iter().map(|left| left.stay).collect()
}

fn bounded(id: &str, instances: u32, min_health_ppm: u64, max_over_ppm: u64) -> App {
    let upgrade = UpgradeStrategy { min_health_ppm, max_over_ppm };
    App { upgrade, ..app(id, instances) }
}

#[test]
fn a_drained_agent_takes_nothing_and_says_why() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 100)]);
    let id = AgentId::new("n1");
    let told = drain(&mut bench, "n1");
    assert_eq!(told, [Event::AgentDraining { agent_id: id.clone(), draining: true }]);
    assert_eq!(drain(&mut bench, "n1"), [], "it is drained already");
    let since = bench.state.draining[&id].since;
    bench.clock += 5000;
    bench.must(Command::SetReachable { agent_id: id.clone(), reachable: false });
    bench.must(Command::RegisterAgent { agent: agent("n1", 1000, 100) });
    assert_eq!(bench.state.draining[&id].since, since, "it is drained also when it comes back");
    bench.create(app("/a", 1));
    bench.settle();
    let reasons = bench.place().refused[0].per_agent[0].1.clone();
    assert_eq!(reasons[0].as_str(), "AgentMaintenance");
    assert_eq!(reasons[0].smallest_change(), "bramble undrain n1");
    // The placer may have believed otherwise when it chose.
    let instance_id = bench.instances("/a")[0].id.clone();
    let placed = Placed {
        instance_id: instance_id.clone(),
        agent_id: id.clone(),
        ports: vec![31_000],
        devices: vec![],
    };
    let events = bench.must(Command::Assign { assignments: vec![placed] });
    let reason = RefusedAssignment::AgentDraining;
    assert_eq!(events, [Event::AssignmentRefused { instance_id, agent_id: id.clone(), reason }]);
    let told = undrain(&mut bench, "n1");
    assert_eq!(told, [Event::AgentDraining { agent_id: id, draining: false }]);
    assert_eq!(undrain(&mut bench, "n1"), []);
    bench.finish();
    assert_eq!(hosts(&bench, "/a"), ["n1"]);
    for command in [
        Command::Drain { agent_id: AgentId::new("n9") },
        Command::Undrain { agent_id: AgentId::new("n9") },
    ] {
        assert_eq!(bench.apply(command), Err(Rejection::AgentUnknown(AgentId::new("n9"))));
    }
}

#[test]
fn how_many_go_at_once_is_for_the_app_to_say() {
    // (least, over, tasks told to stop, instances added) at the first look, of 6 with 2 on n1
    let half = PPM / 2;
    for (min, over, stopped, added) in
        [(PPM, 0, 0, 1), (PPM, PPM, 0, 2), (half, 0, 2, 0), (half, half, 2, 2), (0, 0, 2, 0)]
    {
        let mut bench = three();
        bench.create(bounded("/a", 6, min, over));
        bench.finish();
        assert_eq!(hosts(&bench, "/a"), ["n1", "n1", "n2", "n2", "n3", "n3"]);
        drain(&mut bench, "n1");
        let ids = |command: &Command| match command {
            Command::Decommission { ids } => (ids.len(), 0),
            Command::AddInstances { ids, .. } => (0, ids.len()),
            other => panic!("{other:?}"),
        };
        let first: Vec<_> = bench.deployer().iter().map(ids).collect();
        let sum = first.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        assert_eq!(sum, (stopped, added), "{min} {over}");
        bench.finish();
        assert_eq!(hosts(&bench, "/a"), ["n2", "n2", "n2", "n3", "n3", "n3"]);
        assert_eq!(stays(&bench, "n1"), []);
    }
}

#[test]
fn a_singleton_stops_before_its_successor_starts_and_only_where_that_has_room() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 100), agent("n2", 1000, 16)]);
    let single = |id: &str| {
        let mut app = app(id, 1);
        app.labels.insert(LABEL_SINGLE_INSTANCE.into(), "true".into());
        app
    };
    for id in ["/a", "/b"] {
        bench.create(App {
            constraints: vec![Constraint {
                field: "hostname".into(),
                operator: Operator::Unlike,
                value: Some("n3".into()),
            }],
            ..single(id)
        });
    }
    // Both on n1: n2 is not here yet.
    bench.must(Command::SetReachable { agent_id: AgentId::new("n2"), reachable: false });
    bench.finish();
    bench.must(Command::RegisterAgent { agent: agent("n2", 1000, 16) });
    drain(&mut bench, "n1");
    bench.settle();
    let goals = |bench: &Bench| {
        let all = bench.state.instances.values();
        all.map(|i| (i.app_id.0.clone(), i.goal)).collect::<Vec<_>>()
    };
    let expected = [("/a".to_string(), Goal::Decommissioned), ("/b".to_string(), Goal::Running)];
    assert_eq!(goals(&bench), expected, "n2 has room for one of the two");
    let said = stays(&bench, "n1");
    assert_eq!(said[0], Stay::Stopping);
    let Stay::NoRoom(agents) = &said[1] else { panic!("{said:?}") };
    let n2 = agents.iter().find(|(id, _)| id.as_str() == "n2").expect("it is named");
    assert_eq!(n2.1[0].as_str(), "InsufficientMemory");
    bench.finish();
    assert_eq!((hosts(&bench, "/a"), hosts(&bench, "/b")), (vec!["n2".into()], vec!["n1".into()]));
    bench.must(Command::RegisterAgent { agent: agent("n2", 1000, 100) });
    bench.finish();
    assert_eq!(hosts(&bench, "/b"), ["n2"]);
}

#[test]
fn data_stays_and_so_does_what_has_no_other_place() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 100)]);
    bench.create(resident("/db", 1, 5));
    bench.create(app("/web", 1));
    bench.finish();
    drain(&mut bench, "n1");
    assert_eq!(bench.deployer(), []);
    let said = stays(&bench, "n1");
    assert_eq!(said[0], Stay::Data);
    let Stay::NoRoom(agents) = &said[1] else { panic!("{said:?}") };
    assert_eq!(agents[0].1[0].as_str(), "AgentMaintenance");
    assert!(said.iter().all(|stay| !stay.goes()));
    // An agent that is away takes its tasks with it: that is for other rules.
    bench.must(Command::SetReachable { agent_id: AgentId::new("n1"), reachable: false });
    assert_eq!(stays(&bench, "n1"), [Stay::Data, Stay::Away]);
}

#[test]
fn constraints_fixed_ports_and_pods_move_too() {
    let rule = |operator, value: Option<&str>| Constraint {
        field: "hostname".into(),
        operator,
        value: value.map(str::to_string),
    };
    let group_by = App { constraints: vec![rule(Operator::GroupBy, None)], ..app("/g", 4) };
    let unique = App { constraints: vec![rule(Operator::Unique, None)], ..app("/u", 2) };
    let cluster = App { constraints: vec![rule(Operator::Cluster, None)], ..app("/c", 3) };
    let mut fixed = app("/f", 2);
    fixed.require_ports = true;
    fixed.port_definitions = vec![PortDefinition {
        port: 31_005,
        protocol: Protocol::Tcp,
        name: None,
        labels: <_>::default(),
    }];
    let moved = |definition: App, agents: &[&str]| {
        let id = definition.id.0.clone();
        let agents = agents.iter().map(|name| agent(name, 2000, 400)).collect();
        let mut bench = Bench::with(agents);
        bench.create(definition);
        bench.finish();
        let from = hosts(&bench, &id)[0].clone();
        drain(&mut bench, &from);
        bench.finish();
        assert_eq!(stays(&bench, &from), []);
        let mut hosts = hosts(&bench, &id);
        hosts.retain(|host| *host != from);
        hosts.len()
    };
    // The group that empties must not keep the other one from growing.
    assert_eq!(moved(group_by, &["n1", "n2"]), 4);
    assert_eq!(moved(unique, &["n1", "n2", "n3"]), 2);
    assert_eq!(moved(cluster, &["n1", "n2"]), 3);
    assert_eq!(moved(fixed.clone(), &["n1", "n2", "n3"]), 2);
    assert_eq!(moved(pod("/p", 2, "sleep 1000", true), &["n1", "n2"]), 2);
    // A fixed port that is taken everywhere else is a reason to stay.
    let mut bench = Bench::with(vec![agent("n1", 2000, 400), agent("n2", 2000, 400)]);
    bench.create(fixed);
    bench.finish();
    drain(&mut bench, "n1");
    assert_eq!(bench.deployer(), []);
    let said = stays(&bench, "n1");
    let Stay::NoRoom(agents) = &said[0] else { panic!("{said:?}") };
    assert_eq!(agents[1].1[0].as_str(), "InsufficientPorts");
}

#[test]
fn a_change_of_the_app_comes_first() {
    let mut bench = three();
    bench.create(app("/a", 3));
    bench.create(app("/b", 3));
    bench.finish();
    // Both change, one after the other; the second cannot come to work.
    let changed = |id: &str| App { cmd: Some("sleep 2000".into()), ..app(id, 3) };
    let mut second = changed("/b");
    second.dependencies = [AppId::new("/a")].into();
    second.constraints = vec![Constraint {
        field: "rack".into(),
        operator: Operator::Is,
        value: Some("none".into()),
    }];
    let changes = vec![AppChange::Update(changed("/a")), AppChange::Update(second)];
    let deployment = bench.change(changes, false).expect("both change");
    drain(&mut bench, "n1");
    let held = Stay::Deployments(vec![deployment.clone()]);
    assert_eq!(stays(&bench, "n1"), [held.clone(), held.clone()]);
    for _ in 0..10 {
        bench.settle();
        bench.place();
        bench.obey();
        bench.clock += 10_000;
    }
    assert_eq!(bench.state.deployments[&deployment].current_step, 1, "it waits for /b");
    assert_eq!(stays(&bench, "n1"), [held], "/a has gone, and /b says why it has not");
    assert!(!hosts(&bench, "/a").contains(&"n1".to_string()));
    // An app whose step is behind moves although its deployment goes on.
    undrain(&mut bench, "n1");
    drain(&mut bench, "n2");
    for _ in 0..10 {
        bench.settle();
        bench.place();
        bench.obey();
    }
    assert_eq!(hosts(&bench, "/a").iter().filter(|host| *host == "n2").count(), 0);
    assert_eq!(bench.instances("/a").len(), 3);
    bench.must(Command::CancelDeployment { id: deployment });
    let version = bench.stored("/b").versions.last().expect("an earlier one").clone();
    bench.update(version);
    bench.finish();
    assert_eq!(hosts(&bench, "/b").iter().filter(|host| *host == "n2").count(), 0);
}

/// A change that was broken off leaves two configurations; a machine cannot wait for its user.
#[test]
fn both_sides_of_a_change_that_was_broken_off_move() {
    let mut bench = three();
    bench.create(bounded("/a", 6, PPM, 0));
    bench.finish();
    let mut changed = bounded("/a", 6, PPM, 0);
    changed.cmd = Some("sleep 2000".into());
    let deployment = bench.update(changed);
    while bench.instances("/a").iter().filter(|i| bench.state.is_current(i)).count() < 4 {
        bench.settle();
        bench.place();
        bench.obey();
    }
    bench.must(Command::CancelDeployment { id: deployment });
    bench.finish();
    let current = |bench: &Bench| {
        let all = bench.instances("/a");
        (all.len(), all.iter().filter(|i| bench.state.is_current(i)).count())
    };
    let before = current(&bench);
    assert!(before.0 == 6 && before.1 < 6, "{before:?}");
    for name in ["n1", "n2"] {
        drain(&mut bench, name);
        assert!(stays(&bench, name).iter().all(Stay::goes));
        bench.finish();
        assert_eq!(stays(&bench, name), []);
        undrain(&mut bench, name);
    }
    assert_eq!(current(&bench).0, 6);
    assert!(current(&bench).1 >= before.1);
}

#[test]
fn an_agent_opened_again_keeps_what_has_not_moved() {
    let mut bench = three();
    bench.create(bounded("/a", 3, PPM, 0));
    bench.finish();
    let before = bench.state.instances.clone();
    drain(&mut bench, "n1");
    bench.settle();
    assert_eq!(bench.instances("/a").len(), 4, "a successor waits");
    undrain(&mut bench, "n1");
    bench.settle();
    assert_eq!(bench.state.instances, before);
}

#[derive(Clone, Debug)]
enum Turn {
    Drain(usize),
    Undrain(usize),
    Deploy,
    Place,
    Obey,
    Fail(usize),
    Scale(u32),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        2 => (0..3usize).prop_map(Turn::Drain),
        2 => (0..3usize).prop_map(Turn::Undrain),
        5 => Just(Turn::Deploy),
        4 => Just(Turn::Place),
        3 => Just(Turn::Obey),
        1 => any::<usize>().prop_map(Turn::Fail),
        1 => (1..6u32).prop_map(Turn::Scale),
    ]
}

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// The app's own bounds, as its upgrade strategy is to be understood: there is always a way on.
fn least_and_most(app: &App) -> (u32, u32) {
    let n = u64::from(app.instances);
    let least = (n * app.upgrade.min_health_ppm).div_ceil(PPM) as u32;
    let most = (n * (PPM + app.upgrade.max_over_ppm) / PPM) as u32;
    (least, if least < most { most } else { most + 1 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    /// Whoever is drained and opened in whatever order: no app falls below its minimum or grows
    /// above its maximum because of it, nothing is placed on a drained agent, and in the end
    /// drained agents are empty where others have room.
    #[test]
    fn draining_keeps_the_bounds_and_empties_agents(
        count in 1..6u32,
        min_ppm in prop_oneof![Just(PPM), Just(PPM / 2), Just(0)],
        over_ppm in prop_oneof![Just(0), Just(PPM / 2), Just(PPM)],
        single in any::<bool>(),
        turns in prop::collection::vec(turn(), 0..80),
    ) {
        let mut bench = Bench::with(NAMES.map(|name| agent(name, 1200, 4096)).to_vec());
        let mut only = app("/s", 1);
        only.labels.insert(LABEL_SINGLE_INSTANCE.into(), "true".into());
        bench.create(bounded("/a", count, min_ppm, over_ppm));
        if single {
            bench.create(only);
        }
        bench.finish();
        for turn in &turns {
            bench.clock += 1000;
            match turn {
                Turn::Drain(at) => drop(drain(&mut bench, NAMES[*at])),
                Turn::Undrain(at) => drop(undrain(&mut bench, NAMES[*at])),
                Turn::Deploy => bench.settle_with(|before, command, after| {
                    let app = &after.apps[&AppId::new("/a")].app;
                    let (least, most) = least_and_most(app);
                    if matches!(command, Command::Decommission { .. }) {
                        let (had, have) = (working(before, "/a"), working(after, "/a"));
                        assert!(have >= least.min(had), "{had} -> {have}, at least {least}");
                    }
                    let app_id = AppId::new("/a");
                    if let (Command::AddInstances { app_id: grown, .. }, true) =
                        (command, before.deployments.is_empty())
                        && *grown == app_id
                    {
                        let all = after.instances_of(&app_id).count() as u32;
                        let had = before.instances_of(&app_id).count() as u32;
                        assert!(all <= most.max(had), "{had} -> {all}, at most {most}");
                    }
                }),
                Turn::Place => {
                    for placed in bench.place().decisions {
                        prop_assert!(!bench.state.is_draining(&placed.agent_id));
                    }
                }
                Turn::Obey => bench.obey(),
                Turn::Fail(n) => {
                    let ids: Vec<InstanceId> = bench.state.instances.values()
                        .filter(|i| i.task.is_some()).map(|i| i.id.clone()).collect();
                    if !ids.is_empty() {
                        bench.report(&ids[n % ids.len()], TaskState::Failed, None);
                    }
                }
                Turn::Scale(count) => {
                    let app = bounded("/a", *count, min_ppm, over_ppm);
                    let _ = bench.change(vec![AppChange::Update(app)], false);
                }
            }
            let only = bench.instances("/s");
            prop_assert!(only.iter().filter(|i| i.task.is_some()).count() <= 1, "never two");
        }
        undrain(&mut bench, "n3");
        bench.finish();
        for task in bench.state.instances.values().filter_map(|i| i.task.as_ref()) {
            prop_assert!(!bench.state.is_draining(&task.agent_id));
            prop_assert_eq!(&task.misplaced, &None);
        }
        prop_assert_eq!(bench.instances("/s").len(), usize::from(single));
    }
}
