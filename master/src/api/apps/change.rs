//! Changing apps: create, update, roll back, restart, delete.
//!
//! Reads the request and says what shall be; whether it may be is core's to decide.

use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::{accept, body, change, native};
use crate::normalize::{normalize, resolve_id};
use crate::propose::ProposeError;
use axum::body::Body;
use bramble_core::command::{AppChange, Rejection};
use bramble_core::model::{App, AppId, AppRecord, Time};
use bramble_core::validate::{self, Violation};
use bramble_protocol::rest::app::AppView;
use bramble_protocol::rest::classic::{classic, is_classic};
use bramble_protocol::rest::error::{FieldError, fields};
use bramble_protocol::rest::parse;
use bramble_protocol::rest::update::AppUpdate;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::sync::MutexGuard;

/// A request whose JSON body was read.
struct Request<'a> {
    call: &'a Call,
    force: bool,
    /// Keep what an update leaves out.
    partial: bool,
    body: Value,
}

impl<'a> Request<'a> {
    async fn read(call: &'a Call, body: Body) -> Result<Request<'a>, ApiError> {
        let body = body::json(&call.headers, body).await?;
        Ok(Request {
            call,
            force: call.query.flag("force", false),
            partial: call.query.flag("partialUpdate", true),
            body,
        })
    }

    /// Wait until no other request is between reading an app and changing it: what it reads now
    /// must still be there when its change is applied, or the other's would be lost.
    async fn turn(&self) -> MutexGuard<'_, ()> {
        self.call.shared.editing.lock().await
    }

    /// An app as it is now. A copy, so that nothing is worked out while the store is held.
    fn now(&self) -> Time {
        self.call.api().store.now()
    }

    fn record(&self, id: &AppId) -> Option<AppRecord> {
        self.call.api().store.read(|state| state.app(id).cloned())
    }

    /// Commit the change of a single app and answer with its deployment.
    async fn finish_one(&self, status: StatusCode, one: AppChange) -> Result<Reply, ApiError> {
        let started = change::app(self.call, one, self.force).await?;
        Ok(change::result(status, &started))
    }

    /// Commit the changes and answer with their deployment.
    async fn finish(&self, status: StatusCode, changes: Vec<AppChange>) -> Result<Reply, ApiError> {
        let started = change::apps(self.call.api(), changes, self.force).await?;
        Ok(change::result(status, &started))
    }
}

