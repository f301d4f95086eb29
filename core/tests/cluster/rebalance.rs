//! Evening out after an agent has come: gently, only where it is clearly better, and to an end.

use crate::bench::{Bench, agent, app, resident};
use bramble_core::command::{AppChange, Command};
use bramble_core::deploy::{
    self, REBALANCE_AFTER_MS, REBALANCE_FOR_MS, REBALANCE_MOVE_MS, REBALANCE_MOVES_MAX,
    REBALANCE_PAUSE_MS,
};
use bramble_core::model::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Agents of which the last is away while `apps` come to run on the others, and then returns.
fn returned(names: &[&str], apps: &[App]) -> Bench {
    let mut bench = Bench::with(names.iter().map(|name| agent(name, 1000, 1000)).collect());
    let last = AgentId::new(*names.last().expect("a name"));
    bench.must(Command::SetReachable { agent_id: last.clone(), reachable: false });
    for app in apps {
        bench.create(app.clone());
    }
    bench.finish();
    bench.clock += REBALANCE_FOR_MS;
    bench.must(Command::SetReachable { agent_id: last, reachable: true });
    bench.evens = true;
    bench
}

fn wish(bench: &Bench) -> Option<Command> {
    deploy::rebalance(&bench.state, Time(bench.clock))
}

fn moving(state: &State) -> Vec<&AppId> {
    let leaves = |i: &&Instance| i.task.as_ref().is_some_and(|t| t.rebalanced.is_some());
    state.instances.values().filter(leaves).map(|i| &i.app_id).collect()
}

/// Let a second pass at a time until so many have.
fn run(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds {
        bench.settle_with(|before, command, _| {
            if let Command::Decommission { ids } = command {
                for id in ids {
                    let app_id = &before.instances[id].app_id;
                    let ready = before
                        .instances_of(app_id)
                        .filter(|i| i.task.as_ref().is_some_and(|t| t.healthy == Some(true)));
                    let wanted = before.apps[app_id].app.instances as usize;
                    assert!(ready.count() > wanted, "the successor works first");
                }
            }
        });
        bench.place();
        bench.obey();
        let moving = moving(&bench.state);
        assert!(moving.len() <= REBALANCE_MOVES_MAX, "{moving:?}");
        assert!(moving.windows(2).all(|pair| pair[0] != pair[1]), "one of an app: {moving:?}");
        bench.clock += 1000;
    }
}

fn per_host(bench: &Bench, id: &str) -> BTreeMap<String, u32> {
    let mut hosts = BTreeMap::new();
    for task in bench.instances(id).into_iter().filter_map(|i| i.task.as_ref()) {
        *hosts.entry(task.host.clone()).or_default() += 1;
    }
    hosts
}

fn total(bench: &Bench, host: &str) -> usize {
    bench.state.tasks_on(&AgentId::new(host)).count()
}

#[test]
fn an_app_spreads_onto_the_agent_that_returned() {
    let mut bench = returned(&["n1", "n2", "n3"], &[app("/a", 3)]);
    assert_eq!(wish(&bench), None, "it has only just come");
    let after = Time(bench.clock + REBALANCE_AFTER_MS);
    assert_eq!(deploy::next_rebalance(&bench.state, Time(bench.clock)), Some(after));
    run(&mut bench, REBALANCE_AFTER_MS / 1000);
    assert_eq!(total(&bench, "n3"), 0);
    run(&mut bench, 10);
    assert_eq!(per_host(&bench, "/a").values().copied().collect::<Vec<_>>(), [1, 1, 1]);
    run(&mut bench, 60);
    assert_eq!(per_host(&bench, "/a").len(), 3);
    assert_eq!(wish(&bench), None);
}

#[test]
fn a_much_fuller_agent_gives_some_away_with_pauses() {
    let apps: Vec<App> = (0..8).map(|n| app(&format!("/a{n}"), 1)).collect();
    let mut bench = returned(&["n1", "n2"], &apps);
    assert_eq!((total(&bench, "n1"), total(&bench, "n2")), (8, 0));
    bench.clock += REBALANCE_AFTER_MS;
    bench.settle();
    assert_eq!(moving(&bench.state).len(), 1);
    assert_eq!(wish(&bench), None, "a pause");
    bench.clock += REBALANCE_PAUSE_MS;
    bench.settle();
    assert_eq!(moving(&bench.state).len(), 2);
    bench.clock += REBALANCE_PAUSE_MS;
    bench.settle();
    assert_eq!(moving(&bench.state).len(), REBALANCE_MOVES_MAX, "no more at once");
    run(&mut bench, 120);
    // Not to the last task: the gap must be clear.
    assert_eq!((total(&bench, "n1"), total(&bench, "n2")), (5, 3));
    assert_eq!(wish(&bench), None);
}

