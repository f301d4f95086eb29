//! Deployments in JSON (Marathon's contract, section 2.4), and the body that starting one answers.

use super::probing::ReadinessCheckResultJson;
use crate::timestamp;
use bramble_core::model::{AppId, Deployment, DeploymentAction, DeploymentId, Step, Time};
use serde::Serialize;

/// `{"version":"<ts>","deploymentId":"<uuid>"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentResult {
    pub version: String,
    pub deployment_id: String,
}

/// Write the answer of a change that started `id`.
pub fn result(version: Time, id: &DeploymentId) -> DeploymentResult {
    DeploymentResult { version: timestamp::format(version), deployment_id: id.0.clone() }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentJson {
    pub id: String,
    pub version: String,
    pub affected_apps: Vec<String>,
    pub affected_pods: Vec<String>,
    pub steps: Vec<StepJson>,
    pub current_actions: Vec<CurrentActionJson>,
    /// From 1; 0 before the first.
    pub current_step: u32,
    pub total_steps: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepJson {
    pub actions: Vec<ActionJson>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionJson {
    pub action: &'static str,
    #[serde(flatten)]
    pub of: ActedOnJson,
}

/// What an action changes: the key says its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ActedOnJson {
    App(String),
    Pod(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentActionJson {
    #[serde(flatten)]
    pub action: ActionJson,
    /// Of the tasks this deployment started. Always there: clients index it.
    pub readiness_check_results: Vec<ReadinessCheckResultJson>,
}

/// Write one deployment; `readiness` gives what readiness checks said of an app's new tasks.
pub fn deployment(
    deployment: &Deployment,
    readiness: &dyn Fn(&AppId) -> Vec<ReadinessCheckResultJson>,
) -> DeploymentJson {
    let steps = &deployment.plan.steps;
    let total = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let (pods, apps): (Vec<AppId>, Vec<AppId>) =
        deployment.affected().into_iter().partition(|id| deployment.is_of_pod(id));
    let current = usize::try_from(deployment.current_step).ok().and_then(|i| steps.get(i));
    DeploymentJson {
        id: deployment.id.0.clone(),
        version: timestamp::format(deployment.version),
        affected_apps: apps.into_iter().map(|id| id.0).collect(),
        affected_pods: pods.into_iter().map(|id| id.0).collect(),
        steps: steps.iter().map(step).collect(),
        current_actions: current.map(|s| current_actions(s, readiness)).unwrap_or_default(),
        current_step: deployment.current_step.saturating_add(1).min(total),
        total_steps: total,
    }
}

/// Write one step of a plan.
pub fn step(step: &Step) -> StepJson {
    StepJson { actions: step.actions.iter().map(action).collect() }
}

fn action(action: &DeploymentAction) -> ActionJson {
    let id = action.app_id.0.clone();
    match action.pod {
        true => ActionJson { action: action.kind.on_pod(), of: ActedOnJson::Pod(id) },
        false => ActionJson { action: action.kind.as_str(), of: ActedOnJson::App(id) },
    }
}

fn current_actions(
    step: &Step,
    readiness: &dyn Fn(&AppId) -> Vec<ReadinessCheckResultJson>,
) -> Vec<CurrentActionJson> {
    step.actions
        .iter()
        .map(|a| CurrentActionJson {
            action: action(a),
            readiness_check_results: readiness(&a.app_id),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_core::model::{ActionKind, AppId, Group, Plan};

    #[test]
    fn steps_count_from_one_and_name_current_actions() {
        let act = |kind| DeploymentAction { kind, app_id: AppId::new("/a"), pod: false };
        let mut one = Deployment {
            id: DeploymentId::new("d"),
            version: Time(0),
            plan: Plan {
                steps: vec![
                    Step { actions: vec![act(ActionKind::Start)] },
                    Step { actions: vec![act(ActionKind::Scale)] },
                ],
            },
            current_step: 1,
            original: Group::default(),
            target: Group::default(),
            rollouts: <_>::default(),
            undoes: None,
        };
        assert_eq!(
            serde_json::to_string(&deployment(&one, &|_| vec![])).unwrap(),
            r#"{"id":"d","version":"1970-01-01T00:00:00.000Z","affectedApps":[],"affectedPods":[],"steps":[{"actions":[{"action":"StartApplication","app":"/a"}]},{"actions":[{"action":"ScaleApplication","app":"/a"}]}],"currentActions":[{"action":"ScaleApplication","app":"/a","readinessCheckResults":[]}],"currentStep":2,"totalSteps":2}"#
        );
        one.plan.steps.clear();
        assert_eq!(deployment(&one, &|_| vec![]).current_step, 0);
        assert_eq!(
            serde_json::to_string(&result(Time(1), &one.id)).unwrap(),
            r#"{"version":"1970-01-01T00:00:00.001Z","deploymentId":"d"}"#
        );
    }
}
