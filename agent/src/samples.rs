//! Values the tests of several modules start from.

use bramble_core::model::{
    AppId, Assignment, InstanceId, Resources, TaskCommand, TaskId, TaskNetwork, TaskSpec, Time,
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
        },
        run,
    }
}
