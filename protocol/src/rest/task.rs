//! Tasks in JSON (Marathon's contract, section 6). Strict clients reject further keys.

use super::probing::{CheckResultJson, HealthCheckResultJson, check_result, health_results};
use crate::timestamp;
use bramble_core::model::{App, AppId, Instance, LocalVolume, Task, TaskFailure, Time};
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskJson {
    pub app_id: String,
    pub id: String,
    pub host: String,
    /// Host ports, in definition order.
    pub ports: Vec<u16>,
    /// Only in `/v2/tasks` and where tasks are embedded in apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_ports: Option<Vec<u16>>,
    pub ip_addresses: Vec<IpAddressJson>,
    pub slave_id: String,
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health_check_results: Vec<HealthCheckResultJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_result: Option<CheckResultJson>,
    /// Only of apps with persistent volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local_volumes: Vec<LocalVolumeJson>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolumeJson {
    pub run_spec_id: String,
    pub container_path: String,
    pub uuid: String,
    pub persistence_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpAddressJson {
    pub ip_address: String,
    pub protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskFailureJson {
    pub app_id: String,
    pub host: String,
    pub message: String,
    pub state: &'static str,
    pub task_id: String,
    pub timestamp: String,
    pub version: String,
    pub slave_id: String,
}

/// `{"tasks":[...]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskList {
    pub tasks: Vec<TaskJson>,
}

/// `{"task":{...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OneTask {
    pub task: TaskJson,
}

/// Write the task of `instance`; `service_ports` where the place shows them (`app.service_ports()`
/// of the current definition). `checks` is how many health checks the app defines.
pub fn task(
    instance: &Instance,
    task: &Task,
    checks: usize,
    service_ports: Option<Vec<u16>>,
) -> TaskJson {
    let active = !task.state.is_terminal();
    let time = |t: Time| active.then(|| timestamp::format(t));
    TaskJson {
        app_id: instance.app_id.0.clone(),
        id: task.id.0.clone(),
        host: task.host.clone(),
        ports: task.ports.clone(),
        service_ports,
        ip_addresses: task.ip.iter().map(|ip| ip_address(ip)).collect(),
        slave_id: task.agent_id.0.clone(),
        state: task.state.as_str(),
        staged_at: time(task.staged_at),
        started_at: task.started_at.and_then(time),
        version: time(instance.version),
        health_check_results: health_results(instance, task, checks),
        check_result: task.probes.check.map(check_result),
        local_volumes: local_volumes(instance),
    }
}

/// Write the volumes that an instance keeps.
pub fn local_volumes(instance: &Instance) -> Vec<LocalVolumeJson> {
    let volumes = instance.reservation.iter().flat_map(|r| &r.volumes);
    let json = |volume: &LocalVolume| LocalVolumeJson {
        run_spec_id: instance.app_id.0.clone(),
        container_path: volume.container_path.clone(),
        uuid: volume.id.uuid().to_string(),
        persistence_id: volume.id.0.clone(),
    };
    volumes.map(json).collect()
}

/// Write the task of `instance`, if it has one, with the service ports of `app`.
pub fn of_instance(instance: &Instance, app: &App) -> Option<TaskJson> {
    let current = instance.task.as_ref()?;
    Some(task(instance, current, app.health_checks.len(), Some(app.service_ports())))
}

/// Write `lastTaskFailure`.
pub fn last_failure(app_id: &AppId, failure: &TaskFailure) -> TaskFailureJson {
    TaskFailureJson {
        app_id: app_id.0.clone(),
        host: failure.host.clone(),
        message: failure.message.clone(),
        state: failure.state.as_str(),
        task_id: failure.task_id.0.clone(),
        timestamp: timestamp::format(failure.at),
        version: timestamp::format(failure.version),
        slave_id: failure.agent_id.0.clone(),
    }
}

/// Write a task's own address.
pub fn ip_address(ip: &str) -> IpAddressJson {
    let protocol = if ip.contains(':') { "IPv6" } else { "IPv4" };
    IpAddressJson { ip_address: ip.to_string(), protocol }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_core::model::{AgentId, InstanceId, Reservation, TaskId, TaskState, VolumeId};

    fn sample(state: TaskState) -> (Instance, Task) {
        let id = InstanceId::new("a.instance-1");
        let task = Task {
            ports: vec![31000],
            state,
            last_sequence: 1,
            started_at: Some(Time(2)),
            ip: Some("172.20.0.2".into()),
            healthy: Some(true),
            ..Task::staging(id.task(1), AgentId::new("agent"), "node", Time(1))
        };
        let instance = Instance {
            task: Some(task.clone()),
            ..Instance::waiting(id, AppId::new("/a"), Time(0), Time(0))
        };
        (instance, task)
    }

    #[test]
    fn running_and_ended_tasks() {
        let (instance, one) = sample(TaskState::Running);
        assert_eq!(
            serde_json::to_string(&task(&instance, &one, 1, Some(vec![10000]))).unwrap(),
            r#"{"appId":"/a","id":"a.instance-1._app.1","host":"node","ports":[31000],"servicePorts":[10000],"ipAddresses":[{"ipAddress":"172.20.0.2","protocol":"IPv4"}],"slaveId":"agent","state":"TASK_RUNNING","stagedAt":"1970-01-01T00:00:00.001Z","startedAt":"1970-01-01T00:00:00.002Z","version":"1970-01-01T00:00:00.000Z","healthCheckResults":[{"alive":true,"consecutiveFailures":0,"instanceId":"a.instance-1"}]}"#
        );
        let (mut instance, one) = sample(TaskState::Failed);
        let volume = LocalVolume {
            id: VolumeId::new("a#data#7-8"),
            container_path: "data".into(),
            size_bytes: 1,
        };
        let (agent_id, host) = (one.agent_id.clone(), one.host.clone());
        instance.reservation = Some(Reservation { agent_id, host, volumes: vec![volume] });
        let json = task(&instance, &one, 0, None);
        assert_eq!(
            serde_json::to_string(&json.local_volumes).unwrap(),
            r#"[{"runSpecId":"/a","containerPath":"data","uuid":"7-8","persistenceId":"a#data#7-8"}]"#
        );
        assert_eq!((json.staged_at, json.started_at, json.version), (None, None, None));
        assert!(json.health_check_results.is_empty());
    }

    #[test]
    fn a_failure_names_everything() {
        let failure = TaskFailure {
            task_id: TaskId::new("t"),
            agent_id: AgentId::new("g"),
            host: "h".into(),
            state: TaskState::Failed,
            message: "exit 1".into(),
            at: Time(0),
            version: Time(1),
        };
        assert_eq!(
            serde_json::to_string(&last_failure(&AppId::new("/a"), &failure)).unwrap(),
            r#"{"appId":"/a","host":"h","message":"exit 1","state":"TASK_FAILED","taskId":"t","timestamp":"1970-01-01T00:00:00.000Z","version":"1970-01-01T00:00:00.001Z","slaveId":"g"}"#
        );
    }
}
