//! States as the loops would leave them, for tests.

use bramble_core::model::*;

pub(crate) const AGENT: &str = "agent-1";

/// An app that is simply there, without a deployment.
pub(crate) fn add_app(state: &mut State, id: &str, instances: u32) {
    let app = App {
        cmd: Some("sleep 100".into()),
        instances,
        version: Time(1000),
        last_scaling: Time(1000),
        last_config_change: Time(1000),
        ..App::with_defaults(AppId::new(id))
    };
    let record =
        AppRecord { app, versions: Vec::new(), delay: LaunchDelay::default(), last_failure: None };
    state.apps.insert(AppId::new(id), record);
}

/// A pod that is simply there, its containers without commands of interest.
pub(crate) fn add_pod(state: &mut State, id: &str, instances: u32, containers: &[&str]) {
    let container = |name: &&str| PodContainer {
        name: (*name).into(),
        exec: Some(PodExec {
            command: PodCommand::Shell("sleep 100".into()),
            override_entrypoint: None,
        }),
        resources: Resources { cpus_milli: 100, mem_bytes: BYTES_PER_MIB, ..<_>::default() },
        resource_limits: None,
        endpoints: Vec::new(),
        image: None,
        environment: <_>::default(),
        user: None,
        health_check: None,
        check: None,
        volume_mounts: Vec::new(),
        artifacts: Vec::new(),
        labels: <_>::default(),
        kill_grace_ms: None,
        tty: None,
        linux_info: None,
    };
    let containers: Vec<PodContainer> = containers.iter().map(container).collect();
    add_app(state, id, instances);
    let Some(record) = state.apps.get_mut(&AppId::new(id)) else { return };
    record.app.cmd = None;
    record.app.pod = Some(Pod { containers, volumes: Vec::new() });
}

/// An instance of a pod whose containers all run on [`AGENT`].
pub(crate) fn pod_running(state: &mut State, pod: &str, key: &str) -> InstanceId {
    running(state, pod, key);
    let id = InstanceId::compose(&AppId::new(pod), key);
    let defined = state.apps[&AppId::new(pod)].app.pod.clone().unwrap();
    let task = state.instances.get_mut(&id).and_then(|i| i.task.as_mut()).unwrap();
    task.id = id.pod_task(1);
    let running = |c: &PodContainer| {
        let mut container = TaskContainer::staging(&c.name, Time(3000));
        container.status.state = TaskState::Running;
        container
    };
    task.containers = defined.containers.iter().map(running).collect();
    id
}

/// An instance of an app that waits for a place.
pub(crate) fn waiting(state: &mut State, app: &str, key: &str) -> InstanceId {
    let app_id = AppId::new(app);
    let id = InstanceId::compose(&app_id, key);
    let version = state.record(&app_id).map_or(Time(1000), |record| record.app.version);
    let instance = Instance::waiting(id.clone(), app_id, version, Time(2000));
    state.instances.insert(id.clone(), instance);
    id
}

/// An instance with a running task on [`AGENT`], host `node1`, host port 31000.
pub(crate) fn running(state: &mut State, app: &str, key: &str) -> TaskId {
    let id = waiting(state, app, key);
    let task_id = id.task(1);
    let instance = state.instances.get_mut(&id).unwrap();
    instance.task = Some(Task {
        ports: vec![31000],
        resources: Resources { cpus_milli: 500, mem_bytes: 64 * BYTES_PER_MIB, ..<_>::default() },
        state: TaskState::Running,
        last_sequence: 1,
        started_at: Some(Time(4000)),
        ip: Some("10.0.0.2".into()),
        ..Task::staging(task_id.clone(), AgentId::new(AGENT), "node1", Time(3000))
    });
    task_id
}

/// The agent that [`running`] uses.
pub(crate) fn add_agent(state: &mut State) {
    let agent = Agent {
        id: AgentId::new(AGENT),
        name: "node1".into(),
        total: Resources { cpus_milli: 2000, mem_bytes: 1024 * BYTES_PER_MIB, ..<_>::default() },
        ports: vec![PortRange { begin: 31000, end: 32000 }],
        attributes: [("rack".to_string(), "r1".to_string())].into(),
        reachable: true,
    };
    state.agents.insert(agent.id.clone(), agent);
}
