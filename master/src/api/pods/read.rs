//! Looking at pods: definitions, versions, and where they stand.

use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use bramble_core::model::{AppId, AppRecord, State};
use bramble_protocol::rest::error::ErrorBody;
use bramble_protocol::rest::pod::{PodStatusJson, pod, pod_status};
use bramble_protocol::timestamp;
use http::StatusCode;

pub(super) fn unknown(id: &AppId) -> ApiError {
    ApiError::PodUnknown(id.clone())
}

/// `GET /v2/pods`.
pub(crate) fn list(call: &Call) -> Result<Reply, ApiError> {
    let all: Vec<_> =
        call.api().store.read(|state| state.pods().filter_map(|record| pod(&record.app)).collect());
    Ok(reply::json(StatusCode::OK, &all))
}

/// `GET /v2/pods/{id}`.
pub(crate) fn get(call: &Call, id: &AppId) -> Result<Reply, ApiError> {
    let found = call.api().store.read(|state| state.pod(id).and_then(|record| pod(&record.app)));
    Ok(reply::json(StatusCode::OK, &found.ok_or_else(|| unknown(id))?))
}

/// `GET /v2/pods/::status`: also of those whose last instances stop.
pub(crate) fn statuses(call: &Call) -> Result<Reply, ApiError> {
    let all: Vec<_> = call.api().store.read(|state| {
        let leaving = state.leaving.values().filter(|record| record.app.is_pod());
        let all = state.pods().chain(leaving);
        all.filter_map(|record| standing(state, record)).collect()
    });
    Ok(reply::json(StatusCode::OK, &all))
}

/// `GET /v2/pods/{id}::status`.
pub(crate) fn status(call: &Call, id: &AppId) -> Result<Reply, ApiError> {
    let found = call.api().store.read(|state| {
        let record = state.record(id)?;
        standing(state, record)
    });
    Ok(reply::json(StatusCode::OK, &found.ok_or_else(|| unknown(id))?))
}

fn standing(state: &State, record: &AppRecord) -> Option<PodStatusJson> {
    let removed = !state.apps.contains_key(&record.app.id);
    let failure = record.last_failure.as_ref().map(|failure| failure.message.as_str());
    pod_status(state, &record.app, removed, failure)
}

/// `GET /v2/pods/{id}::versions`: newest first.
pub(crate) fn versions(call: &Call, id: &AppId) -> Result<Reply, ApiError> {
    let list: Vec<String> = call.api().store.read(|state| {
        let record = state.pod(id).ok_or_else(|| unknown(id))?;
        let all = record.versions.iter().chain([&record.app]).rev();
        Ok::<_, ApiError>(all.map(|app| timestamp::format(app.version)).collect())
    })?;
    Ok(reply::json(StatusCode::OK, &list))
}

/// `GET /v2/pods/{id}::versions/{ts}`.
pub(crate) fn version(call: &Call, id: &AppId, at: &str) -> Result<Reply, ApiError> {
    let time = timestamp::parse(at)
        .ok_or_else(|| ApiError::Argument(ErrorBody::bad_timestamp(at).message))?;
    let found = call.api().store.read(|state| {
        let record = state.pod(id).ok_or_else(|| unknown(id))?;
        let then = record.at_version(time).and_then(pod);
        then.ok_or_else(|| ApiError::PodVersionUnknown(id.clone(), time))
    })?;
    Ok(reply::json(StatusCode::OK, &found))
}
