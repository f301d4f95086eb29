//! Values the tests of several modules start from.

use bramble_core::model::{
    AppId, Assignment, HealthCheck, HealthCheckKind, InstanceId, PodTask, ReadinessCheck,
    ReadinessProbe, Resources, TaskCommand, TaskId, TaskNetwork, TaskSpec, Time,
};

/// A small command task with the given id.
pub fn assignment(task_id: &str, run: bool) -> Assignment {
    Assignment {
        task_id: TaskId::new(task_id),
        instance_id: InstanceId::new(task_id),
        app_id: AppId::new("/app"),
        app_version: Time(1),
        spec: TaskSpec {
            command: TaskCommand::Shell("sleep 100".into()),
            image: None,
            user: None,
            env: Vec::new(),
            resources: Resources { cpus_milli: 100, mem_bytes: 1 << 20, disk_bytes: 0, gpus: 0 },
            cpu_limit_milli: None,
            mem_limit_bytes: Some(1 << 20),
            network: TaskNetwork::Host,
            volumes: Vec::new(),
            kill_grace_ms: 3000,
            privileged: false,
            health_checks: Vec::new(),
            host_ports: Vec::new(),
            tty: false,
            fetch: vec![],
            readiness: vec![],
            check: None,
            local_volumes: Vec::new(),
            pod: Vec::new(),
            secrets: Vec::new(),
            alone: <_>::default(),
            devices: vec![],
        },
        run,
    }
}

/// A pod of small command tasks, its containers `<task id>-<name>`.
pub fn pod(task_id: &str, names: &[&str]) -> Assignment {
    let mut pod = assignment(task_id, true);
    let container = |name: &&str| PodTask {
        name: name.to_string(),
        task_id: TaskId::new(format!("{task_id}-{name}")),
        spec: assignment(task_id, true).spec,
        shared: Vec::new(),
    };
    pod.spec.pod = names.iter().map(container).collect();
    pod
}

/// A check on port index 0 that allows three failures and no grace.
pub fn check(kind: HealthCheckKind) -> HealthCheck {
    HealthCheck {
        kind,
        path: None,
        port_index: Some(0),
        port: None,
        command: Some("true".into()),
        grace_ms: 0,
        interval_ms: 1000,
        timeout_ms: 1000,
        max_consecutive_failures: 3,
        delay_ms: 0,
        ignore_http_1xx: false,
        ip_protocol: None,
    }
}

/// A readiness check on this port that asks often and keeps what it was answered.
pub fn readiness(port: u16) -> ReadinessProbe {
    let check = ReadinessCheck {
        name: "r".into(),
        https: false,
        path: "/".into(),
        port_name: "http".into(),
        interval_ms: 100,
        timeout_ms: 1000,
        ready_status_codes: vec![200],
        preserve_last_response: true,
    };
    ReadinessProbe { check, port }
}
