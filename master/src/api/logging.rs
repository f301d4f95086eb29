//! `/logging` (Marathon's contract, section 2.6): the levels of this process's log.

use super::body;
use super::dispatch::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use crate::levels::LogLevel;
use axum::body::Body;
use bramble_protocol::rest::error::FieldError;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a client asks for, and is answered with.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    logger: String,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u32>,
}

pub(crate) fn list(call: &Call) -> Reply {
    let all = call.api().levels.all();
    let all: BTreeMap<String, &str> =
        all.into_iter().map(|(logger, level)| (logger, level.as_str())).collect();
    reply::json(StatusCode::OK, &all)
}

/// Change one level, and answer with what was asked for.
///
/// That this build has no lines of a level is said in a header: the body has Marathon's keys.
pub(crate) async fn set(call: &Call, body: Body) -> Result<Reply, ApiError> {
    let change = read(&body::json(&call.headers, body).await?)?;
    let level = LogLevel::parse(change.level).unwrap_or(LogLevel::Info);
    let lasting = change.duration_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let levels = &call.api().levels;
    levels
        .set(&change.logger, level, lasting)
        .map_err(|error| ApiError::Argument(error.to_string()))?;
    tracing::info!(logger = change.logger, level = change.level, "a log level was changed");
    let mut answer = reply::json(StatusCode::OK, &change);
    let most = levels.most();
    let rank = |level| LogLevel::ALL.iter().position(|l| *l == level);
    if rank(level) < rank(most) {
        let most = most.as_str();
        let warning = format!("199 bramble \"this build contains no lines below {most}\"");
        if let Ok(warning) = HeaderValue::try_from(warning) {
            answer.headers_mut().insert(header::WARNING, warning);
        }
    }
    Ok(answer)
}

fn read(body: &Value) -> Result<Change, ApiError> {
    let mut wrong = Vec::new();
    let mut text = |key: &str| match body.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        given => {
            let code = given.map_or("error.path.missing", |_| "error.expected.jsstring");
            wrong.push(FieldError::new(format!("/{key}"), code));
            None
        }
    };
    let (logger, word) = (text("logger"), text("level"));
    let level = word.as_deref().and_then(LogLevel::parse).map(LogLevel::as_str);
    if word.is_some() && level.is_none() {
        wrong.push(FieldError::new("/level", "error.unknown.enum.literal"));
    }
    let duration_seconds = match body.get("durationSeconds") {
        None | Some(Value::Null) => None,
        Some(given) => {
            let seconds = given.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
            let code = match given.as_f64() {
                None => "error.expected.jsnumber",
                Some(seconds) if seconds > f64::from(u32::MAX) => "error.max",
                Some(_) => "error.min",
            };
            let seconds = seconds.filter(|seconds| *seconds > 0);
            if seconds.is_none() {
                wrong.push(FieldError::new("/durationSeconds", code));
            }
            seconds
        }
    };
    match (logger, level) {
        (Some(logger), Some(level)) if wrong.is_empty() && !logger.trim().is_empty() => {
            Ok(Change { logger: logger.trim().to_string(), level, duration_seconds })
        }
        _ if wrong.is_empty() => {
            let details = vec![FieldError::new("/logger", "must not be empty")];
            Err(ApiError::NotValid { details })
        }
        _ => Err(ApiError::WrongType { details: wrong }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_for_is_read_or_named() {
        let rows = [
            (json!({ "logger": "ROOT", "level": "DEBUG" }), "ROOT debug None"),
            (json!({ "logger": " a::b ", "level": "off" }), "a::b off None"),
            (json!({ "logger": "a", "level": "warn", "durationSeconds": 5 }), "a warn Some(5)"),
            (json!({ "logger": "a", "level": "warn", "durationSeconds": 0 }), "/durationSeconds"),
            (json!({ "logger": "a", "level": "warn", "durationSeconds": "x" }), "/durationSeconds"),
            (json!({ "logger": "", "level": "warn" }), "/logger"),
            (json!({ "level": "warn" }), "/logger"),
            (json!({ "logger": "a" }), "/level"),
            (json!({ "logger": "a", "level": 7 }), "/level"),
            (json!({ "logger": "a", "level": "loud" }), "/level"),
            (json!([]), "/logger /level"),
        ];
        for (body, want) in rows {
            let got = match read(&body) {
                Ok(c) => format!("{} {} {:?}", c.logger, c.level, c.duration_seconds),
                Err(ApiError::WrongType { details } | ApiError::NotValid { details }) => {
                    details.into_iter().map(|d| d.path).collect::<Vec<_>>().join(" ")
                }
                Err(other) => panic!("{other}"),
            };
            assert_eq!(got, want, "{body}");
        }
    }
}
