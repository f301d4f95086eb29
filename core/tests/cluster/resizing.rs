//! Changes of nothing but size: taken by running tasks where they can, by new ones where not.

use crate::bench::{Bench, agent, app};
use bramble_core::command::{AppChange, Command};
use bramble_core::model::*;
use bramble_core::taskenv;

const MIB: u64 = BYTES_PER_MIB;

fn sized(instances: u32, mem_mib: u64) -> App {
    let mut app = app("/a", instances);
    app.resources.mem_bytes = mem_mib * MIB;
    app
}

fn started(app: App, agents: Vec<Agent>) -> Bench {
    let mut bench = Bench::with(agents);
    bench.create(app);
    bench.finish();
    bench.clock += 1000;
    bench
}

fn ids(bench: &Bench) -> Vec<String> {
    let tasks = bench.state.instances.values().filter_map(|i| i.task.as_ref());
    tasks.map(|t| t.id.0.clone()).collect()
}

fn used_mib(bench: &Bench, agent: &str) -> u64 {
    bench.state.used_on(&AgentId::new(agent)).resources.mem_bytes / MIB
}

/// Let agents answer what they were told of sizes; `refused` is why they could not.
fn answer(bench: &mut Bench, refused: Option<&str>) {
    let instances: Vec<Instance> = bench.state.instances.values().cloned().collect();
    for instance in instances {
        let Some(task) = instance.task.as_ref().filter(|t| t.resizing().is_some()) else {
            continue;
        };
        let status = TaskStatus {
            task_id: task.id.clone(),
            sequence: task.last_sequence + 1,
            state: TaskState::Running,
            message: String::new(),
            healthy: None,
            ip: None,
            exit_code: None,
            probes: None,
            containers: Vec::new(),
            restarts: 0,
            size: Some(SizeReport {
                version: instance.assigned_version(),
                refused: refused.map(str::to_string),
            }),
        };
        bench.must(Command::RecordStatus { statuses: vec![status] });
    }
}

#[test]
fn running_tasks_keep_their_ids_and_get_the_new_size() {
    let mut bench = started(sized(2, 16), vec![agent("n1", 1000, 100)]);
    let before = ids(&bench);
    let mut larger = sized(2, 32);
    larger.resource_limits = Some(ResourceLimits { cpus: None, mem: Some(Limit::At(64 * MIB)) });
    bench.update(larger);
    bench.settle();
    // On its way: the room is taken, the agents are told, and nobody is done.
    assert_eq!((ids(&bench), used_mib(&bench, "n1")), (before.clone(), 64));
    let version = bench.stored("/a").app.version;
    for told in taskenv::assignments_on(&bench.state, &AgentId::new("n1")) {
        assert_eq!((told.app_version, told.spec.mem_limit_bytes), (version, Some(64 * MIB)));
        assert_eq!(told.spec.resources.mem_bytes, 32 * MIB);
    }
    assert_eq!(bench.state.deployments.len(), 1);
    assert!(bench.deployer().is_empty());
    answer(&mut bench, None);
    bench.settle();
    assert!(bench.state.deployments.is_empty());
    assert_eq!(ids(&bench), before);
    assert!(bench.instances("/a").iter().all(|i| i.version == version));
    let app = &bench.stored("/a").app;
    assert_eq!((app.last_config_change, app.last_scaling), (version, version));
}

#[test]
fn smaller_ones_keep_their_room_until_the_agent_has_said_so() {
    let mut bench = started(sized(1, 64), vec![agent("n1", 1000, 100)]);
    bench.update(sized(1, 16));
    bench.settle();
    assert_eq!(used_mib(&bench, "n1"), 64);
    answer(&mut bench, None);
    assert_eq!(used_mib(&bench, "n1"), 16);
}

#[test]
fn what_an_agent_refuses_is_replaced_and_not_tried_again() {
    let mut bench = started(sized(1, 64), vec![agent("n1", 1000, 100)]);
    let before = ids(&bench);
    bench.update(sized(1, 16));
    bench.settle();
    answer(&mut bench, Some("in use"));
    assert_eq!(used_mib(&bench, "n1"), 64, "it keeps what it had");
    let told = taskenv::assignments_on(&bench.state, &AgentId::new("n1")).remove(0);
    assert_eq!(told.spec.mem_limit_bytes, Some(64 * MIB), "and is told so");
    let verdicts = bench.state.resizable(&AppId::new("/a"));
    assert_eq!(verdicts[0].1, Err(Unresizable::Refused("in use".into())));
    bench.finish();
    assert_ne!(ids(&bench), before);
    assert_eq!(used_mib(&bench, "n1"), 16);
}

