//! Secrets: put, listed by name, removed. No answer ever holds a value.

use crate::api::accept::says_json;
use crate::api::body;
use crate::api::change;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use axum::body::Body;
use bramble_core::command::Command;
use bramble_core::model::{App, SecretRecord, State, secret_name};
use bramble_protocol::native::{SecretView, Secrets};
use bramble_protocol::secret::{SECRET_BYTES_MAX, Secret};
use bramble_protocol::timestamp;
use http::StatusCode;
use serde_json::Value;

/// `GET secrets`.
pub(in crate::api) fn list(call: &Call) -> Result<Reply, ApiError> {
    let answer = call.api().store.read(|state| Secrets {
        secrets: state.secrets.iter().map(|(name, record)| view(state, name, record)).collect(),
    });
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `PUT secrets/{name}`: the body is the value, or `{"value": "..."}` where it says it is JSON.
pub(in crate::api) async fn put(call: &Call, name: &str, body: Body) -> Result<Reply, ApiError> {
    let name = checked(name)?;
    let bytes = body::read(&call.headers, body).await?;
    let value = Secret::new(if says_json(&call.headers) { of_json(&bytes)? } else { bytes });
    if value.expose().is_empty() {
        return Err(ApiError::Argument("the value is empty: send it as the body".into()));
    }
    if value.expose().len() > SECRET_BYTES_MAX {
        return Err(ApiError::SecretTooLarge { limit: SECRET_BYTES_MAX });
    }
    change::within(call.api().vault.put(name, &value)).await??;
    tracing::info!(name, "a secret was put");
    let view = call.api().store.read(|state| Some(view(state, name, state.secrets.get(name)?)));
    // Another request may have removed it already.
    let view = view.ok_or_else(|| ApiError::SecretUnknown(name.into()))?;
    let status = if view.version == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(reply::json(status, &view))
}

/// `DELETE secrets/{name}`. Tasks that have it keep it; new ones of its apps wait.
pub(in crate::api) async fn remove(call: &Call, name: &str) -> Result<Reply, ApiError> {
    let name = checked(name)?;
    let view = call.api().store.read(|state| Some(view(state, name, state.secrets.get(name)?)));
    let view = view.ok_or_else(|| ApiError::SecretUnknown(name.into()))?;
    change::commit(call.api(), Command::RemoveSecret { name: name.into() }).await?;
    tracing::info!(name, "a secret was removed");
    Ok(reply::json(StatusCode::OK, &view))
}

fn checked(name: &str) -> Result<&str, ApiError> {
    secret_name(name).ok_or_else(|| {
        ApiError::Argument(format!(
            "'{name}' cannot be the name of a secret: use letters, digits and '._-', in parts \
             between '/', at most 255 bytes"
        ))
    })
}

/// Read the JSON form. What is wrong is told without a word of what was sent.
fn of_json(bytes: &[u8]) -> Result<Vec<u8>, ApiError> {
    let form = || ApiError::Argument("send {\"value\": \"...\"}, or the bytes themselves".into());
    let Ok(Value::Object(mut object)) = serde_json::from_slice(bytes) else { return Err(form()) };
    match (object.remove("value"), object.is_empty()) {
        (Some(Value::String(value)), true) => Ok(value.into_bytes()),
        _ => Err(form()),
    }
}

fn view(state: &State, name: &str, record: &SecretRecord) -> SecretView {
    let names = |app: &&App| app.task_secrets().iter().any(|secret| secret.source == name);
    let apps = state.apps.values().map(|record| &record.app).filter(names);
    SecretView {
        name: name.into(),
        version: record.version,
        created_at: timestamp::format(record.created_at),
        changed_at: timestamp::format(record.changed_at),
        apps: apps.map(|app| app.id.0.clone()).collect(),
    }
}
