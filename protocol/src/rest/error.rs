//! Error bodies as Marathon words them (its contract, section 1.3). Statuses are the API's.

use bramble_core::model::{AppId, DeploymentId, Time};
use bramble_core::validate::Violation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is wrong at one place of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// `/container/docker/image`, `/apps(0)/id`; `/` for the whole.
    pub path: String,
    /// Marathon's code or message first, then, where the code says too little, the fix.
    pub errors: Vec<String>,
}

impl FieldError {
    /// Name one error at one place.
    pub fn new(path: impl Into<String>, error: impl Into<String>) -> Self {
        Self { path: path.into(), errors: vec![error.into()] }
    }
}

/// An error body. Every one has a `message`, because clients print that when all else fails.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorBody {
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployments: Option<Vec<DeploymentRef>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Details {
    Text(String),
    Fields(Vec<FieldError>),
}

/// `{"id":"<uuid>"}`, in apps and in the body of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeploymentRef {
    pub id: String,
}

impl From<&DeploymentId> for DeploymentRef {
    fn from(id: &DeploymentId) -> Self {
        Self { id: id.0.clone() }
    }
}

impl ErrorBody {
    /// A message alone.
    pub fn message(message: impl Into<String>) -> Self {
        Self { message: message.into(), details: None, deployments: None }
    }

    /// Broken JSON (400); `details` is the parser's text.
    pub fn broken_json(parser_text: impl Into<String>) -> Self {
        let details = Some(Details::Text(parser_text.into()));
        Self { details, ..Self::message("Invalid JSON") }
    }

    /// JSON of a kind that nothing is defined by, or none at all (400).
    pub fn no_json(details: impl Into<String>) -> Self {
        let details = Some(Details::Text(details.into()));
        Self { details, ..Self::message("Please specify data in JSON format") }
    }

    /// Wrong types or schema limits (422).
    pub fn invalid_json(fields: Vec<FieldError>) -> Self {
        Self { details: Some(Details::Fields(fields)), ..Self::message("Invalid JSON") }
    }

    /// Rules of meaning (422).
    pub fn not_valid(fields: Vec<FieldError>) -> Self {
        Self { details: Some(Details::Fields(fields)), ..Self::message("Object is not valid") }
    }

    /// Rules of meaning (422), as core names them.
    pub fn violations(violations: &[Violation]) -> Self {
        Self::not_valid(fields(violations))
    }

    /// Running deployments hold an affected app (409).
    pub fn locked(ids: &[DeploymentId]) -> Self {
        let message = "App is locked by one or more deployments. Override with the option \
                       '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.";
        let deployments = Some(ids.iter().map(DeploymentRef::from).collect());
        Self { deployments, ..Self::message(message) }
    }

    /// No such app (404).
    pub fn app_unknown(id: &AppId) -> Self {
        Self::message(format!("App '{id}' does not exist"))
    }

    /// No such version of an app (404).
    pub fn version_unknown(id: &AppId, version: Time) -> Self {
        let version = crate::timestamp::format(version);
        Self::message(format!("App '{id}' does not exist in version {version}"))
    }

    /// No such task (404).
    pub fn task_unknown(id: &str) -> Self {
        Self::message(format!("Task '{id}' does not exist"))
    }

    /// No such deployment (404).
    pub fn deployment_unknown(id: &str) -> Self {
        Self::message(format!("DeploymentPlan {id} does not exist"))
    }

    /// Nothing queued for the app (404).
    pub fn not_queued(id: &AppId) -> Self {
        Self::message(format!("Application {id} not found in tasks queue."))
    }

    /// The id is taken (409).
    pub fn app_exists(id: &AppId) -> Self {
        Self::message(format!("An app with id [{id}] already exists."))
    }

    /// A bad timestamp (422).
    pub fn bad_timestamp(text: &str) -> Self {
        Self::message(format!(
            "Invalid timestamp provided '{text}'. Expecting ISO-8601 datetime string."
        ))
    }

    /// The JSON value to send.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }
}

/// Group violations by path, in order of first appearance, one entry per path.
pub fn fields(violations: &[Violation]) -> Vec<FieldError> {
    let mut out: Vec<FieldError> = Vec::new();
    for violation in violations {
        match out.iter_mut().find(|f| f.path == violation.path) {
            Some(field) => field.errors.push(violation.message.clone()),
            None => out.push(FieldError::new(&*violation.path, &*violation.message)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_marathons_shape() {
        let grouped = ErrorBody::violations(&[
            Violation::new("/a", "one"),
            Violation::new("/b", "two"),
            Violation::new("/a", "three"),
        ]);
        assert_eq!(
            serde_json::to_string(&grouped).unwrap(),
            r#"{"message":"Object is not valid","details":[{"path":"/a","errors":["one","three"]},{"path":"/b","errors":["two"]}]}"#
        );
        assert_eq!(
            serde_json::to_string(&ErrorBody::broken_json("EOF")).unwrap(),
            r#"{"message":"Invalid JSON","details":"EOF"}"#
        );
        let locked = ErrorBody::locked(&[DeploymentId::new("d")]);
        assert_eq!(
            serde_json::to_string(&locked).unwrap(),
            r#"{"message":"App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.","deployments":[{"id":"d"}]}"#
        );
        assert_eq!(
            ErrorBody::version_unknown(&AppId::new("/x"), Time(0)).message,
            "App '/x' does not exist in version 1970-01-01T00:00:00.000Z"
        );
    }
}