#[test]
fn what_may_not_move_stays() {
    let mut never = app("/never", 3);
    never.labels.insert(LABEL_REBALANCE.into(), "never".into());
    let mut single = app("/single", 1);
    single.labels.insert(LABEL_SINGLE_INSTANCE.into(), "true".into());
    let mut tight = app("/tight", 3);
    tight.upgrade = UpgradeStrategy { min_health_ppm: PPM / 2, max_over_ppm: 0 };
    let mut bound = app("/bound", 3);
    bound.constraints = vec![Constraint {
        field: "hostname".into(),
        operator: Operator::Unlike,
        value: Some("n2".into()),
    }];
    for definition in [never, single, tight, bound, resident("/data", 3, 1)] {
        let mut bench = returned(&["n1", "n2"], std::slice::from_ref(&definition));
        let before = bench.state.instances.clone();
        run(&mut bench, 120);
        assert_eq!(bench.state.instances, before, "{}", definition.id);
    }
    // Unhealthy, in a deployment, or onto an agent that is drained: not now.
    let mut bench = returned(&["n1", "n2"], &[app("/a", 3)]);
    bench.clock += REBALANCE_AFTER_MS;
    assert!(wish(&bench).is_some());
    let mut sick = bench.state.clone();
    sick.apps.get_mut(&AppId::new("/a")).expect("it is there").app.health_checks =
        vec![crate::bench::health_check()];
    let instance = sick.instances.values_mut().next().expect("one");
    instance.task.as_mut().expect("a task").healthy = Some(false);
    assert_eq!(deploy::rebalance(&sick, Time(bench.clock)), None);
    let mut late = bench.state.clone();
    late.now = Time(bench.clock + REBALANCE_FOR_MS);
    assert_eq!(deploy::rebalance(&late, late.now), None, "only for a while");
    bench.must(Command::Drain { agent_id: AgentId::new("n2") });
    assert_eq!(wish(&bench), None);
    bench.must(Command::Undrain { agent_id: AgentId::new("n2") });
    assert_eq!(wish(&bench), None);
    bench.clock += REBALANCE_AFTER_MS;
    assert!(wish(&bench).is_some(), "opened again, it has come anew");
    let more = App { instances: 4, ..app("/a", 3) };
    bench.change(vec![AppChange::Update(more)], false).expect("it grows");
    assert_eq!(wish(&bench), None);
}

#[test]
fn a_move_whose_successor_does_not_work_is_given_up() {
    let mut definition = app("/a", 2);
    definition.health_checks = vec![crate::bench::health_check()];
    let mut bench = returned(&["n1", "n2"], &[definition]);
    let before = bench.state.instances.clone();
    bench.clock += REBALANCE_AFTER_MS;
    bench.settle();
    bench.place();
    let started = bench.instances("/a").into_iter().find(|i| !before.contains_key(&i.id));
    let started = started.expect("a successor").id.clone();
    assert_eq!(per_host(&bench, "/a")["n2"], 1);
    bench.report(&started, TaskState::Running, Some(false));
    bench.settle();
    assert_eq!(bench.instances("/a").len(), 3, "the old one stays");
    bench.clock += REBALANCE_MOVE_MS;
    bench.evens = false;
    bench.settle();
    bench.obey();
    assert_eq!(bench.state.instances, before);
}

#[test]
fn a_change_of_the_app_ends_a_move() {
    let mut bench = returned(&["n1", "n2"], &[app("/a", 2)]);
    bench.clock += REBALANCE_AFTER_MS;
    bench.settle();
    assert_eq!(moving(&bench.state).len(), 1);
    bench.update(App { cmd: Some("sleep 2000".into()), ..app("/a", 2) });
    bench.settle();
    assert_eq!(moving(&bench.state).len(), 0);
    bench.finish();
    assert_eq!(bench.instances("/a").len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    /// Evening out comes to rest, and then nothing moves any more, however long it is asked.
    #[test]
    fn evening_out_comes_to_an_end(
        sizes in prop::collection::vec((500..4000u64, 100..2000u64), 2..5),
        apps in prop::collection::vec((1..5u32, 20..400u64, 5..200u64), 1..8),
        away in 1..4usize,
    ) {
        let names: Vec<String> = (0..sizes.len()).map(|n| format!("n{n}")).collect();
        let agents = names.iter().zip(&sizes);
        let agents: Vec<Agent> = agents.map(|(n, (cpus, mem))| agent(n, *cpus, *mem)).collect();
        let mut bench = Bench::with(agents);
        let away: Vec<AgentId> = names.iter().skip(1).take(away).map(AgentId::new).collect();
        for id in &away {
            bench.must(Command::SetReachable { agent_id: id.clone(), reachable: false });
        }
        for (at, (instances, cpus_milli, mib)) in apps.iter().enumerate() {
            let resources = Resources {
                cpus_milli: *cpus_milli,
                mem_bytes: mib * BYTES_PER_MIB,
                ..Resources::default()
            };
            bench.create(App { resources, ..app(&format!("/a{at}"), *instances) });
            for _ in 0..4 {
                bench.settle();
                bench.place();
                bench.obey();
            }
        }
        for id in &away {
            bench.must(Command::SetReachable { agent_id: id.clone(), reachable: true });
        }
        let mut moves = 0;
        let mut idle = 0;
        // As if they had come again and again: the window must not be what ends it.
        for _ in 0..2000 {
            let now = bench.clock;
            let arrived: Vec<AgentId> = bench.state.arrived.keys().cloned().collect();
            for id in arrived {
                bench.state.arrived.insert(id, Time(now.saturating_sub(REBALANCE_AFTER_MS)));
            }
            let wish = wish(&bench);
            idle = if wish.is_some() || !moving(&bench.state).is_empty() { 0 } else { idle + 1 };
            if let Some(command) = wish {
                moves += 1;
                bench.must(command);
            }
            bench.settle();
            bench.place();
            bench.obey();
            bench.clock += REBALANCE_PAUSE_MS;
            if idle > 20 {
                break;
            }
        }
        prop_assert!(idle > 20, "{moves} moves, and still more");
        let tasks = bench.state.instances.len();
        prop_assert!(moves <= 4 * tasks, "{moves} moves of {tasks} tasks");
    }
}
