use super::*;
use bramble_core::model::{
    ActionKind, AgentId, DeploymentAction, Group, HealthCheckKind, Plan, Step, UndoReason,
};
use serde_json::Value;

fn deployment(apps: &[&str], steps: usize, at: u32) -> Box<Deployment> {
    let mut target = Group::default();
    for id in apps {
        let app = App { version: Time(1), ..App::with_defaults(AppId::new(*id)) };
        target.apps.insert(app.id.clone(), app);
    }
    let kinds = [ActionKind::Start, ActionKind::Scale, ActionKind::Restart];
    let step = |kind: &ActionKind| Step {
        actions: vec![DeploymentAction { kind: *kind, app_id: AppId::new(apps[0]), pod: false }],
    };
    Box::new(Deployment {
        id: DeploymentId::new("d"),
        version: Time(1),
        plan: Plan { steps: kinds.iter().take(steps).map(step).collect() },
        current_step: at,
        original: Group::default(),
        target,
        rollouts: <_>::default(),
        undoes: None,
    })
}

fn started(deployment: Box<Deployment>) -> Event {
    let (id, version) = (deployment.id.clone(), deployment.version);
    Event::DeploymentStarted { id, version, deployment }
}

fn instance(state: TaskState, healthy: Option<bool>, goal: Goal) -> Box<Instance> {
    let id = InstanceId::new("a_b.instance-1");
    let task = Task {
        ports: vec![31000],
        state,
        last_sequence: 1,
        ip: Some("172.20.0.2".into()),
        healthy,
        message: "m".into(),
        ..Task::staging(id.task(1), AgentId::new("g"), "h", Time(1))
    };
    Box::new(Instance {
        goal,
        task: Some(task),
        ..Instance::waiting(id, AppId::new("/a/b"), Time(2), Time(1))
    })
}

fn changed(
    was: (TaskState, Option<bool>),
    is: (TaskState, Option<bool>),
    goal: Goal,
    failed_checks: Vec<HealthCheck>,
) -> Event {
    Event::TaskStatusChanged {
        task_id: TaskId::new("a_b.instance-1._app.1"),
        app_id: AppId::new("/a/b"),
        state: is.0,
        healthy: is.1,
        was: was.0,
        was_healthy: was.1,
        instance: instance(is.0, is.1, goal),
        failed_checks,
        changed_containers: Vec::new(),
    }
}

fn check() -> HealthCheck {
    HealthCheck {
        kind: HealthCheckKind::Tcp,
        path: None,
        port_index: Some(0),
        port: None,
        command: None,
        grace_ms: 0,
        interval_ms: 0,
        timeout_ms: 0,
        max_consecutive_failures: 3,
        delay_ms: 0,
        ignore_http_1xx: false,
        ip_protocol: None,
    }
}

