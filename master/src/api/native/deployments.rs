//! `/v1/bramble/deployments`: what is on trial, and the word that ends a trial.

use crate::api::change::{self, Started};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use bramble_core::command::Command;
use bramble_core::deploy::{Progress, Set, Stage, progress};
use bramble_core::model::{Deployment, DeploymentId, State, UndoReason};
use bramble_protocol::native::{DeploymentView, RolloutView, SetView, UndoView};
use bramble_protocol::timestamp;
use http::StatusCode;

pub(in crate::api) fn deployments(call: &Call) -> Result<Reply, ApiError> {
    let all: Vec<DeploymentView> =
        call.api().store.read(|state| state.deployments.values().map(|d| view(d, state)).collect());
    Ok(reply::json(StatusCode::OK, &all))
}

/// Let the new versions that wait take the place of the old ones.
pub(in crate::api) async fn promote(call: &Call, id: String) -> Result<Reply, ApiError> {
    let id = DeploymentId::new(id);
    let version = call.api().store.read(|state| state.deployments.get(&id).map(|d| d.version));
    let version = version.ok_or_else(|| ApiError::DeploymentUnknown(id.clone()))?;
    change::commit(call.api(), Command::Promote { id: id.clone() }).await?;
    tracing::info!(deployment_id = %id, "a request promotes a deployment");
    Ok(change::result(StatusCode::OK, &Started { id, version }))
}

/// Stop what is on trial; the old versions stay. Answers the deployment that does it.
pub(in crate::api) async fn withdraw(call: &Call, id: String) -> Result<Reply, ApiError> {
    let id = DeploymentId::new(id);
    let started = change::roll_back(call.api(), id, UndoReason::Withdrawn).await?;
    Ok(change::result(StatusCode::OK, &started))
}

fn view(deployment: &Deployment, state: &State) -> DeploymentView {
    let apps = progress(deployment, state);
    let waits =
        |app: &Progress<'_>| matches!(app.stage, Stage::CanaryWaiting | Stage::GreenWaiting);
    let starts = |app: &Progress<'_>| matches!(app.stage, Stage::Canary | Stage::Green);
    let steps = u32::try_from(deployment.plan.steps.len()).unwrap_or(u32::MAX);
    DeploymentView {
        id: deployment.id.0.clone(),
        version: timestamp::format(deployment.version),
        current_step: deployment.current_step.saturating_add(1).min(steps),
        total_steps: steps,
        waiting: apps.iter().any(waits) && !apps.iter().any(starts),
        undoes: deployment.undoes.as_ref().map(|undo| UndoView {
            deployment_id: undo.id.0.clone(),
            reason: undo.reason.to_string(),
        }),
        apps: apps.iter().map(rollout).collect(),
    }
}

fn rollout(app: &Progress<'_>) -> RolloutView {
    let deadline = app.rollout.and_then(|rollout| rollout.deadline);
    RolloutView {
        app: app.app_id.0.clone(),
        phase: phase(app.stage).into(),
        old: set(&app.old),
        new: set(&app.new),
        stopping: app.stopping,
        deadline: deadline.map(timestamp::format),
    }
}

fn set(set: &Set) -> SetView {
    SetView {
        version: set.version.map(timestamp::format),
        wanted: set.wanted,
        instances: set.instances,
        ready: set.ready,
        live: set.live,
    }
}

fn phase(stage: Stage) -> &'static str {
    match stage {
        Stage::Pending => "pending",
        Stage::Starting => "starting",
        Stage::Stopping => "stopping",
        Stage::Scaling => "scaling",
        Stage::Rolling => "rolling",
        Stage::Canary => "canary",
        Stage::CanaryWaiting => "canary-waiting",
        Stage::Green => "green",
        Stage::GreenWaiting => "green-waiting",
        Stage::Promoted => "promoted",
        Stage::Done => "done",
    }
}
