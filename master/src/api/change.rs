//! From a handler's decision to the log, and what started it back to the client.

use super::Api;
use super::dispatch::Call;
use super::error::ApiError;
use super::limits::PROPOSE_TIME_MAX;
use super::reply::{self, DEPLOYMENT_HEADER, Reply};
use crate::events::{Announced, Announcement, group_of};
use crate::propose::Committed;
use bramble_core::command::{AppChange, Command};
use bramble_core::event::Event;
use bramble_core::model::{AppId, Deployment, DeploymentId, Time, UndoReason};
use bramble_protocol::rest::deployment;
use bramble_protocol::rest::event::EventBody;
use bramble_protocol::timestamp;
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
    Ok(within(api.propose.propose(command)).await??)
}

/// Wait for the log, within a time.
///
/// # Errors
/// 503 when it did not answer in time.
pub(crate) async fn within<T>(proposing: impl Future<Output = T>) -> Result<T, ApiError> {
    let proposed = tokio::time::timeout(PROPOSE_TIME_MAX, proposing).await;
    proposed.map_err(|_| ApiError::ProposeTimeout)
}

/// Change apps in one deployment.
pub(crate) async fn apps(
    api: &Api,
    changes: Vec<AppChange>,
    force: bool,
) -> Result<Started, ApiError> {
    announced(api, changes, force, None).await
}

/// Change one app as a request defined it, which the events shall say.
pub(crate) async fn app(call: &Call, change: AppChange, force: bool) -> Result<Started, ApiError> {
    let announcement = match &change {
        AppChange::Create(app) | AppChange::Update(app) => Some(Announced {
            client_ip: call.client_ip(),
            uri: call.path.clone(),
            what: Announcement::App(Box::new(app.clone())),
        }),
        AppChange::Restart(_) | AppChange::Remove(_) => None,
    };
    announced(call.api(), vec![change], force, announcement).await
}

/// Change one pod, which the events shall say in these words.
pub(crate) async fn announced_as(
    call: &Call,
    change: AppChange,
    force: bool,
    what: Announcement,
) -> Result<Started, ApiError> {
    let announcement = Announced { client_ip: call.client_ip(), uri: call.path.clone(), what };
    announced(call.api(), vec![change], force, Some(announcement)).await
}

async fn announced(
    api: &Api,
    changes: Vec<AppChange>,
    force: bool,
    announced: Option<Announced>,
) -> Result<Started, ApiError> {
    let deployment_id = DeploymentId::new(Uuid::new_v4().to_string());
    let touched = touched(&changes);
    let command = Command::ChangeApps { deployment_id: deployment_id.clone(), changes, force };
    if let Some(announced) = announced {
        api.events.announce(deployment_id.clone(), announced);
    }
    let committed = match commit(api, command).await {
        Ok(committed) => committed,
        Err(error) => {
            // Where the log answered too late it may begin yet, as a change of nobody's.
            api.events.announced(&deployment_id);
            failed(api, &touched, &error);
            return Err(error);
        }
    };
    tracing::info!(deployment_id = %deployment_id, "a request started a deployment");
    Ok(started(api, deployment_id, &committed))
}

/// Take a deployment back by another one.
pub(crate) async fn roll_back(
    api: &Api,
    id: DeploymentId,
    reason: UndoReason,
) -> Result<Started, ApiError> {
    let deployment_id = DeploymentId::new(Uuid::new_v4().to_string());
    let back = deployment_id.clone();
    let touched = api.store.read(|state| state.deployments.get(&id).map(Deployment::affected));
    let command = Command::RollBack { id: id.clone(), deployment_id, reason };
    let committed = commit(api, command).await.inspect_err(|error| {
        if let Some(touched) = &touched {
            failed(api, touched, error);
        }
    })?;
    tracing::info!(deployment_id = %id, "a request takes a deployment back");
    Ok(started(api, back, &committed))
}

fn started(api: &Api, id: DeploymentId, committed: &Committed) -> Started {
    let version = committed.events.iter().find_map(|event| match event {
        Event::DeploymentStarted { id: started, version, .. } if *started == id => Some(*version),
        _ => None,
    });
    let version = version.unwrap_or_else(|| api.store.read(|state| state.now));
    Started { id, version }
}

fn touched(changes: &[AppChange]) -> Vec<AppId> {
    let id = |change: &AppChange| match change {
        AppChange::Create(app) | AppChange::Update(app) => app.id.clone(),
        AppChange::Restart(id) | AppChange::Remove(id) => id.clone(),
    };
    changes.iter().map(id).collect()
}

fn failed(api: &Api, touched: &[AppId], error: &ApiError) {
    api.events.publish(EventBody::GroupChangeFailed {
        group_id: group_of(touched),
        version: timestamp::format(api.store.now()),
        reason: error.message(),
    });
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