#[test]
fn the_one_without_room_moves_and_the_others_stay() {
    let agents = vec![agent("n1", 1000, 50), agent("n2", 1000, 100)];
    let mut app = sized(2, 40);
    app.constraints = vec![Constraint {
        field: "hostname".into(),
        operator: Operator::MaxPer,
        value: Some("2".into()),
    }];
    let mut bench = started(app.clone(), agents);
    let before = ids(&bench);
    let on = |bench: &Bench, host: &str| {
        let tasks = bench.state.instances.values().filter_map(|i| i.task.as_ref());
        let id = tasks.filter(|t| t.host == host).map(|t| t.id.0.clone());
        id.collect::<Vec<_>>()
    };
    let (first, second) = (on(&bench, "n1"), on(&bench, "n2"));
    assert_eq!((first.len(), second.len()), (1, 1), "{before:?}");
    app.resources.mem_bytes = 50 * MIB;
    app.resources.cpus_milli = 200;
    bench.update(app.clone());
    bench.finish();
    assert_eq!(ids(&bench), before, "both fit as they are");
    app.resources.mem_bytes = 50 * MIB - 1;
    app.resources.cpus_milli = 500;
    let verdicts = |bench: &Bench| bench.state.resizable(&AppId::new("/a"));
    bench.must(Command::RegisterAgent { agent: agent("n1", 400, 50) });
    bench.update(app);
    let found: Vec<_> = verdicts(&bench).into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(found.iter().filter(|v| **v == Err(Unresizable::NoRoom)).count(), 1, "{found:?}");
    bench.finish();
    assert_eq!(on(&bench, "n1"), Vec::<String>::new());
    let now = on(&bench, "n2");
    assert!(now.len() == 2 && now.contains(&second[0]), "{now:?}");
}

#[test]
fn other_changes_restarts_and_the_label_ask_for_new_tasks() {
    let label = |mut app: App| {
        app.labels.insert(LABEL_RESIZE.into(), RESIZE_BY_RESTART.into());
        app
    };
    let command = |mut app: App| {
        app.cmd = Some("sleep 2".into());
        app
    };
    let gpus = |mut app: App| {
        app.resources.gpus = 0;
        app.health_checks = vec![crate::bench::health_check()];
        app
    };
    let rows: [(&str, App, App); 4] = [
        ("the label", label(sized(1, 16)), label(sized(1, 32))),
        ("its removal with a change", label(sized(1, 16)), sized(1, 32)),
        ("a command too", sized(1, 16), command(sized(1, 32))),
        ("a check too", sized(1, 16), gpus(sized(1, 32))),
    ];
    for (name, first, second) in rows {
        let mut bench = started(first, vec![agent("n1", 1000, 100)]);
        let before = ids(&bench);
        bench.update(second);
        bench.finish();
        assert_ne!(ids(&bench), before, "{name}");
    }
    let mut bench = started(sized(1, 16), vec![agent("n1", 1000, 100)]);
    let before = ids(&bench);
    // A restart that comes before the size has settled is one all the same.
    bench.update(sized(1, 32));
    bench.settle();
    bench.change(vec![AppChange::Restart(AppId::new("/a"))], true).expect("forced");
    bench.finish();
    assert_ne!(ids(&bench), before, "a restart");
}

#[test]
fn a_change_while_another_is_on_its_way_wins() {
    let mut bench = started(sized(1, 16), vec![agent("n1", 1000, 100)]);
    let before = ids(&bench);
    bench.update(sized(1, 64));
    bench.settle();
    let stale = bench.state.instances.values().next().expect("one").clone();
    bench.change(vec![AppChange::Update(sized(1, 32))], true).expect("forced");
    bench.settle();
    assert_eq!(used_mib(&bench, "n1"), 64, "the larger one may be in force by now");
    let task = stale.task.as_ref().expect("runs");
    let late = SizeReport { version: stale.assigned_version(), refused: None };
    let status = TaskStatus {
        task_id: task.id.clone(),
        sequence: task.last_sequence + 1,
        state: TaskState::Running,
        message: String::new(),
        healthy: None,
        ip: None,
        exit_code: None,
        probes: None,
        containers: Vec::new(),
        size: Some(late),
        restarts: 0,
    };
    bench.must(Command::RecordStatus { statuses: vec![status] });
    assert_eq!(bench.state.deployments.len(), 1, "that was the earlier one's answer");
    bench.finish();
    assert_eq!((ids(&bench), used_mib(&bench, "n1")), (before, 32));
}

#[test]
fn a_size_and_a_count_change_together() {
    for count in [1, 5] {
        let mut bench = started(sized(3, 16), vec![agent("n1", 1000, 500)]);
        let before = ids(&bench);
        bench.update(sized(count, 32));
        bench.finish();
        let kept = ids(&bench).iter().filter(|id| before.contains(id)).count();
        assert_eq!((ids(&bench).len(), kept), (count as usize, count.min(3) as usize));
        assert_eq!(used_mib(&bench, "n1"), 32 * u64::from(count));
    }
}