/// `POST /v2/apps`.
pub(crate) async fn create(call: &Call, body: Body) -> Result<Reply, ApiError> {
    let request = Request::read(call, body).await?;
    let update = parse::app_update(&request.body).map_err(|mut details| {
        if request.body.is_object() && request.body.get("id").is_none() {
            details.push(no_id(""));
        }
        wrong_type(details)
    })?;
    let app = named(&update, request.now())?;
    let id = app.id.clone();
    let api = request.call.api();
    if call.query.flag("dryRun", false) {
        if request.record(&id).is_some() {
            return Err(ProposeError::Rejected(Rejection::AppExists(id)).into());
        }
        return Ok(native::dry_run(call, &app));
    }
    let started = change::app(call, AppChange::Create(app.clone()), request.force).await?;
    // As stored: with its version and service ports.
    let stored = api.store.read(|state| state.apps.get(&id).map(|record| record.app.clone()));
    let app = stored.unwrap_or(App { version: started.version, ..app });
    let answer = if is_classic(&request.body) {
        reply::typed(StatusCode::CREATED, accept::JSON, classic(&app, &request.body))
    } else {
        reply::json(StatusCode::CREATED, &AppView::created(&app, &started.id))
    };
    let mut answer = change::with_header(answer, &started);
    if let Some(location) = location(&request, &id) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

/// The app's URL, by the name under which the client knows this node.
fn location(request: &Request<'_>, id: &AppId) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("http://{}/v2/apps{id}", request.call.host())).ok()
}

/// `PUT /v2/apps/{id}`: create, update, or with a bare `version` go back to it.
pub(crate) async fn put(call: &Call, id: AppId, body: Body) -> Result<Reply, ApiError> {
    let request = Request::read(call, body).await?;
    let update = parse::app_update(&request.body).map_err(wrong_type)?;
    let _turn = request.turn().await;
    let record = request.record(&id);
    let current = record.as_ref().map(|record| &record.app);
    let change = next(&update, id, record.as_ref(), current, (request.partial, request.now()), "")?;
    if call.query.flag("dryRun", false)
        && let AppChange::Create(app) | AppChange::Update(app) = &change
    {
        return Ok(native::dry_run(call, app));
    }
    let status = match change {
        AppChange::Create(_) => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    request.finish_one(status, change).await
}

/// `PATCH /v2/apps/{id}`: never creates.
pub(crate) async fn patch(call: &Call, id: AppId, body: Body) -> Result<Reply, ApiError> {
    let request = Request::read(call, body).await?;
    let update = parse::app_update(&request.body).map_err(wrong_type)?;
    let _turn = request.turn().await;
    let record = request.record(&id).ok_or_else(|| ApiError::AppUnknown(id.clone()))?;
    let change = next(&update, id, Some(&record), Some(&record.app), (true, request.now()), "")?;
    request.finish_one(StatusCode::OK, change).await
}

/// `PUT /v2/apps`: many in one deployment.
pub(crate) async fn put_many(call: &Call, body: Body) -> Result<Reply, ApiError> {
    let request = Request::read(call, body).await?;
    let _turn = request.turn().await;
    let changes = many(&request, true)?;
    request.finish(StatusCode::OK, changes).await
}

/// `PATCH /v2/apps`: many, all of which must exist.
pub(crate) async fn patch_many(call: &Call, body: Body) -> Result<Reply, ApiError> {
    let request = Request::read(call, body).await?;
    let _turn = request.turn().await;
    let changes = many(&request, false)?;
    request.finish(StatusCode::OK, changes).await
}

fn many(request: &Request<'_>, may_create: bool) -> Result<Vec<AppChange>, ApiError> {
    let updates = parse::app_updates(&request.body).map_err(wrong_type)?;
    let partial = request.partial || !may_create;
    let mut changes: Vec<AppChange> = Vec::new();
    let mut latest = BTreeMap::new();
    let mut wrong = Vec::new();
    for (index, update) in updates.iter().enumerate() {
        let path = format!("/({index})");
        if !update.id.is_given() {
            return Err(ApiError::Argument("App Update must have app id set".into()));
        }
        let id = match own_id(update, &path) {
            Err(ApiError::NotValid { details }) => {
                wrong.extend(details);
                continue;
            }
            id => id?,
        };
        let record = request.record(&id);
        // An id given twice is changed twice, the second time from where the first led.
        let drafted = latest.get(&id).and_then(|at: &usize| match &changes[*at] {
            AppChange::Create(app) | AppChange::Update(app) => Some(app),
            _ => None,
        });
        let current = drafted.or(record.as_ref().map(|record| &record.app));
        if current.is_none() && !may_create {
            return Err(ApiError::AppUnknown(id));
        }
        match next(update, id.clone(), record.as_ref(), current, (partial, request.now()), &path) {
            Ok(change) => {
                latest.insert(id, changes.len());
                changes.push(change);
            }
            Err(ApiError::NotValid { details }) => wrong.extend(details),
            Err(other) => return Err(other),
        }
    }
    if wrong.is_empty() { Ok(changes) } else { Err(ApiError::NotValid { details: wrong }) }
}

/// `POST /v2/apps/{id}/restart`.
pub(crate) async fn restart(call: &Call, id: AppId) -> Result<Reply, ApiError> {
    let force = call.query.flag("force", false);
    refuse_pod(call, &id)?;
    let started = change::apps(call.api(), vec![AppChange::Restart(id)], force).await?;
    Ok(change::result(StatusCode::OK, &started))
}

/// `DELETE /v2/apps/{id}`; unlike elsewhere, `force` holds unless it is denied.
pub(crate) async fn delete(call: &Call, id: AppId) -> Result<Reply, ApiError> {
    let force = call.query.flag("force", true);
    refuse_pod(call, &id)?;
    let started = change::apps(call.api(), vec![AppChange::Remove(id)], force).await?;
    Ok(change::result(StatusCode::OK, &started))
}

/// Refuse the id of a pod: to these endpoints it is no app's.
fn refuse_pod(call: &Call, id: &AppId) -> Result<(), ApiError> {
    match call.api().store.read(|state| state.pod(id).is_some()) {
        true => Err(ApiError::AppUnknown(id.clone())),
        false => Ok(()),
    }
}

/// What one update makes of an app that is `current` now.
fn next(
    update: &AppUpdate,
    id: AppId,
    record: Option<&AppRecord>,
    current: Option<&App>,
    (partial, now): (bool, Time),
    path: &str,
) -> Result<AppChange, ApiError> {
    if let Some(version) = update.rollback() {
        let record = record.ok_or_else(|| ApiError::AppUnknown(id.clone()))?;
        let earlier = record.at_version(version).cloned();
        let earlier = earlier.ok_or(ApiError::VersionUnknown(id, version))?;
        check_change(current, &earlier, path)?;
        return Ok(AppChange::Update(earlier));
    }
    if update.version.is_given() {
        let message = "The 'version' field may only be combined with the 'id' field.";
        let details = vec![FieldError::new(format!("{path}/version"), message)];
        return Err(ApiError::NotValid { details });
    }
    let base = current.filter(|_| partial);
    let app = definition(update, id, base, now, path)?;
    check_change(current, &app, path)?;
    Ok(if current.is_some() { AppChange::Update(app) } else { AppChange::Create(app) })
}

/// The whole definition that an update comes to, normalised and valid.
fn definition(
    update: &AppUpdate,
    id: AppId,
    base: Option<&App>,
    now: Time,
    path: &str,
) -> Result<App, ApiError> {
    let app = normalize(update, id, base, now);
    let app = app.map_err(|details| not_valid(details, path))?;
    refuse(&validate::validate(&app), path)?;
    Ok(app)
}

/// Refuse what an app that has volumes may not change.
fn check_change(current: Option<&App>, app: &App, path: &str) -> Result<(), ApiError> {
    let broken = current.map(|current| validate::validate_change(current, app));
    refuse(&broken.unwrap_or_default(), path)
}

fn refuse(broken: &[Violation], path: &str) -> Result<(), ApiError> {
    if broken.is_empty() { Ok(()) } else { Err(not_valid(fields(broken), path)) }
}

fn not_valid(details: Vec<FieldError>, path: &str) -> ApiError {
    ApiError::NotValid { details: details.into_iter().map(|field| below(field, path)).collect() }
}

/// The new app that a definition with an id means.
fn named(update: &AppUpdate, now: Time) -> Result<App, ApiError> {
    match own_id(update, "") {
        Err(ApiError::NotValid { mut details }) => {
            // All that is wrong is named in one answer: with an id that is right, the rest shows.
            let rest = definition(update, AppId::new("/x"), None, now, "");
            if let Err(ApiError::NotValid { details: rest }) = rest {
                details.extend(rest);
            }
            Err(ApiError::NotValid { details })
        }
        id => definition(update, id?, None, now, ""),
    }
}

fn no_id(path: &str) -> FieldError {
    FieldError::new(format!("{path}/id"), "error.path.missing")
}

/// The id a definition gives itself, from the root.
fn own_id(update: &AppUpdate, path: &str) -> Result<AppId, ApiError> {
    let Some(text) = update.id.given() else {
        return Err(wrong_type(vec![no_id(path)]));
    };
    resolve_id(text, "/").map_err(|error| ApiError::NotValid { details: vec![below(error, path)] })
}

/// Put a mistake of one app under its place in a list.
fn below(field: FieldError, path: &str) -> FieldError {
    match (path, field.path.as_str()) {
        ("", _) => field,
        (_, "/") => FieldError { path: path.to_string(), ..field },
        _ => FieldError { path: format!("{path}{}", field.path), ..field },
    }
}

fn wrong_type(details: Vec<FieldError>) -> ApiError {
    ApiError::WrongType { details }
}
