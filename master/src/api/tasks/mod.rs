//! Tasks: listing them as JSON or text, and killing them.

mod kill;
mod text;

pub(crate) use kill::{delete, kill_of_app, kill_one};

use super::accept::{self, JSON, TEXT};
use super::dispatch::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::route::Route;
use bramble_core::model::{App, AppId, Instance, State, Task, TaskState};
use bramble_protocol::rest::task::{self as rest, TaskJson, TaskList};
use http::StatusCode;

/// Answer the three lists in the form the client likes best.
pub(crate) fn list(target: Route, call: &Call) -> Result<Reply, ApiError> {
    let form = accept::choose(&call.headers, &[JSON, TEXT]).ok_or(ApiError::NotAcceptable)?;
    let store = &call.api().store;
    if form == TEXT {
        let text = store.read(|state| {
            let scope = Scope::of(state, target)?;
            let apps = state.only_apps().map(|r| &r.app).filter(|app| scope.holds(&app.id));
            Ok::<_, ApiError>(text::list(state, apps))
        })?;
        return Ok(reply::typed(StatusCode::OK, TEXT, text));
    }
    let wanted = states(call);
    let tasks = store.read(|state| {
        let scope = Scope::of(state, target)?;
        let shown = active(state).filter(|(instance, task)| {
            let of_app = task.containers.is_empty();
            of_app
                && scope.holds(&instance.app_id)
                && wanted.as_ref().is_none_or(|w| !state.is_away(task) && w(task.state))
        });
        let ports = matches!(scope, Scope::All);
        Ok::<_, ApiError>(shown.map(|(i, task)| json(state, i, task, ports)).collect())
    })?;
    Ok(reply::json(StatusCode::OK, &TaskList { tasks }))
}

/// Whose tasks a list shows.
enum Scope {
    All,
    App(AppId),
    Below(String),
}

impl Scope {
    fn of(state: &State, target: Route) -> Result<Scope, ApiError> {
        match target {
            Route::AppTasks(id) if state.app(&id).is_some() => Ok(Scope::App(id)),
            Route::AppTasks(id) => Err(ApiError::AppUnknown(id)),
            Route::BelowTasks(prefix) => {
                super::apps::group_exists(state, &prefix)?;
                Ok(Scope::Below(prefix))
            }
            _ => Ok(Scope::All),
        }
    }

    fn holds(&self, id: &AppId) -> bool {
        match self {
            Scope::All => true,
            Scope::App(own) => own == id,
            Scope::Below(prefix) => id.as_str().starts_with(prefix),
        }
    }
}

/// The `status` filter; values that are no filter do not count.
fn states(call: &Call) -> Option<impl Fn(TaskState) -> bool + use<>> {
    let named = |name: &str| {
        ["status", "status[]"]
            .iter()
            .any(|key| call.query.all(key).any(|value| value.eq_ignore_ascii_case(name)))
    };
    let (running, staging) = (named("running"), named("staging"));
    (running || staging).then_some(move |state| match state {
        TaskState::Running => running,
        TaskState::Staging | TaskState::Starting => staging,
        _ => false,
    })
}

/// Tasks that have not ended, in the order of their instances.
pub(crate) fn active(state: &State) -> impl Iterator<Item = (&Instance, &Task)> {
    state
        .instances
        .values()
        .filter_map(|i| i.task.as_ref().map(|t| (i, t)))
        .filter(|(_, t)| !t.state.is_terminal())
}

/// One task as JSON, by what its app defines now.
pub(crate) fn json(
    state: &State,
    instance: &Instance,
    task: &Task,
    service_ports: bool,
) -> TaskJson {
    let app = state.record(&instance.app_id).map(|record| &record.app);
    let ports = service_ports.then(|| app.map(App::service_ports).unwrap_or_default());
    let mut json = rest::task(instance, task, app.map_or(0, |app| app.health_checks.len()), ports);
    json.state = state.state_name(task);
    json
}