/// Type and one telling field of each event.
fn short(told: &[Told]) -> Vec<String> {
    let line = |told: &Told| {
        let json: Value = serde_json::to_value(&told.body).unwrap();
        let fields = [
            "taskStatus",
            "condition",
            "alive",
            "healthy",
            "groupId",
            "reason",
            "uri",
            "appId",
            "currentStep",
            "id",
        ];
        let found = fields.iter().find_map(|field| json.get(field));
        let text = match found {
            Some(Value::Object(step)) => step["actions"][0]["action"].to_string(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        format!("{} {}", told.body.event_type(), text.trim_matches('"'))
    };
    told.iter().map(line).collect()
}

fn none(_: &DeploymentId) -> Option<Announced> {
    None
}

#[test]
fn each_fact_has_its_events() {
    use TaskState::{Failed, Finished, Killed, Lost, Running, Staging, Starting};
    let (good, bad, open) = (Some(true), Some(false), None);
    let run = Goal::Running;
    let app_id = || AppId::new("/a");
    let id = || DeploymentId::new("d");
    let rows: Vec<(&str, Vec<Event>, Vec<&str>)> = vec![
        (
            "a removed app",
            vec![
                Event::AppRemoved { app_id: app_id(), removed_checks: 2 },
                Event::AppTerminated { app_id: app_id() },
            ],
            vec![
                "app_terminated_event /a",
                "remove_health_check_event /a",
                "remove_health_check_event /a",
            ],
        ),
        (
            "checks follow the deployment that brings them",
            vec![
                Event::AppChanged {
                    app_id: app_id(),
                    version: Time(1),
                    added_checks: vec![check()],
                    removed_checks: 1,
                },
                started(deployment(&["/a"], 2, 0)),
            ],
            vec![
                "group_change_success /",
                "deployment_info StartApplication",
                "remove_health_check_event /a",
                "add_health_check_event /a",
            ],
        ),
        (
            "a deployment of nothing",
            vec![
                started(deployment(&["/a"], 0, 0)),
                Event::DeploymentFinished { id: id(), deployment: deployment(&["/a"], 0, 0) },
            ],
            vec!["group_change_success /", "deployment_success d"],
        ),
        (
            "a request that named its group",
            vec![
                Event::GroupChanged { group_id: GroupId::new("/g"), version: Time(1) },
                started(deployment(&["/g/h/a"], 1, 0)),
            ],
            vec!["group_change_success /g", "deployment_info StartApplication"],
        ),
        (
            "a group changed without a deployment, another after it",
            vec![
                Event::GroupChanged { group_id: GroupId::new("/g"), version: Time(7) },
                started(deployment(&["/g/h/a"], 1, 0)),
                Event::GroupChanged { group_id: GroupId::new("/x"), version: Time(7) },
            ],
            vec![
                "group_change_success /g",
                "group_change_success /g/h",
                "deployment_info StartApplication",
                "group_change_success /x",
            ],
        ),
        (
            "the next step",
            vec![Event::DeploymentStep {
                id: id(),
                step: 1,
                deployment: deployment(&["/a"], 2, 1),
            }],
            vec!["deployment_step_success StartApplication", "deployment_info ScaleApplication"],
        ),
        (
            "the end",
            vec![Event::DeploymentFinished { id: id(), deployment: deployment(&["/a"], 2, 1) }],
            vec!["deployment_step_success ScaleApplication", "deployment_success d"],
        ),
        (
            "a cancelled deployment",
            vec![Event::DeploymentCancelled { id: id(), deployment: deployment(&["/a"], 2, 1) }],
            vec![
                "deployment_step_failure ScaleApplication",
                "deployment_failed The upgrade has been cancelled",
            ],
        ),
        (
            "a deployment taken back",
            vec![Event::DeploymentUndone {
                id: id(),
                deployment: deployment(&["/a"], 2, 1),
                reason: UndoReason::Overdue { app_id: app_id(), after_ms: 5000 },
            }],
            vec![
                "deployment_step_failure ScaleApplication",
                "deployment_failed The new version of /a was not healthy within 5 s",
            ],
        ),
        (
            "a new instance",
            vec![Event::InstanceAdded {
                instance_id: InstanceId::new("a.instance-1"),
                app_id: app_id(),
                version: Time(1),
            }],
            vec!["instance_changed_event Scheduled"],
        ),
        (
            "a placed instance",
            vec![Event::TaskAssigned {
                task_id: TaskId::new("a_b.instance-1._app.1"),
                agent_id: AgentId::new("g"),
                instance: instance(Staging, open, run),
            }],
            vec!["status_update_event TASK_STAGING", "instance_changed_event Staging"],
        ),
        (
            "progress within a state",
            vec![changed((Staging, open), (Staging, open), run, vec![])],
            vec![],
        ),
        (
            "starting",
            vec![changed((Staging, open), (Starting, open), run, vec![])],
            vec!["status_update_event TASK_STARTING", "instance_changed_event Starting"],
        ),
        (
            "running, healthy at once",
            vec![changed((Starting, open), (Running, good), run, vec![])],
            vec![
                "status_update_event TASK_RUNNING",
                "instance_changed_event Running",
                "health_status_changed_event true",
                "instance_health_changed_event true",
            ],
        ),
        (
            "a check turns bad",
            vec![changed((Running, good), (Running, bad), run, vec![check()])],
            vec![
                "failed_health_check_event /a/b",
                "health_status_changed_event false",
                "instance_health_changed_event false",
            ],
        ),
        (
            "another check turns bad",
            vec![changed((Running, bad), (Running, bad), run, vec![check()])],
            vec!["failed_health_check_event /a/b"],
        ),
        (
            "health unknown again",
            vec![changed((Running, good), (Running, open), run, vec![])],
            vec!["instance_health_changed_event null"],
        ),
        (
            "killed by its agent for bad health",
            vec![changed((Running, bad), (Killed, bad), run, vec![])],
            vec![
                "unhealthy_instance_kill_event m",
                "status_update_event TASK_KILLED",
                "instance_changed_event Killed",
            ],
        ),
        (
            "killed because nobody wants it any more",
            vec![changed((Running, bad), (Killed, bad), Goal::Decommissioned, vec![])],
            vec!["status_update_event TASK_KILLED", "instance_changed_event Killed"],
        ),
        (
            "finished",
            vec![changed((Running, open), (Finished, open), run, vec![])],
            vec!["status_update_event TASK_FINISHED", "instance_changed_event Finished"],
        ),
        (
            "failed",
            vec![changed((Running, good), (Failed, open), run, vec![])],
            vec!["status_update_event TASK_FAILED", "instance_changed_event Failed"],
        ),
        (
            "lost",
            vec![changed((Running, open), (Lost, open), run, vec![])],
            vec!["status_update_event TASK_LOST", "instance_changed_event Gone"],
        ),
        (
            "a forgotten instance",
            vec![Event::UnknownTaskEnded {
                task_id: TaskId::new("a_b.instance-1._app.1"),
                state: Killed,
            }],
            vec!["unknown_instance_terminated_event Killed"],
        ),
        (
            "what Marathon has no event for",
            vec![Event::TokenRotated, Event::DelayReset { app_id: app_id() }],
            vec![],
        ),
    ];
    for (name, events, want) in rows {
        assert_eq!(short(&translate(events, &mut none)), want, "{name}");
    }
}

#[test]
fn a_task_is_told_with_all_that_is_known_of_it() {
    let event =
        changed((TaskState::Staging, None), (TaskState::Running, None), Goal::Running, vec![]);
    let told = translate(vec![event], &mut none);
    let status = serde_json::to_string(&told[0].body).unwrap();
    assert_eq!(
        status,
        r#"{"slaveId":"g","taskId":"a_b.instance-1._app.1","taskStatus":"TASK_RUNNING","message":"m","appId":"/a/b","host":"h","ipAddresses":[{"ipAddress":"172.20.0.2","protocol":"IPv4"}],"ports":[31000],"version":"1970-01-01T00:00:00.002Z"}"#
    );
    let instance = serde_json::to_string(&told[1].body).unwrap();
    assert_eq!(
        instance,
        r#"{"instanceId":"a_b.instance-1","condition":"Running","runSpecId":"/a/b","agentId":"g","host":"h","runSpecVersion":"1970-01-01T00:00:00.002Z"}"#
    );
    let ended = Event::UnknownTaskEnded {
        task_id: TaskId::new("a_b.instance-1._app.1"),
        state: TaskState::Killed,
    };
    let told = translate(vec![ended], &mut none);
    assert_eq!(
        serde_json::to_string(&told[0].body).unwrap(),
        r#"{"instanceId":"a_b.instance-1","runSpecId":"/a/b","condition":"Killed"}"#
    );
}

#[test]
fn a_post_comes_first_with_the_app_as_stored() {
    let post = |app: &str| Announced {
        client_ip: "10.0.0.1".into(),
        uri: "/v2/apps".into(),
        what: Announcement::App(Box::new(App::with_defaults(AppId::new(app)))),
    };
    let told = translate(vec![started(deployment(&["/g/a"], 1, 0))], &mut |_| Some(post("/g/a")));
    assert_eq!(
        short(&told),
        ["api_post_event /v2/apps", "group_change_success /g", "deployment_info StartApplication"]
    );
    let json = serde_json::to_value(&told[0].body).unwrap();
    assert_eq!(json["clientIp"], "10.0.0.1");
    assert_eq!(json["appDefinition"]["version"], "1970-01-01T00:00:00.001Z");
    assert!(told[2].deployment.is_some());
    // A change of nothing touches no app, and was asked for all the same.
    let mut empty = deployment(&["/x"], 0, 0);
    empty.target = Group::default();
    let told = translate(vec![started(empty)], &mut |_| Some(post("/g/h/a")));
    assert_eq!(short(&told), ["api_post_event /v2/apps", "group_change_success /g/h"]);
}

#[test]
fn the_group_of_apps_is_what_their_paths_share() {
    let rows = [
        (vec![], "/"),
        (vec!["/a"], "/"),
        (vec!["/g/a"], "/g"),
        (vec!["/g/a", "/g/b"], "/g"),
        (vec!["/g/h/a", "/g/b"], "/g"),
        (vec!["/g/h/a", "/x/b"], "/"),
        (vec!["/g/a", "/gg/a"], "/"),
    ];
    for (apps, want) in rows {
        let apps: Vec<AppId> = apps.into_iter().map(AppId::new).collect();
        assert_eq!(group_of(&apps), want, "{apps:?}");
    }
}
