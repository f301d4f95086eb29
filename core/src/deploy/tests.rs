//! Table tests of planning, bounds and the choice of what stops.

use super::crowd::Crowd;
use super::select::choose_to_stop;
use super::upgrade::Bounds;
use super::*;
use crate::model::*;
use std::collections::BTreeSet;

fn app(id: &str, instances: u32, cmd: &str, dependencies: &[&str]) -> App {
    let mut app = App::with_defaults(AppId::new(id));
    app.instances = instances;
    app.cmd = Some(cmd.into());
    app.dependencies = dependencies.iter().map(|d| AppId::new(*d)).collect();
    app
}

fn group(apps: &[App]) -> Group {
    let apps = apps.iter().map(|a| (a.id.clone(), a.clone())).collect();
    Group { apps, ..Group::default() }
}

fn steps(plan: &Plan) -> Vec<String> {
    let action = |a: &DeploymentAction| format!("{:?} {}", a.kind, a.app_id);
    let step = |s: &Step| s.actions.iter().map(action).collect::<Vec<_>>().join(", ");
    plan.steps.iter().map(step).collect()
}

/// (name, original, target, steps)
type Case = (&'static str, Vec<App>, Vec<App>, &'static [&'static str]);

#[test]
fn plans_follow_the_contract() {
    let a = |n, cmd| app("/a", n, cmd, &[]);
    let cases: &[Case] = &[
        ("nothing", vec![a(1, "x")], vec![a(1, "x")], &[]),
        ("new", vec![], vec![a(1, "x")], &["Start /a", "Scale /a"]),
        ("gone", vec![a(1, "x")], vec![], &["Stop /a"]),
        ("scaled", vec![a(1, "x")], vec![a(2, "x")], &["Scale /a"]),
        ("changed", vec![a(1, "x")], vec![a(1, "y")], &["Restart /a"]),
        ("changed and scaled", vec![a(1, "x")], vec![a(2, "y")], &["Restart /a"]),
        ("changed and suspended", vec![a(1, "x")], vec![a(0, "y")], &["Scale /a"]),
        (
            "all at once, what others need first",
            vec![a(1, "x"), app("/gone", 1, "x", &[]), app("/same", 1, "x", &[])],
            vec![
                a(1, "y"),
                app("/b", 1, "x", &["/db"]),
                app("/c", 1, "x", &["/b", "/a"]),
                app("/db/one", 1, "x", &[]),
                app("/db/two", 1, "x", &["/db/one"]),
                app("/same", 1, "x", &[]),
            ],
            &[
                "Stop /gone",
                "Start /b, Start /c, Start /db/one, Start /db/two",
                "Restart /a, Scale /db/one",
                "Scale /db/two",
                "Scale /b",
                "Scale /c",
            ],
        ),
        (
            "a chain through an untouched app still orders",
            vec![a(1, "x"), app("/b", 1, "x", &["/a"]), app("/c", 1, "x", &["/b"])],
            vec![a(1, "y"), app("/b", 1, "x", &["/a"]), app("/c", 1, "y", &["/b"])],
            &["Restart /a", "Restart /c"],
        ),
        (
            "a cycle is planned all the same",
            vec![],
            vec![app("/a", 1, "x", &["/b"]), app("/b", 1, "x", &["/a", "/b"])],
            &["Start /a, Start /b", "Scale /a, Scale /b"],
        ),
        (
            "unknown dependencies hold nobody up",
            vec![],
            vec![app("/a", 1, "x", &["/none"])],
            &["Start /a", "Scale /a"],
        ),
    ];
    for (name, original, target, expected) in cases {
        assert_eq!(steps(&plan(&group(original), &group(target))), *expected, "{name}");
    }
}

#[test]
fn restarts_can_be_forced() {
    let same = group(&[app("/a", 1, "x", &[]), app("/b", 0, "x", &[]), app("/c", 1, "x", &[])]);
    let restarts = BTreeSet::from(["/a", "/b"].map(AppId::new));
    let plan = plan_with_restarts(&same, &same, &restarts);
    assert_eq!(steps(&plan), ["Restart /a, Scale /b"]);
}

#[test]
fn a_long_chain_is_planned_without_recursion() {
    let id = |n: u32| AppId(format!("/app{n:05}"));
    let link = |n: u32| {
        let mut app = App::with_defaults(id(n));
        app.dependencies = n.checked_sub(1).map(id).into_iter().collect();
        app
    };
    let apps: Vec<App> = (0..20_000).map(link).collect();
    assert_eq!(plan(&Group::default(), &group(&apps)).steps.len(), 20_001);
}

#[test]
fn bounds_never_meet() {
    let half = PPM / 2;
    // (n, min, over, resident, singleton) -> (least working, most)
    let cases = [
        ((4, PPM, PPM, false, false), (4, 8)),
        ((4, PPM, 0, false, false), (4, 5)),
        ((4, 0, 0, false, false), (0, 4)),
        ((3, half, half, false, false), (2, 4)),
        ((5, 333_333, 0, false, false), (2, 5)),
        ((3, half, 0, true, false), (2, 3)),
        ((1, half, 0, true, false), (0, 1)),
        ((2, PPM, 0, true, false), (1, 2)),
        ((1, PPM, PPM, false, true), (0, 1)),
        ((u32::MAX, PPM, PPM, false, false), (u32::MAX, u32::MAX)),
    ];
    for ((n, min, over, resident, single), (min_healthy, max_capacity)) in cases {
        let mut app = app("/a", n, "x", &[]);
        app.upgrade = UpgradeStrategy { min_health_ppm: min, max_over_ppm: over };
        if single {
            app.labels.insert(LABEL_SINGLE_INSTANCE.into(), "true".into());
        }
        if resident {
            app.container = Some(Container {
                kind: ContainerKind::Mesos,
                docker: None,
                port_mappings: None,
                volumes: vec![Volume::Persistent {
                    container_path: "d".into(),
                    mode: VolumeMode::ReadWrite,
                    kind: "root".into(),
                    size_mib: 1,
                    max_size_mib: None,
                    profile_name: None,
                    constraints: vec![],
                }],
                linux_info: None,
            });
        }
        let bounds = Bounds { min_healthy, max_capacity };
        assert_eq!(Bounds::of(&app), bounds, "{n} {min} {over} {resident} {single}");
    }
}

/// (name, version, state and start of its task, agent)
type Row = (&'static str, u64, Option<(TaskState, u64)>, &'static str);

fn state_with(app: App, rows: &[Row]) -> State {
    let mut state = State::default();
    for (agent, rack) in [("n1", "r1"), ("n2", "r2")] {
        let agent = Agent {
            id: AgentId::new(agent),
            name: agent.into(),
            total: Resources::default(),
            ports: vec![],
            attributes: [("rack".to_string(), rack.to_string())].into_iter().collect(),
            reachable: true,
        };
        state.agents.insert(agent.id.clone(), agent);
    }
    for (name, version, task, agent) in rows {
        let id = InstanceId::compose(&app.id, name);
        let task = task.map(|(task_state, start)| Task {
            state: task_state,
            ..Task::staging(id.task(1), AgentId::new(*agent), agent, Time(start))
        });
        let instance = Instance {
            task,
            ..Instance::waiting(id.clone(), app.id.clone(), Time(*version), Time(0))
        };
        state.instances.insert(id, instance);
    }
    let record =
        AppRecord { app, versions: vec![], delay: LaunchDelay::default(), last_failure: None };
    state.apps.insert(record.app.id.clone(), record);
    state
}

#[test]
fn what_stops_first() {
    use TaskState::*;
    let rows: &[Row] = &[
        ("run-late", 9, Some((Running, 30)), "n1"),
        ("run-early", 9, Some((Running, 10)), "n1"),
        ("run-old", 1, Some((Running, 20)), "n2"),
        ("away", 9, Some((Running, 40)), "n3"),
        ("starting", 9, Some((Starting, 5)), "n1"),
        ("staging", 9, Some((Staging, 5)), "n1"),
        ("waiting", 9, None, "n1"),
    ];
    let order = |app: App, rows: &[Row], count| {
        let state = state_with(app.clone(), rows);
        let crowd = Crowd::of(&state, &app.id);
        let chosen = choose_to_stop(&state, &app, &crowd, count);
        let prefix = InstanceId::prefix(&app.id);
        chosen.into_iter().map(|id| id.0.replace(&prefix, "")).collect::<Vec<_>>()
    };
    let mut app = app("/a", 0, "x", &[]);
    app.last_config_change = Time(5);
    app.version = Time(9);
    let first = ["waiting", "away", "staging", "starting", "run-old"];
    assert_eq!(order(app.clone(), rows, 9), [&first[..], &["run-late", "run-early"]].concat());
    assert_eq!(order(app.clone(), rows, 3), ["waiting", "away", "staging"]);
    assert!(order(app.clone(), rows, 0).is_empty());
    app.kill_selection = KillSelection::OldestFirst;
    assert_eq!(order(app.clone(), rows, 9), [&first[..], &["run-early", "run-late"]].concat());

    // GROUP_BY: racks stay even, whatever the ages say.
    app.constraints =
        vec![Constraint { field: "rack".into(), operator: Operator::GroupBy, value: None }];
    let rows: &[Row] = &[
        ("a1", 9, Some((Running, 1)), "n1"),
        ("a2", 9, Some((Running, 2)), "n1"),
        ("b3", 9, Some((Running, 3)), "n2"),
        ("b4", 9, Some((Running, 4)), "n2"),
        ("b5", 9, Some((Running, 5)), "n2"),
    ];
    assert_eq!(order(app, rows, 4), ["b3", "a1", "b4", "a2"]);
}

/// A step waits until new tasks are ready where their app asks for that (Marathon's contract,
/// sections 5.3 and 8), and only then goes on.
#[test]
fn steps_wait_for_readiness() {
    let app = App {
        readiness_checks: vec![ReadinessCheck {
            name: "r".into(),
            https: false,
            path: "/".into(),
            port_name: "http".into(),
            interval_ms: 1000,
            timeout_ms: 500,
            ready_status_codes: vec![200],
            preserve_last_response: false,
        }],
        ..App::with_defaults(AppId::new("/a"))
    };
    let result = |ready| ReadinessResult { name: "r".into(), ready, last_response: None };
    let probes = |readiness| TaskProbes { readiness, ..TaskProbes::default() };
    let cases = [
        ("nothing said yet", probes(vec![]), false),
        ("not ready", probes(vec![result(false)]), false),
        ("ready", probes(vec![result(true)]), true),
    ];
    for (name, probes, ready) in cases {
        let rows = [("x", 0, Some((TaskState::Running, 1)), "n1")];
        let mut state = state_with(app.clone(), &rows);
        let instance = state.instances.values_mut().next().expect("one instance");
        instance.task.as_mut().expect("a task").probes = probes;
        let crowd = Crowd::of(&state, &app.id);
        assert_eq!(restart::moves(&app, &crowd).done, ready, "restart: {name}");
        assert_eq!(scale::moves(&state, &app, &crowd, true).done, ready, "scale: {name}");
    }
}
