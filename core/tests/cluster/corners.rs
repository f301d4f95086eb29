//! Corners of deployments, a row of Marathon's contract (section 8) each; and constraints, which
//! hold for every task of a configuration at every moment of a change.

use crate::bench::{Bench, agent, app, health_check};
use crate::placing::holds;
use bramble_core::command::{AppChange, Command, Rejection};
use bramble_core::event::Event;
use bramble_core::machine::DEPLOYMENTS_MAX;
use bramble_core::model::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn version(id: &str, instances: u32, cmd: &str) -> App {
    App { cmd: Some(cmd.into()), ..app(id, instances) }
}

fn running(apps: &[App]) -> Bench {
    let mut bench = Bench::with(vec![agent("n1", 10_000, 4096)]);
    let create = apps.iter().cloned().map(AppChange::Create).collect();
    bench.change(create, false).expect("creates");
    bench.finish();
    bench
}

#[test]
fn unhealthy_tasks_go_first() {
    let mut one = version("/a", 4, "one");
    one.health_checks = vec![health_check()];
    one.upgrade = UpgradeStrategy { min_health_ppm: PPM / 2, max_over_ppm: 0 };
    let mut bench = running(&[one.clone()]);
    let ids: Vec<InstanceId> = bench.instances("/a").iter().map(|i| i.id.clone()).collect();
    let sick: BTreeSet<InstanceId> = [ids[1].clone(), ids[3].clone()].into();
    for id in &sick {
        bench.report(id, TaskState::Running, Some(false));
    }
    bench.update(App { cmd: Some("two".into()), ..one });
    bench.settle();
    let stopping = bench.instances("/a").into_iter().filter(|i| i.goal == Goal::Decommissioned);
    assert_eq!(stopping.map(|i| i.id.clone()).collect::<BTreeSet<_>>(), sick);
}

#[test]
fn a_hundred_deployments_run_at_once() {
    let mut bench = Bench::empty();
    let deployments: Vec<DeploymentId> =
        (0..DEPLOYMENTS_MAX).map(|n| bench.create(app(&format!("/a{n}"), 1))).collect();
    let one_more = AppChange::Create(app("/more", 1));
    let full = Err(Rejection::DeploymentsFull { max: DEPLOYMENTS_MAX });
    assert_eq!(bench.change(vec![one_more.clone()], false), full);
    assert_eq!(bench.change(vec![one_more.clone()], true), full, "force is about locks");
    // What takes the place of another one always may.
    bench.change(vec![AppChange::Update(app("/a0", 2))], true).expect("in the place of its own");
    bench.roll_back(&deployments[1], UndoReason::Requested).expect("in the place of its own");
    assert_eq!(bench.change(vec![one_more.clone()], false), full);
    bench.must(Command::CancelDeployment { id: deployments[2].clone() });
    bench.change(vec![one_more], false).expect("there is room again");
}

#[test]
fn going_back_restores_only_what_the_deployment_changed() {
    let mut bench = running(&[version("/a", 2, "one"), version("/b", 1, "one")]);
    let mut web = version("/a", 2, "two");
    web.resources.cpus_milli = 1_000_000;
    let new = AppChange::Create(version("/c", 1, "one"));
    let stuck = bench.change(vec![AppChange::Update(web), new], false).expect("starts");
    bench.update(version("/b", 3, "two"));
    bench.settle();
    bench.roll_back(&stuck, UndoReason::Requested).expect("rolls back");
    bench.finish();
    let cmd = |id: &str| bench.stored(id).app.cmd.clone();
    assert_eq!((cmd("/a").as_deref(), cmd("/b").as_deref()), (Some("one"), Some("two")));
    assert_eq!(bench.instances("/b").len(), 3);
    assert!(!bench.state.apps.contains_key(&AppId::new("/c")), "what it made goes with it");
    // Going back from a change of the count alone leaves the rest to scaling.
    let before: BTreeSet<InstanceId> = bench.instances("/a").iter().map(|i| i.id.clone()).collect();
    let scaled = bench.update(version("/a", 5, "one"));
    bench.settle();
    bench.roll_back(&scaled, UndoReason::Requested).expect("rolls back");
    bench.finish();
    let after: BTreeSet<InstanceId> = bench.instances("/a").iter().map(|i| i.id.clone()).collect();
    assert_eq!(after, before);
}

#[test]
fn force_cancels_and_restores_nothing() {
    let mut one = version("/a", 2, "one");
    one.upgrade = UpgradeStrategy { min_health_ppm: PPM / 2, max_over_ppm: 0 };
    let mut bench = running(&[one.clone()]);
    let second = bench.update(App { cmd: Some("two".into()), ..one.clone() });
    bench.settle();
    bench.place();
    bench.obey();
    let started = bench.events.len();
    let third = App { cmd: Some("three".into()), ..one };
    bench.change(vec![AppChange::Update(third)], true).expect("force overrides");
    let told: Vec<&Event> = bench.events[started..].iter().collect();
    let cancelled =
        |e: &&&Event| matches!(e, Event::DeploymentCancelled { id, .. } if *id == second);
    assert_eq!(told.iter().filter(cancelled).count(), 1);
    assert!(!told.iter().any(|e| matches!(e, Event::DeploymentUndone { .. })));
    assert_eq!(bench.stored("/a").app.cmd.as_deref(), Some("three"));
    bench.finish();
    assert!(bench.instances("/a").iter().all(|i| bench.state.is_current(i)));
}

