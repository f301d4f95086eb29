//! What of an app's surroundings an answer shows: counts, deployments, tasks, statistics.

use super::stats::{TaskStats, task_stats};
use crate::api::query::Query;
use crate::api::tasks;
use bramble_core::model::{AppRecord, Instance, State, Task, Time};
use bramble_protocol::rest::app::{AppView, Counts};
use bramble_protocol::rest::probing::{ReadinessCheckResultJson, readiness_results};
use bramble_protocol::rest::task as rest;
use serde::Serialize;

/// What the client asked to have embedded. Counts and deployments always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Embed {
    tasks: bool,
    last_failure: bool,
    stats: bool,
    readiness: bool,
}

impl Embed {
    /// Of a list: nothing more than was asked for.
    pub(crate) fn of_list(query: &Query) -> Embed {
        let mut embed = Embed::default();
        for value in query.all("embed") {
            let prefixes = ["group.apps.", "apps.", "app."];
            let name = prefixes.iter().find_map(|p| value.strip_prefix(p)).unwrap_or(value);
            match name {
                "tasks" => embed.tasks = true,
                "lastTaskFailure" => embed.last_failure = true,
                "failures" => (embed.tasks, embed.last_failure) = (true, true),
                "taskStats" => embed.stats = true,
                "readiness" => embed.readiness = true,
                // Unknown values do not count; nor do those of what is always there.
                _ => {}
            }
        }
        embed
    }

    /// Of a single app: its tasks and last failure too.
    pub(super) fn of_one(query: &Query) -> Embed {
        Embed { tasks: true, last_failure: true, ..Embed::of_list(query) }
    }
}

/// Marathon's AppInfo with what may be embedded besides.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppInfo {
    #[serde(flatten)]
    view: AppView,
    #[serde(skip_serializing_if = "Option::is_none")]
    readiness_check_results: Option<Vec<ReadinessCheckResultJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_stats: Option<TaskStats>,
}

pub(crate) fn app_info(state: &State, record: &AppRecord, embed: Embed, now: Time) -> AppInfo {
    let app = &record.app;
    let active: Vec<(&Instance, &Task)> = state
        .instances_of(&app.id)
        .filter_map(|i| i.task.as_ref().map(|t| (i, t)))
        .filter(|(_, t)| !t.state.is_terminal())
        .collect();
    let mut view = AppView::new(app);
    let here = active.iter().map(|(_, task)| *task).filter(|task| !state.is_away(task));
    view.counts = Some(Counts::of(here));
    view.deployments = Some(state.deployments_touching(&app.id).map(|d| (&d.id).into()).collect());
    if embed.tasks {
        view.tasks = Some(active.iter().map(|(i, t)| tasks::json(state, i, t, true)).collect());
    }
    if embed.last_failure {
        view.last_task_failure =
            record.last_failure.as_ref().map(|failure| rest::last_failure(&app.id, failure));
    }
    AppInfo {
        view,
        readiness_check_results: embed
            .readiness
            .then(|| active.iter().flat_map(|(_, task)| readiness_results(task)).collect()),
        task_stats: embed.stats.then(|| task_stats(record, &active, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeds_by_any_prefix() {
        let of =
            |query: &str| Embed::of_list(&Query::of(&format!("/v2/apps?{query}").parse().unwrap()));
        let none = Embed::default();
        let rows = [
            ("", none),
            ("embed=tasks", Embed { tasks: true, ..none }),
            ("embed=apps.tasks&embed=app.taskStats", Embed { tasks: true, stats: true, ..none }),
            ("embed=group.apps.lastTaskFailure", Embed { last_failure: true, ..none }),
            ("embed=apps.failures", Embed { tasks: true, last_failure: true, ..none }),
            ("embed=apps.counts&embed=apps.deployments&embed=count&embed=x", none),
        ];
        for (query, want) in rows {
            assert_eq!(of(query), want, "{query}");
        }
    }
}
