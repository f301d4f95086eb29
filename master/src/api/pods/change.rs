//! Changing pods: create, replace, delete. Each is one deployment.

use super::read::unknown;
use crate::api::body;
use crate::api::change::{self, Started};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::native;
use crate::api::reply::{self, Reply};
use crate::events::Announcement;
use crate::normalize::{normalize_pod, pod_violations, resolve_id};
use crate::propose::ProposeError;
use axum::body::Body;
use bramble_core::command::{AppChange, Rejection};
use bramble_core::model::{App, AppId, Time};
use bramble_protocol::rest::error::{FieldError, fields};
use bramble_protocol::rest::parse;
use bramble_protocol::rest::pod::{PodUpdate, pod};
use http::{HeaderValue, StatusCode, header};

/// `POST /v2/pods`.
pub(crate) async fn create(call: &Call, body: Body) -> Result<Reply, ApiError> {
    let value = body::json(&call.headers, body).await?;
    let no_id = || FieldError::new("/id", "error.path.missing");
    let update = parse::pod_update(&value).map_err(|mut details| {
        if value.is_object() && value.get("id").is_none() {
            details.push(no_id());
        }
        ApiError::WrongType { details }
    })?;
    let id = own_id(&update)?.ok_or_else(|| ApiError::WrongType { details: vec![no_id()] })?;
    let app = definition(&update, id.clone(), None, call.api().store.now())?;
    if call.query.flag("dryRun", false) {
        if call.api().store.read(|state| state.pod(&id).is_some()) {
            return Err(ProposeError::Rejected(Rejection::PodExists(id)).into());
        }
        return Ok(native::dry_run(call, &app));
    }
    let started = start(call, AppChange::Create(app.clone()), Announcement::PodCreated).await?;
    let mut answer = stored(call, app, StatusCode::CREATED, &started);
    let host = call.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.map_or_else(|| call.shared.address(), str::to_string);
    if let Ok(location) = HeaderValue::try_from(format!("http://{host}/v2/pods{id}")) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

/// `PUT /v2/pods/{id}`: the definition replaces the present one whole.
pub(crate) async fn put(call: &Call, path: AppId, body: Body) -> Result<Reply, ApiError> {
    let update = read(call, body).await?;
    let id = resolve_id(path.as_str(), "/").map_err(not_valid)?;
    if let Some(own) = own_id(&update)?
        && own != id
    {
        return Err(ApiError::PodIdMismatch { path: id, own });
    }
    let _turn = call.shared.editing.lock().await;
    let current = call.api().store.read(|state| state.pod(&id).map(|record| record.app.clone()));
    let app = definition(&update, id, current.as_ref(), call.api().store.now())?;
    if call.query.flag("dryRun", false) {
        return Ok(native::dry_run(call, &app));
    }
    let (change, announcement) = match current {
        Some(_) => (AppChange::Update(app.clone()), Announcement::PodUpdated),
        None => (AppChange::Create(app.clone()), Announcement::PodCreated),
    };
    let started = start(call, change, announcement).await?;
    Ok(stored(call, app, StatusCode::OK, &started))
}

/// `DELETE /v2/pods/{id}`: accepted, and done once its deployment is.
pub(crate) async fn delete(call: &Call, id: AppId) -> Result<Reply, ApiError> {
    let _turn = call.shared.editing.lock().await;
    if call.api().store.read(|state| state.pod(&id).is_none()) {
        return Err(unknown(&id));
    }
    let started = start(call, AppChange::Remove(id), Announcement::PodDeleted).await?;
    let mut answer = change::with_header(reply::empty(StatusCode::ACCEPTED), &started);
    if let Ok(location) = HeaderValue::from_str(started.id.as_str()) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

async fn start(
    call: &Call,
    change: AppChange,
    announcement: Announcement,
) -> Result<Started, ApiError> {
    let force = call.query.flag("force", false);
    change::announced_as(call, change, force, announcement).await
}

/// Answer with the pod as it is stored, or, where another change came between, as it was asked
/// for.
fn stored(call: &Call, app: App, status: StatusCode, started: &Started) -> Reply {
    let known = call.api().store.read(|state| state.pod(&app.id).map(|record| record.app.clone()));
    let app = known.unwrap_or(App { version: started.version, ..app });
    change::with_header(reply::json(status, &pod(&app)), started)
}

async fn read(call: &Call, body: Body) -> Result<PodUpdate, ApiError> {
    let value = body::json(&call.headers, body).await?;
    parse::pod_update(&value).map_err(|details| ApiError::WrongType { details })
}

fn own_id(update: &PodUpdate) -> Result<Option<AppId>, ApiError> {
    update.common.id.given().map(|text| resolve_id(text, "/")).transpose().map_err(not_valid)
}

fn definition(
    update: &PodUpdate,
    id: AppId,
    current: Option<&App>,
    now: Time,
) -> Result<App, ApiError> {
    let app = normalize_pod(update, id, now).map_err(|details| ApiError::NotValid { details })?;
    let broken = pod_violations(&app, current);
    if broken.is_empty() { Ok(app) } else { Err(ApiError::NotValid { details: fields(&broken) }) }
}

fn not_valid(error: FieldError) -> ApiError {
    ApiError::NotValid { details: vec![error] }
}
