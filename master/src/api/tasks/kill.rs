//! Killing tasks: without `scale` the keep loop replaces them, with it the app shrinks by them.

use super::active;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::{body, change};
use axum::body::Body;
use bramble_core::command::{AppChange, Command, Rejection};
use bramble_core::model::{App, AppId, Goal, Instance, InstanceId, State, Task, TaskId};
use bramble_protocol::rest::error::FieldError;
use bramble_protocol::rest::task::{OneTask, TaskJson, TaskList};
use http::StatusCode;
use serde_json::Value;
use std::collections::BTreeMap;

/// How a kill was asked for.
#[derive(Clone, Copy)]
struct Manner {
    scale: bool,
    /// Give the volumes up, too.
    wipe: bool,
    force: bool,
}

impl Manner {
    fn of(call: &Call) -> Result<Manner, ApiError> {
        let flag = |name| call.query.flag(name, false);
        if flag("scale") && flag("wipe") {
            return Err(ApiError::ScaleAndWipe);
        }
        Ok(Manner { scale: flag("scale"), wipe: flag("wipe"), force: flag("force") })
    }
}

/// `DELETE /v2/apps/{id}/tasks`.
pub(crate) async fn kill_of_app(call: &Call, id: &AppId) -> Result<Reply, ApiError> {
    let manner = Manner::of(call)?;
    let host = call.query.get("host").filter(|host| *host != "*");
    let victims = call.api().store.read(|state| {
        if state.app(id).is_none() {
            return Err(ApiError::AppUnknown(id.clone()));
        }
        let own = |app_id: &AppId, at: &str| app_id == id && host.is_none_or(|host| host == at);
        let mut victims = Victims::choose(state, |i, task| own(&i.app_id, &task.host));
        if manner.wipe {
            // Those without a task, which hold nothing but their volumes.
            let idle = state.instances_of(id).filter(|i| i.task.is_none());
            let kept = idle.filter_map(|i| Some((i, i.reservation.as_ref()?)));
            let kept = kept.filter(|(i, reservation)| own(&i.app_id, &reservation.host));
            victims.ids.extend(kept.map(|(i, _)| i.id.clone()));
        }
        Ok(victims)
    })?;
    kill_many(call, victims, manner).await
}

/// `DELETE /v2/apps/{id}/tasks/{task}`.
pub(crate) async fn kill_one(call: &Call, id: &AppId, task: &str) -> Result<Reply, ApiError> {
    let manner = Manner::of(call)?;
    let victims = call.api().store.read(|state| {
        if state.app(id).is_none() {
            return Err(ApiError::AppUnknown(id.clone()));
        }
        Ok(Victims::choose(state, |i, t| i.app_id == *id && t.id.as_str() == task))
    })?;
    let Some(shown) = victims.shown.first().cloned() else {
        return Err(ApiError::TaskUnknown(task.to_string()));
    };
    if manner.scale {
        return kill_many(call, victims, manner).await;
    }
    victims.end(call, manner).await?;
    Ok(reply::json(StatusCode::OK, &OneTask { task: shown }))
}

/// `POST /v2/tasks/delete`.
pub(crate) async fn delete(call: &Call, body: Body) -> Result<Reply, ApiError> {
    let manner = Manner::of(call)?;
    let ids = task_ids(&body::json(&call.headers, body).await?)?;
    let victims =
        call.api().store.read(|state| Victims::choose(state, |_, task| ids.contains(&task.id)));
    kill_many(call, victims, manner).await
}

/// Read `{"ids":[...]}`. Ids that no task has are fine; text that can be no id is not.
fn task_ids(body: &Value) -> Result<Vec<TaskId>, ApiError> {
    let wrong = |path: String, code: &str| ApiError::WrongType {
        details: vec![FieldError::new(path, code)],
    };
    let ids = match body.get("ids") {
        Some(Value::Array(ids)) => ids,
        Some(_) => return Err(wrong("/ids".into(), "error.expected.jsarray")),
        None => return Err(wrong("/ids".into(), "error.path.missing")),
    };
    let read = |(index, id): (usize, &Value)| {
        let id = id
            .as_str()
            .ok_or_else(|| wrong(format!("/ids({index})"), "error.expected.jsstring"))?;
        let formed =
            id.rsplit_once(['.', '_']).is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        formed.then(|| TaskId::new(id)).ok_or_else(|| ApiError::TaskIdUnparsable(id.to_string()))
    };
    ids.iter().enumerate().map(read).collect()
}

