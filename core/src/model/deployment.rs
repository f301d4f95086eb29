//! Deployments: a change under way, in steps whose actions run side by side.

use super::{App, AppId, DeploymentId, GroupId, GroupRecord, Rollout, Time, Undo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Apps and groups by path: the root group, flattened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub apps: BTreeMap<AppId, App>,
    #[serde(default)]
    pub groups: BTreeMap<GroupId, GroupRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ActionKind {
    Start,
    Stop,
    Scale,
    Restart,
}

impl ActionKind {
    /// Marathon's name of the action on an app.
    pub fn as_str(self) -> &'static str {
        match self {
            ActionKind::Start => "StartApplication",
            ActionKind::Stop => "StopApplication",
            ActionKind::Scale => "ScaleApplication",
            ActionKind::Restart => "RestartApplication",
        }
    }

    /// Marathon's name of the action on a pod.
    pub fn on_pod(self) -> &'static str {
        match self {
            ActionKind::Start => "StartPod",
            ActionKind::Stop => "StopPod",
            ActionKind::Scale => "ScalePod",
            ActionKind::Restart => "RestartPod",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentAction {
    pub kind: ActionKind,
    pub app_id: AppId,
    /// Whether it is a pod that is acted on.
    #[serde(default)]
    pub pod: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub actions: Vec<DeploymentAction>,
}

/// Steps in order. Empty when nothing changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    pub version: Time,
    pub plan: Plan,
    /// Index into `plan.steps` of the step under way.
    pub current_step: u32,
    /// The affected apps as they were; one that was created is absent.
    pub original: Group,
    /// The affected apps as they shall be; one that is removed is absent.
    pub target: Group,
    /// New versions on trial.
    #[serde(default)]
    pub rollouts: BTreeMap<AppId, Rollout>,
    /// The deployment that this one takes back.
    #[serde(default)]
    pub undoes: Option<Undo>,
}

impl Deployment {
    /// Every app the deployment touches, in order, once.
    pub fn affected(&self) -> Vec<AppId> {
        let mut ids: Vec<AppId> =
            self.original.apps.keys().chain(self.target.apps.keys()).cloned().collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Whether an app it touches is a pod.
    pub fn is_of_pod(&self, id: &AppId) -> bool {
        let app = self.target.apps.get(id).or_else(|| self.original.apps.get(id));
        app.is_some_and(App::is_pod)
    }
}