#[test]
fn a_task_that_does_not_start_is_replaced() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 1024)]);
    bench.create(app("/a", 1));
    bench.settle();
    bench.place();
    let first = bench.instances("/a")[0].id.clone();
    let start = bench.clock;
    bench.clock += 299_000;
    bench.settle();
    assert_eq!(bench.instances("/a").len(), 1, "it still has time");
    // As long as its agent says something of it, it is on its way: an image takes long to pull.
    bench.report(&first, TaskState::Staging, None);
    bench.clock = start + 300_000;
    bench.settle();
    assert_eq!(bench.instances("/a").len(), 1);
    let wake = bramble_core::deploy::next_stuck(&bench.state);
    assert_eq!(wake, Some(Time(start + 299_000 + 300_000)));
    bench.report(&first, TaskState::Starting, None);
    bench.clock += 300_000;
    bench.settle();
    let goals: Vec<Goal> = bench.instances("/a").iter().map(|i| i.goal).collect();
    assert_eq!(goals.iter().filter(|g| **g == Goal::Decommissioned).count(), 1);
    assert_eq!(goals.len(), 2, "another one takes its place");
    bench.report(&first, TaskState::Killed, None);
    assert_eq!(bench.stored("/a").delay, LaunchDelay::default(), "a kill is no failure");
    bench.finish();
    // What runs may stay quiet.
    bench.clock += 10_000_000;
    assert_eq!(bench.deployer(), []);
    assert_eq!(bramble_core::deploy::next_stuck(&bench.state), None);
}

fn rule() -> impl proptest::strategy::Strategy<Value = Constraint> {
    use Operator::*;
    let field = prop_oneof![Just("hostname"), Just("rack")];
    let rule = prop_oneof![
        Just((Unique, None)),
        Just((Cluster, None)),
        Just((GroupBy, None)),
        Just((GroupBy, Some("2".to_string()))),
        (1..3u8).prop_map(|n| (MaxPer, Some(n.to_string()))),
        Just((Like, Some("r1|n1".to_string()))),
        Just((Unlike, Some("r1|n1".to_string()))),
    ];
    (field, rule).prop_map(|(field, (operator, value))| Constraint {
        field: field.into(),
        operator,
        value,
    })
}

/// Judge every placement against the tasks of its own configuration that are there.
fn place(bench: &mut Bench) {
    let before = bench.state.clone();
    let decisions = bench.place().decisions;
    let mut placed: Vec<(Time, u64, TaskPlace)> = Vec::new();
    let spot = |id: &AgentId| {
        let agent = &before.agents[id];
        (agent.name.clone(), agent.attributes.clone())
    };
    let config = |i: &Instance| before.app_of(i).expect("its definition").last_config_change;
    for instance in before.instances.values() {
        if let Some(task) = &instance.task {
            placed.push((config(instance), task.staged_at.0, spot(&task.agent_id)));
        }
    }
    placed.sort_by_key(|(_, at, _)| *at);
    for decision in decisions {
        let instance = &before.instances[&decision.instance_id];
        let app = before.app_of(instance).expect("its definition");
        let own = config(instance);
        let alike: Vec<TaskPlace> =
            placed.iter().filter(|(c, _, _)| *c == own).map(|(_, _, p)| p.clone()).collect();
        let here = spot(&decision.agent_id);
        for rule in &app.constraints {
            assert!(holds(rule, &here, &alike), "{rule:?} at {here:?} beside {alike:?}");
        }
        placed.push((own, u64::MAX, here));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn constraints_hold_at_every_moment_of_a_change(
        rules in prop::collection::vec(rule(), 1..3),
        counts in (1..5u32, 1..5u32),
        label in prop::option::of(prop_oneof![
            Just((LABEL_CANARY, "50%")), Just((LABEL_BLUE_GREEN, "true"))
        ]),
        ends in prop::collection::vec((any::<usize>(), any::<bool>()), 0..20),
        word in any::<bool>(),
    ) {
        let racked = |name: &str, rack: &str| {
            let mut agent = agent(name, 10_000, 4096);
            agent.attributes = [("rack".to_string(), rack.to_string())].into();
            agent
        };
        let mut bench =
            Bench::with(vec![racked("n1", "r1"), racked("n2", "r1"), racked("n3", "r2")]);
        let mut one = version("/a", counts.0, "one");
        one.constraints = rules;
        bench.create(one.clone());
        let mut two = App { cmd: Some("two".into()), instances: counts.1, ..one };
        two.labels = label.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        for (at, (nth, killed)) in ends.iter().enumerate() {
            if at == 5 {
                bench.change(vec![AppChange::Update(two.clone())], true).expect("updates");
            }
            if at == 15 && word {
                bench.promote_all();
            } else if at == 15 && let Some(id) = bench.state.deployments.keys().next().cloned() {
                bench.roll_back(&id, UndoReason::Requested).expect("rolls back");
            }
            bench.settle();
            place(&mut bench);
            bench.obey();
            let tasks: Vec<InstanceId> = bench.state.instances.values()
                .filter(|i| i.task.is_some()).map(|i| i.id.clone()).collect();
            if let Some(id) = tasks.get(nth % tasks.len().max(1)) {
                match killed {
                    true => { bench.must(Command::Decommission { ids: vec![id.clone()] }); }
                    false => bench.report(id, TaskState::Failed, None),
                }
            }
            bench.clock += 400_000;
        }
    }
}