async fn kill_many(call: &Call, victims: Victims, manner: Manner) -> Result<Reply, ApiError> {
    if !manner.scale {
        victims.end(call, manner).await?;
        return Ok(reply::json(StatusCode::OK, &TaskList { tasks: victims.shown }));
    }
    let _turn = call.shared.editing.all().await;
    let smaller = call.api().store.read(|state| victims.smaller(state, manner.force))?;
    // The tasks end first: were the apps to shrink before, the deployer would choose others.
    victims.end(call, manner).await?;
    let started = change::apps(call.api(), smaller, manner.force).await?;
    Ok(change::result(StatusCode::OK, &started))
}

/// Tasks to be killed, as they are now.
struct Victims {
    ids: Vec<InstanceId>,
    by_app: BTreeMap<AppId, u32>,
    shown: Vec<TaskJson>,
}

impl Victims {
    fn choose(state: &State, wanted: impl Fn(&Instance, &Task) -> bool) -> Victims {
        let mut victims = Victims { ids: vec![], by_app: BTreeMap::new(), shown: vec![] };
        for (instance, task) in active(state).filter(|(i, t)| wanted(i, t)) {
            victims.ids.push(instance.id.clone());
            // One that stops already was taken off its app's count before.
            if instance.goal == Goal::Running {
                *victims.by_app.entry(instance.app_id.clone()).or_default() += 1;
            }
            victims.shown.push(super::json(state, instance, task, false));
        }
        victims
    }

    async fn end(&self, call: &Call, manner: Manner) -> Result<(), ApiError> {
        let ids = self.ids.clone();
        if ids.is_empty() {
            return Ok(());
        }
        let command = if manner.wipe {
            tracing::info!(instances = ?ids, "a request gives up instances and their volumes");
            Command::Wipe { ids }
        } else {
            Command::Decommission { ids }
        };
        change::commit(call.api(), command).await.map(drop)
    }

    /// The apps without the victims; refused here already when one is locked, so that nothing is
    /// killed by a request that then fails.
    fn smaller(&self, state: &State, force: bool) -> Result<Vec<AppChange>, ApiError> {
        let locks = state.locked_by(self.by_app.keys());
        if !force && !locks.is_empty() {
            let locked = crate::propose::ProposeError::Rejected(Rejection::Locked(locks));
            return Err(ApiError::Propose(locked));
        }
        let shrink = |(id, killed): (&AppId, &u32)| {
            let app = &state.apps.get(id)?.app;
            let instances = app.instances.saturating_sub(*killed);
            Some(AppChange::Update(App { instances, ..app.clone() }))
        };
        Ok(self.by_app.iter().filter_map(shrink).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_task_ids() {
        let rows: [(&str, &str); 6] = [
            (r#"{"ids":["a.instance-1._app.1","b_c.9"]}"#, "ok 2"),
            (r#"{"ids":[]}"#, "ok 0"),
            (
                r#"{"ids":[7]}"#,
                r#"[FieldError { path: "/ids(0)", errors: ["error.expected.jsstring"] }]"#,
            ),
            (
                r#"{"ids":"x"}"#,
                r#"[FieldError { path: "/ids", errors: ["error.expected.jsarray"] }]"#,
            ),
            (r#"[]"#, r#"[FieldError { path: "/ids", errors: ["error.path.missing"] }]"#),
            (r#"{"ids":["x"]}"#, "unparsable x"),
        ];
        for (body, want) in rows {
            let got = match task_ids(&serde_json::from_str(body).unwrap()) {
                Ok(ids) => format!("ok {}", ids.len()),
                Err(ApiError::WrongType { details }) => format!("{details:?}"),
                Err(ApiError::TaskIdUnparsable(id)) => format!("unparsable {id}"),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(got, want, "{body}");
        }
    }
}
