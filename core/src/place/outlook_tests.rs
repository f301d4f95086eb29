//! Tables of where apps would land and what is in their way.

use super::*;
use crate::model::*;

fn state(agents: &[&str]) -> State {
    let mut state = State::default();
    for name in agents {
        let agent = Agent {
            id: AgentId::new(*name),
            name: name.to_string(),
            total: Resources { cpus_milli: 4000, mem_bytes: 1 << 30, disk_bytes: 0, gpus: 0 },
            ports: vec![],
            attributes: BTreeMap::new(),
            reachable: true,
        };
        state.agents.insert(agent.id.clone(), agent);
    }
    state
}

fn offer(agent: &str, cpus_milli: u64) -> Offer {
    Offer {
        id: agent.into(),
        agent_id: AgentId::new(agent),
        hostname: agent.into(),
        free: Resources { cpus_milli, mem_bytes: 1 << 30, disk_bytes: 0, gpus: 0 },
        ports: vec![],
        attributes: BTreeMap::new(),
        roles: <_>::default(),
        generation: 1,
        devices: <_>::default(),
        vitals: <_>::default(),
    }
}

fn app(instances: u32) -> App {
    App {
        instances,
        resources: Resources { cpus_milli: 1000, mem_bytes: 1, disk_bytes: 0, gpus: 0 },
        ..App::with_defaults(AppId::new("/a"))
    }
}

fn landed(outlook: &Outlook) -> Vec<(&str, u32)> {
    outlook.landings.iter().map(|(agent, count)| (agent.as_str(), *count)).collect()
}

/// Put the app into the state with one running task per agent named.
fn running(state: &mut State, app: &App, agents: &[&str]) {
    for (number, agent) in agents.iter().enumerate() {
        let id = InstanceId::compose(&app.id, &format!("run{number}"));
        let task = Task {
            ports: vec![80],
            resources: app.resources,
            state: TaskState::Running,
            last_sequence: 1,
            ..Task::staging(id.task(1), AgentId::new(*agent), agent, Time(number as u64))
        };
        let instance = Instance {
            task: Some(task),
            ..Instance::waiting(id.clone(), app.id.clone(), app.version, Time(0))
        };
        state.instances.insert(id, instance);
    }
    let record = AppRecord {
        app: app.clone(),
        versions: vec![],
        delay: LaunchDelay::default(),
        last_failure: None,
    };
    state.apps.insert(app.id.clone(), record);
}

#[test]
fn a_new_app_lands_where_there_is_room() {
    let state = state(&["a", "b", "gone"]);
    let offers = vec![offer("a", 2000), offer("b", 1500)];
    let found = outlook(&state, offers.clone(), &app(3));
    assert_eq!(landed(&found), [("a", 2), ("b", 1)]);
    assert_eq!((found.wanted, found.unplaced), (3, 0));
    assert!(found.in_the_way.is_empty());
    assert_eq!(found.silent, [AgentId::new("gone")]);

    let found = outlook(&state, offers, &app(4));
    assert_eq!((landed(&found), found.unplaced), (vec![("a", 2), ("b", 1)], 1));
    let reasons: Vec<String> = found
        .in_the_way
        .iter()
        .map(|(agent, reasons)| format!("{agent}: {}", reasons[0].smallest_change()))
        .collect();
    assert_eq!(reasons, ["a: free 1 cpus", "b: set cpus to 0.5 or less, or free 0.5"]);
}

#[test]
fn scaling_asks_only_for_what_is_missing() {
    let mut state = state(&["a"]);
    running(&mut state, &app(1), &["a"]);
    let found = outlook(&state, vec![offer("a", 1000)], &app(3));
    assert_eq!((found.wanted, landed(&found), found.unplaced), (2, vec![("a", 1)], 1));
    let found = outlook(&state, vec![offer("a", 0)], &app(1));
    assert_eq!((found.wanted, found.unplaced), (0, 0));
}

#[test]
fn a_new_configuration_takes_the_place_of_the_old() {
    let mut state = state(&["a"]);
    let old = app(1);
    running(&mut state, &old, &["a"]);
    let mut new = App { cmd: Some("new".into()), ..old };
    new.port_definitions = vec![PortDefinition {
        port: 80,
        protocol: Protocol::Tcp,
        name: None,
        labels: BTreeMap::new(),
    }];
    new.require_ports = true;
    let found = outlook(&state, vec![offer("a", 0)], &new);
    assert_eq!((found.wanted, landed(&found)), (1, vec![("a", 1)]));
    let found = outlook(&state, vec![offer("a", 0)], &App { instances: 2, ..new });
    assert_eq!(found.unplaced, 1);
    assert!(matches!(found.in_the_way[0].1[0], Reason::InsufficientCpus { .. }));
}

#[test]
fn constraints_count_what_already_runs() {
    let mut state = state(&["a", "b"]);
    let unique = Constraint { field: "hostname".into(), operator: Operator::Unique, value: None };
    let wanted = App { constraints: vec![unique], ..app(3) };
    running(&mut state, &wanted, &["a"]);
    let found = outlook(&state, vec![offer("a", 4000), offer("b", 4000)], &wanted);
    assert_eq!((landed(&found), found.unplaced), (vec![("b", 1)], 1));
    for (_, reasons) in &found.in_the_way {
        assert_eq!(reasons[0].smallest_change(), "change or drop the constraint [hostname UNIQUE]");
    }
}

#[test]
fn a_mistyped_count_is_bounded() {
    let found = outlook(&state(&["a"]), vec![offer("a", 1000)], &app(u32::MAX));
    assert_eq!((found.wanted, found.unplaced), (u32::MAX, INSTANCES_CONSIDERED_MAX - 1));
}

#[test]
fn what_a_change_replaces_holds_its_place_until_it_is_told_to_stop() {
    let mut state = state(&["a"]);
    let old = App { version: Time(1), ..app(1) };
    running(&mut state, &old, &["a"]);
    let new =
        App { cmd: Some("new".into()), version: Time(2), last_config_change: Time(2), ..app(1) };
    let record = state.apps.get_mut(&new.id).expect("it is there");
    record.app = new.clone();
    record.versions = vec![old];
    let offers = vec![offer("a", 500)];
    // On paper, and now.
    assert_eq!(landed(&outlook(&state, offers.clone(), &new)), [("a", 1)]);
    let mut waiting = state.instances.values().next().expect("it runs").clone();
    waiting.id = InstanceId::compose(&new.id, "new");
    (waiting.version, waiting.task) = (Time(2), None);
    state.instances.insert(waiting.id.clone(), waiting);
    let found = present(&state, offers.clone(), &new);
    assert_eq!((found.wanted, found.unplaced), (1, 1));
    assert_eq!(found.in_the_way[0].1[0].smallest_change(), "set cpus to 0.5 or less, or free 0.5");
    // Told to stop, it counts as gone.
    let old = state.instances.values_mut().find(|i| i.task.is_some()).expect("it runs");
    old.goal = Goal::Decommissioned;
    assert_eq!(landed(&present(&state, offers, &new)), [("a", 1)]);
}
