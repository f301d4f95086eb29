//! From a handler's decision to the log, and what started it back to the client.

use super::Api;
use super::error::ApiError;
use super::limits::PROPOSE_TIME_MAX;
use super::reply::{self, DEPLOYMENT_HEADER, Reply};
use crate::propose::Committed;
use bramble_core::command::{AppChange, Command};
use bramble_core::event::Event;
use bramble_core::model::{DeploymentId, Time};
use bramble_protocol::rest::deployment;
use http::{HeaderValue, StatusCode};
use uuid::Uuid;

/// A deployment that a request started.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) id: DeploymentId,
    pub(crate) version: Time,
}

/// Commit one command, within a time.
///
/// # Errors
/// The log's refusal, or 503 when it did not answer in time.
pub(crate) async fn commit(api: &Api, command: Command) -> Result<Committed, ApiError> {
    let proposed = tokio::time::timeout(PROPOSE_TIME_MAX, api.propose.propose(command)).await;
    Ok(proposed.map_err(|_| ApiError::ProposeTimeout)??)
}

/// Change apps in one deployment.
pub(crate) async fn apps(
    api: &Api,
    changes: Vec<AppChange>,
    force: bool,
) -> Result<Started, ApiError> {
    let deployment_id = DeploymentId::new(Uuid::new_v4().to_string());
    let command = Command::ChangeApps { deployment_id: deployment_id.clone(), changes, force };
    let committed = commit(api, command).await?;
    let version = committed.events.iter().find_map(|event| match event {
        Event::DeploymentStarted { id, version } if *id == deployment_id => Some(*version),
        _ => None,
    });
    let version = version.unwrap_or_else(|| api.store.read(|state| state.now));
    tracing::info!(deployment_id = %deployment_id, "a request started a deployment");
    Ok(Started { id: deployment_id, version })
}

/// Answer with the deployment that was started, in body and header.
pub(crate) fn result(status: StatusCode, started: &Started) -> Reply {
    let body = deployment::result(started.version, &started.id);
    with_header(reply::json(status, &body), started)
}

/// Name the deployment in the header of an answer.
pub(crate) fn with_header(mut answer: Reply, started: &Started) -> Reply {
    if let Ok(value) = HeaderValue::from_str(started.id.as_str()) {
        answer.headers_mut().insert(DEPLOYMENT_HEADER, value);
    }
    answer
}
