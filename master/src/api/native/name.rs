//! Naming a task as people do: its id, the start of its id, or its app.

use crate::api::error::ApiError;
use bramble_core::model::{AgentId, AppId, State, Task, TaskId, TaskState};

/// A task and where it runs or ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) task_id: TaskId,
    pub(super) agent_id: AgentId,
    pub(super) running: bool,
}

impl Found {
    fn of(task: &Task) -> Found {
        Found {
            task_id: task.id.clone(),
            agent_id: task.agent_id.clone(),
            running: task.state == TaskState::Running,
        }
    }
}

/// Find the one task that `name` means: an exact task id, an app (its longest running task, else
/// any, else the one that failed last), or a prefix that only one task has.
///
/// # Errors
/// 404 when nothing fits, 409 with the candidates when several tasks share the prefix.
pub(super) fn find(state: &State, name: &str) -> Result<Found, ApiError> {
    let tasks = || state.instances.values().filter_map(|i| i.task.as_ref());
    if let Some(task) = tasks().find(|task| task.id.as_str() == name) {
        return Ok(Found::of(task));
    }
    let app_id = AppId::new(format!("/{}", name.trim_matches('/')));
    if let Some(record) = state.apps.get(&app_id) {
        let mut own: Vec<&Task> = state
            .instances
            .values()
            .filter(|i| i.app_id == app_id)
            .filter_map(|i| i.task.as_ref())
            .collect();
        own.sort_by_key(|task| (task.state != TaskState::Running, task.started_at, &task.id));
        let failed = record.last_failure.as_ref().map(|failure| Found {
            task_id: failure.task_id.clone(),
            agent_id: failure.agent_id.clone(),
            running: false,
        });
        return own
            .first()
            .map(|task| Found::of(task))
            .or(failed)
            .ok_or_else(|| ApiError::TaskUnknown(name.to_string()));
    }
    let mut fits = tasks().filter(|task| task.id.as_str().starts_with(name));
    match (fits.next(), fits.next()) {
        (None, _) => Err(ApiError::TaskUnknown(name.to_string())),
        (Some(task), None) => Ok(Found::of(task)),
        (Some(first), Some(second)) => Err(ApiError::Ambiguous {
            name: name.to_string(),
            candidates: [first, second].into_iter().chain(fits).map(|t| t.id.to_string()).collect(),
        }),
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
            ("idle", Err("Task 'idle' does not exist")),
            ("nothing", Err("Task 'nothing' does not exist")),
        ];
        for (name, want) in rows {
            let got = find(&state, name).map(|f| f.task_id.to_string()).map_err(|e| e.to_string());
            assert_eq!(got, want.map(str::to_string).map_err(str::to_string), "{name}");
        }
    }
}
