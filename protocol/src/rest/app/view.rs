//! An app together with what the cluster makes of it: Marathon's AppInfo.

use super::super::error::DeploymentRef;
use super::super::task::{TaskFailureJson, TaskJson};
use super::{AppJson, canonical};
use bramble_core::model::{App, DeploymentId, Task, TaskState};
use serde::Serialize;

/// Counts of an app's tasks. Tasks without health information count in neither of the last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    #[serde(rename = "tasksStaged")]
    pub staged: u32,
    #[serde(rename = "tasksRunning")]
    pub running: u32,
    #[serde(rename = "tasksHealthy")]
    pub healthy: u32,
    #[serde(rename = "tasksUnhealthy")]
    pub unhealthy: u32,
}

impl Counts {
    /// Count the tasks of one app.
    pub fn of<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Self {
        let mut counts = Self::default();
        for task in tasks {
            match task.state {
                TaskState::Staging | TaskState::Starting => counts.staged += 1,
                TaskState::Running => {
                    counts.running += 1;
                    counts.healthy += u32::from(task.healthy == Some(true));
                    counts.unhealthy += u32::from(task.healthy == Some(false));
                }
                _ => {}
            }
        }
        counts
    }
}

/// Marathon's AppInfo: an app and what the cluster makes of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppView {
    #[serde(flatten)]
    pub app: AppJson,
    #[serde(flatten)]
    pub counts: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployments: Option<Vec<DeploymentRef>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<TaskJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_task_failure: Option<TaskFailureJson>,
}

impl AppView {
    /// An app with nothing embedded yet: set the fields asked for.
    pub fn new(app: &App) -> Self {
        Self {
            app: canonical(app),
            counts: None,
            deployments: None,
            tasks: None,
            last_task_failure: None,
        }
    }

    /// The answer to a `POST` that started `deployment`.
    pub fn created(app: &App, deployment: &DeploymentId) -> Self {
        let mut view = Self::new(app);
        view.app.version_info = None;
        view.counts = Some(Counts::default());
        view.deployments = Some(vec![deployment.into()]);
        view.tasks = Some(Vec::new());
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_embedded_leaves_no_key() {
        #[derive(Serialize)]
        struct Shape {
            #[serde(flatten)]
            counts: Option<Counts>,
        }
        let text = |counts| serde_json::to_string(&Shape { counts }).unwrap();
        assert_eq!(text(None), "{}");
        assert_eq!(
            text(Some(Counts { staged: 1, running: 2, healthy: 3, unhealthy: 4 })),
            r#"{"tasksStaged":1,"tasksRunning":2,"tasksHealthy":3,"tasksUnhealthy":4}"#
        );
    }
}
