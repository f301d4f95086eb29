//! Naming a task as people do: its id, the start of its id, or its app.

use crate::api::error::ApiError;
use bramble_core::model::{
    AgentId, AppId, AppRecord, State, Task, TaskContainer, TaskId, TaskState,
};

/// A task and where it runs or ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) task_id: TaskId,
    pub(super) agent_id: AgentId,
    pub(super) running: bool,
}

impl Found {
    /// What of a task can be looked into: itself, or each container of a pod.
    fn all_of(task: &Task) -> Vec<Found> {
        let agent_id = &task.agent_id;
        if task.containers.is_empty() {
            let running = task.state == TaskState::Running;
            return vec![Found { task_id: task.id.clone(), agent_id: agent_id.clone(), running }];
        }
        let one = |container: &TaskContainer| {
            Some(Found {
                task_id: task.id.of_container(&container.status.name)?,
                agent_id: agent_id.clone(),
                running: container.status.state == TaskState::Running,
            })
        };
        task.containers.iter().filter_map(one).collect()
    }
}

/// Find the one task that `name` means: an exact task id, an app (its longest running task, else
/// any, else the one that failed last), a pod with the name of a container behind it (which a pod
/// of one container can do without), or a prefix that only one task has.
///
/// # Errors
/// 404 when nothing fits, 409 with the candidates when several tasks fit equally.
pub(super) fn find(state: &State, name: &str) -> Result<Found, ApiError> {
    let all = || state.instances.values().filter_map(|i| i.task.as_ref()).flat_map(Found::all_of);
    if let Some(found) = all().find(|found| found.task_id.as_str() == name) {
        return Ok(found);
    }
    let path = format!("/{}", name.trim_matches('/'));
    if let Some(record) = state.apps.get(&AppId::new(path.as_str())) {
        return only(name, of_app(state, record));
    }
    if let Some((pod, container)) = path.rsplit_once('/')
        && let Some(record) = state.pod(&AppId::new(pod))
    {
        let ends = format!(".{container}.");
        let named = |found: &Found| found.task_id.as_str().contains(&ends);
        return only(name, of_app(state, record).into_iter().filter(named).collect());
    }
    only(name, all().filter(|found| found.task_id.as_str().starts_with(name)).collect())
}

fn only(name: &str, mut fits: Vec<Found>) -> Result<Found, ApiError> {
    if fits.len() > 1 {
        let candidates = fits.into_iter().map(|found| found.task_id.0).collect();
        return Err(ApiError::Ambiguous { name: name.to_string(), candidates, away: Vec::new() });
    }
    fits.pop().ok_or_else(|| ApiError::TaskUnknown(name.to_string()))
}

/// What can be looked into of an app's best task.
fn of_app(state: &State, record: &AppRecord) -> Vec<Found> {
    let tasks = state.instances_of(&record.app.id).filter_map(|i| i.task.as_ref());
    let best =
        tasks.min_by_key(|task| (task.state != TaskState::Running, task.started_at, &task.id));
    if let Some(task) = best {
        return Found::all_of(task);
    }
    let Some(failure) = &record.last_failure else { return Vec::new() };
    let found =
        |task_id: TaskId| Found { task_id, agent_id: failure.agent_id.clone(), running: false };
    match &record.app.pod {
        None => vec![found(failure.task_id.clone())],
        Some(pod) => {
            let ids = pod.containers.iter().filter_map(|c| failure.task_id.of_container(&c.name));
            ids.map(found).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::state::{self, running};

    #[test]
    fn names_of_tasks() {
        let mut state = State::default();
        state::add_app(&mut state, "/hello", 2);
        state::add_app(&mut state, "/prod/web", 1);
        state::add_app(&mut state, "/idle", 1);
        running(&mut state, "/hello", "aa1");
        running(&mut state, "/hello", "aa2");
        running(&mut state, "/prod/web", "bb1");
        state::add_pod(&mut state, "/pair", 1, &["a", "b"]);
        state::pod_running(&mut state, "/pair", "cc1");
        state::add_pod(&mut state, "/alone", 1, &["only"]);
        state::pod_running(&mut state, "/alone", "dd1");
        let rows = [
            ("hello.instance-aa2._app.1", Ok("hello.instance-aa2._app.1")),
            ("hello.instance-aa2", Ok("hello.instance-aa2._app.1")),
            ("hello", Ok("hello.instance-aa1._app.1")),
            ("/hello/", Ok("hello.instance-aa1._app.1")),
            ("prod/web", Ok("prod_web.instance-bb1._app.1")),
            ("prod_", Ok("prod_web.instance-bb1._app.1")),
            (
                "hello.",
                Err(
                    "'hello.' could be any of: hello.instance-aa1._app.1, hello.instance-aa2._app.1",
                ),
            ),
            ("alone", Ok("alone.instance-dd1.only.1")),
            ("pair/b", Ok("pair.instance-cc1.b.1")),
            ("pair.instance-cc1.a.1", Ok("pair.instance-cc1.a.1")),
            ("pair", Err("'pair' could be any of: pair.instance-cc1.a.1, pair.instance-cc1.b.1")),
            ("pair/c", Err("Task 'pair/c' does not exist")),
            ("idle", Err("Task 'idle' does not exist")),
            ("nothing", Err("Task 'nothing' does not exist")),
        ];
        for (name, want) in rows {
            let got = find(&state, name).map(|f| f.task_id.to_string()).map_err(|e| e.to_string());
            assert_eq!(got, want.map(str::to_string).map_err(str::to_string), "{name}");
        }
    }
}
