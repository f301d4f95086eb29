//! Changing groups: create, replace, scale, roll back, delete, and trying first.
//!
//! One request is one deployment. Reads the request and says what shall be; whether it may be is
//! core's to decide.

use super::read::{earlier, existing, unknown};
use crate::api::body;
use crate::api::change::{self, Started};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::normalize::group::{GroupWork, check_alone, define, resolve_group_id, restore, scale};
use axum::body::Body;
use bramble_core::command::{Command, GroupChange, Rejection};
use bramble_core::event::Event;
use bramble_core::machine;
use bramble_core::model::{DeploymentId, GroupId, Plan, Time};
use bramble_protocol::rest::deployment::step;
use bramble_protocol::rest::error::FieldError;
use bramble_protocol::rest::event::EventBody;
use bramble_protocol::rest::group::GroupUpdate;
use bramble_protocol::rest::parse;
use bramble_protocol::timestamp;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

/// `POST /v2/groups/{base}`: the id in the body is relative to the path.
pub(crate) async fn create(call: &Call, base: GroupId, body: Body) -> Result<Reply, ApiError> {
    let update = read(call, body).await?;
    let base = checked(&base)?;
    let id = own_id(&update, &base)?.unwrap_or(base);
    let _turn = call.shared.editing.lock().await;
    if call.api().store.read(|state| state.group(&id).is_some()) {
        return Err(ApiError::from(crate::propose::ProposeError::from(Rejection::GroupExists(id))));
    }
    let mut work = work(call, &update, &id)?;
    // A group that came to be since then is refused where the change is applied.
    for change in &mut work.groups {
        if let GroupChange::Put { id: put, dependencies } = change
            && *put == id
        {
            let dependencies = std::mem::take(dependencies);
            *change = GroupChange::Create { id: id.clone(), dependencies };
        }
    }
    let started = start(call, &id, work).await?;
    let mut answer = change::result(StatusCode::CREATED, &started);
    if let Ok(location) = HeaderValue::try_from(format!("http://{}/v2/groups{id}", call.host())) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

/// `PUT /v2/groups/{id}`: create or replace, or by a single key scale or roll back.
pub(crate) async fn put(call: &Call, path: GroupId, body: Body) -> Result<Reply, ApiError> {
    let update = read(call, body).await?;
    let path = checked(&path)?;
    // The path says which group; only the root's may leave that to the body.
    let id = match own_id(&update, &path)? {
        Some(id) if path.is_root() => id,
        _ => path,
    };
    let _turn = call.shared.editing.lock().await;
    let work = work(call, &update, &id)?;
    if call.query.flag("dryRun", false) {
        let plan = call
            .api()
            .store
            .read(|state| machine::preview(state, &work.groups, &work.apps))
            .map_err(crate::propose::ProposeError::from)?;
        return Ok(reply::json(StatusCode::OK, &steps(&plan)));
    }
    Ok(change::result(StatusCode::OK, &start(call, &id, work).await?))
}

/// `DELETE /v2/groups/{id}`: with everything in it.
pub(crate) async fn delete(call: &Call, id: GroupId) -> Result<Reply, ApiError> {
    let work = GroupWork { groups: vec![GroupChange::Remove(id.clone())], apps: Vec::new() };
    Ok(change::result(StatusCode::OK, &start(call, &id, work).await?))
}

/// `PATCH /v2/groups/{id}`: only `enforceRole`, only of groups below the root.
pub(crate) async fn enforce_role(call: &Call, id: GroupId, body: Body) -> Result<Reply, ApiError> {
    let enforce = parse::enforce_role(&value(call, body).await?)
        .map_err(|details| ApiError::WrongType { details })?;
    if call.api().store.read(|state| state.group(&id).is_none()) {
        return Err(unknown(&id));
    }
    if GroupId::parent_of(id.as_str()) != Some(GroupId::root()) {
        let message = "enforceRole can only be set on groups directly below the root";
        return Err(ApiError::NotValid { details: vec![FieldError::new("/enforceRole", message)] });
    }
    change::commit(call.api(), Command::EnforceRole { group: id, enforce }).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn value(call: &Call, body: Body) -> Result<Value, ApiError> {
    body::json(&call.headers, body).await
}

async fn read(call: &Call, body: Body) -> Result<GroupUpdate, ApiError> {
    let value = value(call, body).await?;
    parse::group_update(&value).map_err(|details| ApiError::WrongType { details })
}

/// A path as an id of a group: it may hold what none may.
fn checked(path: &GroupId) -> Result<GroupId, ApiError> {
    resolve_group_id(path.as_str(), &GroupId::root())
        .map_err(|error| ApiError::NotValid { details: vec![error] })
}

/// The id in the body, if there is one, against the group the path names.
fn own_id(update: &GroupUpdate, base: &GroupId) -> Result<Option<GroupId>, ApiError> {
    let id = update.id.given().map(|text| resolve_group_id(text, base)).transpose();
    id.map_err(|error| ApiError::NotValid { details: vec![error] })
}

/// What the request comes to, as things are now.
fn work(call: &Call, update: &GroupUpdate, id: &GroupId) -> Result<GroupWork, ApiError> {
    let not_valid = |details| ApiError::NotValid { details };
    check_alone(update).map_err(not_valid)?;
    let store = &call.api().store;
    if let Some(version) = update.version.given() {
        let (now, then) = store.read(|state| (state.root(), state.root_at(*version)));
        return Ok(restore(&now, id, &earlier(&then, id, *version)?));
    }
    if let Some(factor) = update.scale_by_ppm.given() {
        let root = store.read(|state| existing(state, id))?;
        return scale(&root, id, *factor).map_err(not_valid);
    }
    let root = store.read(|state| state.root());
    define(update, id, &root, store.now()).map_err(not_valid)
}

async fn start(call: &Call, group: &GroupId, work: GroupWork) -> Result<Started, ApiError> {
    let (api, force) = (call.api(), call.query.flag("force", false));
    let id = DeploymentId::new(Uuid::new_v4().to_string());
    let command = Command::ChangeGroup {
        deployment_id: id.clone(),
        group: group.clone(),
        groups: work.groups,
        apps: work.apps,
        force,
        replaces: None,
    };
    let committed = change::commit(api, command).await.inspect_err(|error| {
        api.events.publish(EventBody::GroupChangeFailed {
            group_id: group.0.clone(),
            version: timestamp::format(api.store.now()),
            reason: error.to_string(),
        });
    })?;
    let version = committed.events.iter().find_map(|event| match event {
        Event::GroupChanged { version, .. } => Some(*version),
        _ => None,
    });
    let version: Time = version.unwrap_or_else(|| api.store.read(|state| state.now));
    tracing::info!(deployment_id = %id, group_id = %group, "a request changed a group");
    Ok(Started { id, version })
}

fn steps(plan: &Plan) -> Value {
    json!({ "steps": plan.steps.iter().map(step).collect::<Vec<_>>() })
}
