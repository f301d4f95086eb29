//! Looking at apps: lists with filters, one app, its versions.

use super::shape::{AppInfo, Embed, app_info};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::selector::Selector;
use bramble_core::model::{App, AppId, GroupId, State};
use bramble_protocol::rest::app::canonical;
use bramble_protocol::rest::error::ErrorBody;
use bramble_protocol::rest::version as rest;
use bramble_protocol::timestamp;
use http::StatusCode;
use serde::Serialize;

// Structs rather than `json!`: a map of serde_json's would sort the keys of the apps in it.
#[derive(Serialize)]
struct Apps {
    apps: Vec<AppInfo>,
}

#[derive(Serialize)]
struct Below {
    #[serde(rename = "*")]
    apps: Vec<AppInfo>,
}

#[derive(Serialize)]
struct One {
    app: AppInfo,
}

/// `GET /v2/apps?cmd=&id=&label=&embed=`.
pub(crate) fn list(call: &Call) -> Result<Reply, ApiError> {
    let filter = Filter::of(call)?;
    let (embed, now) = (Embed::of_list(&call.query), call.api().store.now());
    let body = call.api().store.read(|state| {
        let wanted = state.only_apps().filter(|record| filter.passes(&record.app));
        let apps: Vec<_> = wanted.map(|r| app_info(state, r, embed, now)).collect();
        Apps { apps }
    });
    Ok(reply::json(StatusCode::OK, &body))
}

/// `GET /v2/apps/{group}/*`.
pub(crate) fn below(call: &Call, prefix: &str) -> Result<Reply, ApiError> {
    let (embed, now) = (Embed::of_list(&call.query), call.api().store.now());
    let body = call.api().store.read(|state| {
        group_exists(state, prefix)?;
        let wanted = state.only_apps().filter(|r| r.app.id.as_str().starts_with(prefix));
        let apps: Vec<_> = wanted.map(|r| app_info(state, r, embed, now)).collect();
        Ok::<_, ApiError>(Below { apps })
    })?;
    Ok(reply::json(StatusCode::OK, &body))
}

/// Refuse a group (as a prefix with its trailing slash) that is not there.
pub(crate) fn group_exists(state: &State, prefix: &str) -> Result<(), ApiError> {
    let path = prefix.trim_end_matches('/');
    let group = if path.is_empty() { GroupId::root() } else { GroupId::new(path) };
    match state.group(&group) {
        Some(_) => Ok(()),
        None => Err(ApiError::GroupUnknown(group.0)),
    }
}

/// `GET /v2/apps/{id}?embed=`.
pub(crate) fn get(call: &Call, id: &AppId) -> Result<Reply, ApiError> {
    let (embed, now) = (Embed::of_one(&call.query), call.api().store.now());
    let body = call.api().store.read(|state| {
        let record = state.app(id).ok_or_else(|| ApiError::AppUnknown(id.clone()))?;
        Ok::<_, ApiError>(One { app: app_info(state, record, embed, now) })
    })?;
    Ok(reply::json(StatusCode::OK, &body))
}

/// `GET /v2/apps/{id}/versions`.
pub(crate) fn versions(call: &Call, id: &AppId) -> Result<Reply, ApiError> {
    let list = call.api().store.read(|state| {
        let record = state.app(id).ok_or_else(|| ApiError::AppUnknown(id.clone()))?;
        let all = record.versions.iter().chain([&record.app]).map(|app| app.version);
        Ok::<_, ApiError>(rest::versions(all))
    })?;
    Ok(reply::json(StatusCode::OK, &list))
}

/// `GET /v2/apps/{id}/versions/{ts}`: the bare app.
pub(crate) fn version(call: &Call, id: &AppId, at: &str) -> Result<Reply, ApiError> {
    let time = timestamp::parse(at)
        .ok_or_else(|| ApiError::Argument(ErrorBody::bad_timestamp(at).message))?;
    let app = call.api().store.read(|state| {
        let record = state.app(id).ok_or_else(|| ApiError::AppUnknown(id.clone()))?;
        let app = record.at_version(time);
        app.map(canonical).ok_or_else(|| ApiError::VersionUnknown(id.clone(), time))
    })?;
    Ok(reply::json(StatusCode::OK, &app))
}

/// What a list is narrowed to; all of it must hold.
struct Filter {
    /// Lower-case.
    cmd: Option<String>,
    /// Lower-case.
    id: Option<String>,
    labels: Vec<Selector>,
}

impl Filter {
    fn of(call: &Call) -> Result<Filter, ApiError> {
        let text = |key| call.query.get(key).filter(|v| !v.is_empty()).map(str::to_lowercase);
        let labels = call.query.all("label").filter(|v| !v.is_empty()).map(Selector::parse);
        Ok(Filter { cmd: text("cmd"), id: text("id"), labels: labels.collect::<Result<_, _>>()? })
    }

    fn passes(&self, app: &App) -> bool {
        let has = |text: Option<&str>, part: &Option<String>| {
            part.as_ref().is_none_or(|p| text.is_some_and(|t| t.to_lowercase().contains(p)))
        };
        has(app.cmd.as_deref(), &self.cmd)
            && has(Some(app.id.as_str()), &self.id)
            && self.labels.iter().all(|selector| selector.selects(&app.labels))
    }
}
