//! Every way the API refuses a request, with the statuses and bodies that Marathon's clients read
//! (Marathon's contract, section 1.3), and how the rooms below map to them.
//!
//! The texts are Marathon's own, so they start upper-case where its do.

use super::relay::NOT_LEADER_HEADER;
use super::reply::{self, Reply};
use crate::administration::AdministrationError;
use crate::artifacts::ArtifactError;
use crate::propose::ProposeError;
use crate::streams::StreamError;
use crate::vault::VaultError;
use bramble_core::command::Rejection;
use bramble_core::model::{AppId, DeploymentId, GroupId, Time};
use bramble_protocol::native::Refusal;
use bramble_protocol::rest::error::{ErrorBody, FieldError};
use bramble_protocol::timestamp;
use http::{HeaderValue, StatusCode, header};
use std::net::IpAddr;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum ApiError {
    #[error("Invalid JSON")]
    BrokenJson { details: String },
    #[error("Please specify data in JSON format")]
    NoJson { details: String },
    #[error("the body must be multipart/form-data with a file in the field 'file': {0}")]
    Multipart(String),
    #[error("Invalid JSON")]
    WrongType { details: Vec<FieldError> },
    #[error("Object is not valid")]
    NotValid { details: Vec<FieldError> },
    /// A bad argument outside the body: timestamp, selector, a combination of query keys.
    #[error("{0}")]
    Argument(String),
    #[error("You cannot use scale and wipe at the same time.")]
    ScaleAndWipe,
    #[error(
        "Invalid task id '{0}'. [Expected the form of this cluster: <app>.instance-<uuid>._app.<n>]"
    )]
    TaskIdUnparsable(String),
    #[error("App '{0}' does not exist")]
    AppUnknown(AppId),
    #[error("App '{0}' does not exist in version {at}", at = timestamp::format(*.1))]
    VersionUnknown(AppId, Time),
    #[error("Pod '{0}' does not exist")]
    PodUnknown(AppId),
    #[error("Pod '{0}' does not exist in version {at}", at = timestamp::format(*.1))]
    PodVersionUnknown(AppId, Time),
    #[error("'{path}' does not match definition's id ('{own}')")]
    PodIdMismatch { path: AppId, own: AppId },
    #[error("Instance '{0}' does not exist")]
    InstanceUnknown(String),
    #[error("Group '{0}' does not exist")]
    GroupUnknown(String),
    #[error("Group '{0}' does not exist in version {at}", at = timestamp::format(*.1))]
    GroupVersionUnknown(GroupId, Time),
    #[error("Task '{0}' does not exist")]
    TaskUnknown(String),
    #[error("DeploymentPlan {0} does not exist")]
    DeploymentUnknown(DeploymentId),
    #[error("Application {0} not found in tasks queue.")]
    NotQueued(AppId),
    #[error("Agent '{0}' does not exist")]
    AgentUnknown(String),
    #[error("secret '{0}' does not exist")]
    SecretUnknown(String),
    #[error("there is no volume '{0}'")]
    VolumeUnknown(String),
    #[error("There is no leader")]
    NoLeader,
    /// To another node: nothing was done, ask whoever leads.
    #[error("this master is not the leader any more; send the request again")]
    NotLeader,
    #[error("{0}")]
    NoMaster(String),
    #[error(
        "the leader was lost while it worked on this; it may have been done: look before you \
         send it again"
    )]
    LeaderLost,
    #[error("Detected forwarding loop.")]
    ForwardingLoop,
    #[error("Plugin '{0}' does not exist")]
    PluginUnknown(String),
    #[error("this node keeps no artifacts; start bramble with --artifact-store")]
    NoArtifactStore,
    #[error("this node holds no join token")]
    NoToken,
    #[error("URI not found")]
    NoRoute,
    #[error("Method Not Allowed")]
    MethodNotAllowed,
    #[error("Not Acceptable")]
    NotAcceptable,
    #[error("Unsupported Media Type")]
    MediaType,
    #[error("the request body is over the limit of {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the value is over the limit of {limit} bytes; mount larger files as a volume")]
    SecretTooLarge { limit: usize },
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    #[error("the request body was cut off")]
    BodyCut,
    #[error("upgrade the connection to {0} to use this")]
    UpgradeNeeded(&'static str),
    #[error(
        "requests from {peer} are not allowed: use this node itself (its local socket or \
         127.0.0.1, for example through ssh), or start bramble with --open-api"
    )]
    AccessDenied { peer: IpAddr },
    #[error("this is answered on the node itself only: its local socket or 127.0.0.1")]
    NodeOnly,
    #[error("a page of {origin} may not change this cluster")]
    ForeignOrigin { origin: String },
    #[error(
        "requests for the host name {host} are not answered on 127.0.0.1: use localhost or the \
         local socket, or start bramble with --open-api"
    )]
    ForeignHost { host: String },
    #[error("too many requests at once; try again")]
    TooManyRequests,
    #[error("too many open log, exec and image streams; try again once one has ended")]
    TooManyStreams,
    #[error("{max} event streams are open already; try again once one has ended")]
    TooManyEventStreams { max: usize },
    /// Those that are away are most likely what somebody wants to be rid of.
    #[error("'{name}' could be any of: {}", marked(candidates, away))]
    Ambiguous { name: String, candidates: Vec<String>, away: Vec<String> },
    #[error("task {0} is not running")]
    NotRunning(String),
    #[error("no agent is connected")]
    NoAgent,
    #[error("the change was not committed in time; it may still be, look at /v2/deployments")]
    ProposeTimeout,
    #[error("agent did not answer in time")]
    AgentTimeout,
    #[error(transparent)]
    Administration(AdministrationError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(
        "a backup holds every key of the cluster, so it is answered on the local socket only: run \
        `bramble backup` as root on a master, without --url"
    )]
    SocketOnly,
    #[error("no backup could be made: {0}")]
    Backup(String),
    #[error(transparent)]
    Vault(VaultError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl ApiError {
    pub(crate) fn status(&self) -> StatusCode {
        use ApiError as E;
        match self {
            E::BrokenJson { .. }
            | E::NoJson { .. }
            | E::Multipart(_)
            | E::ScaleAndWipe
            | E::TaskIdUnparsable(_)
            | E::PodIdMismatch { .. }
            | E::BodyCut => StatusCode::BAD_REQUEST,
            E::WrongType { .. } | E::NotValid { .. } | E::Argument(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            E::AppUnknown(_)
            | E::VersionUnknown(..)
            | E::PodUnknown(_)
            | E::PodVersionUnknown(..)
            | E::InstanceUnknown(_)
            | E::GroupUnknown(_)
            | E::GroupVersionUnknown(..)
            | E::TaskUnknown(_)
            | E::DeploymentUnknown(_)
            | E::NotQueued(_)
            | E::AgentUnknown(_)
            | E::SecretUnknown(_)
            | E::VolumeUnknown(_)
            | E::NoLeader
            | E::NoToken
            | E::PluginUnknown(_)
            | E::NoArtifactStore
            | E::NoRoute => StatusCode::NOT_FOUND,
            E::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            E::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            E::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            E::BodyTooLarge { .. } | E::SecretTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            E::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            E::UpgradeNeeded(_) => StatusCode::UPGRADE_REQUIRED,
            E::AccessDenied { .. } => StatusCode::UNAUTHORIZED,
            E::NodeOnly | E::SocketOnly | E::ForeignOrigin { .. } | E::ForeignHost { .. } => {
                StatusCode::FORBIDDEN
            }
            E::Ambiguous { .. } | E::NotRunning(_) => StatusCode::CONFLICT,
            E::LeaderLost | E::ForwardingLoop => StatusCode::BAD_GATEWAY,
            E::NotLeader
            | E::NoMaster(_)
            | E::TooManyRequests
            | E::TooManyStreams
            | E::TooManyEventStreams { .. }
            | E::NoAgent
            | E::ProposeTimeout
            | E::AgentTimeout => StatusCode::SERVICE_UNAVAILABLE,
            E::Artifact(error) => artifact_status(error),
            E::Administration(error) => administration_status(error),
            E::Vault(_) | E::Backup(_) => StatusCode::INTERNAL_SERVER_ERROR,
            E::Propose(ProposeError::Rejected(rejection)) => rejection_status(rejection),
            E::Propose(ProposeError::NotLeader | ProposeError::Unavailable(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            E::Stream(StreamError::AgentAway(_) | StreamError::Failed(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            E::Stream(StreamError::NotFound(_)) => StatusCode::NOT_FOUND,
        }
    }

    /// What it tells its client.
    pub(crate) fn message(&self) -> String {
        match self {
            ApiError::Propose(ProposeError::Rejected(rejection)) => rejection_message(rejection),
            other => other.to_string(),
        }
    }

    /// The whole answer.
    pub(crate) fn reply(&self) -> Reply {
        let status = self.status();
        let mut answer = match self {
            ApiError::BrokenJson { details } => {
                reply::json(status, &ErrorBody::broken_json(details))
            }
            ApiError::NoJson { details } => reply::json(status, &ErrorBody::no_json(details)),
            ApiError::WrongType { details } => {
                reply::json(status, &ErrorBody::invalid_json(details.clone()))
            }
            ApiError::NotValid { details } => {
                reply::json(status, &ErrorBody::not_valid(details.clone()))
            }
            ApiError::Propose(ProposeError::Rejected(Rejection::Locked(ids))) => {
                reply::json(status, &ErrorBody::locked(ids))
            }
            ApiError::Propose(ProposeError::Rejected(Rejection::DependencyCycle)) => {
                let cyclic = FieldError::new("/", "Dependency graph has cyclic dependencies.");
                reply::json(status, &ErrorBody::not_valid(vec![cyclic]))
            }
            ApiError::Ambiguous { candidates, .. } => reply::json(
                status,
                &Refusal { message: self.message(), candidates: candidates.clone() },
            ),
            _ => reply::json(status, &ErrorBody::message(self.message())),
        };
        match self {
            ApiError::UpgradeNeeded(protocol) => {
                answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
            }
            ApiError::NotLeader => {
                let headers = answer.headers_mut();
                headers.insert(NOT_LEADER_HEADER, HeaderValue::from_static("true"));
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            ApiError::NoMaster(_)
            | ApiError::TooManyRequests
            | ApiError::TooManyStreams
            | ApiError::TooManyEventStreams { .. } => {
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        answer
    }
}

fn marked(candidates: &[String], away: &[String]) -> String {
    let mark = |id: &String| match away.contains(id) {
        true => format!("{id} (away)"),
        false => id.clone(),
    };
    candidates.iter().map(mark).collect::<Vec<_>>().join(", ")
}

fn artifact_status(error: &ArtifactError) -> StatusCode {
    match error {
        ArtifactError::Path(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ArtifactError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ArtifactError::Full => StatusCode::INSUFFICIENT_STORAGE,
        ArtifactError::Unknown(_) => StatusCode::NOT_FOUND,
        ArtifactError::Taken(_) => StatusCode::CONFLICT,
        ArtifactError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn administration_status(error: &AdministrationError) -> StatusCode {
    match error {
        AdministrationError::Unknown(_) => StatusCode::NOT_FOUND,
        AdministrationError::Refused(_) => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl From<AdministrationError> for ApiError {
    fn from(error: AdministrationError) -> Self {
        match error {
            AdministrationError::Propose(error) => ApiError::Propose(error),
            AdministrationError::Ambiguous { name, candidates } => {
                ApiError::Ambiguous { name, candidates, away: Vec::new() }
            }
            error => ApiError::Administration(error),
        }
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Propose(error) => ApiError::Propose(error),
            error => ApiError::Vault(error),
        }
    }
}

fn rejection_status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::AppUnknown(_)
        | Rejection::GroupUnknown(_)
        | Rejection::DeploymentUnknown(_)
        | Rejection::AgentUnknown(_)
        | Rejection::NodeUnknown(_)
        | Rejection::SecretUnknown(_) => StatusCode::NOT_FOUND,
        Rejection::DependencyCycle => StatusCode::UNPROCESSABLE_ENTITY,
        Rejection::DeploymentsFull { .. }
        | Rejection::CallbacksFull { .. }
        | Rejection::AgentSettingsFull { .. }
        | Rejection::SecretsFull { .. }
        | Rejection::SecretsTooLarge { .. } => StatusCode::FORBIDDEN,
        Rejection::ServicePortsExhausted { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        // The rest means: not in the present state of the cluster.
        _ => StatusCode::CONFLICT,
    }
}

fn rejection_message(rejection: &Rejection) -> String {
    match rejection {
        Rejection::AppExists(id) => format!("An app with id [{id}] already exists."),
        Rejection::PodExists(id) => format!("A pod with id [{id}] already exists."),
        Rejection::AppUnknown(id) => format!("App '{id}' does not exist"),
        Rejection::PathTaken(_, id) => format!("An app with the path {id} already exists."),
        Rejection::GroupUnknown(id) => format!("Group '{id}' does not exist"),
        Rejection::GroupExists(id) => {
            format!("Group {id} is already created. Use PUT to change this group.")
        }
        Rejection::DeploymentUnknown(id) => format!("DeploymentPlan {id} does not exist"),
        Rejection::DeploymentsFull { max } => {
            format!("Max number ({max}) of running deployments is achieved. Wait for one to end.")
        }
        Rejection::ServicePortsExhausted { begin, end } => {
            format!("All ports in the range [{begin}-{end}] are already in use")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn text(error: ApiError) -> (u16, String) {
        let reply = error.reply();
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn refusals_read_as_marathon_writes_them() {
        let app = || AppId::new("/x");
        let field = || vec![FieldError::new("/id", "e")];
        let rejected = |r| ApiError::Propose(ProposeError::Rejected(r));
        let rows: Vec<(ApiError, u16, &str)> = vec![
            (
                ApiError::BrokenJson { details: "EOF".into() },
                400,
                r#"{"message":"Invalid JSON","details":"EOF"}"#,
            ),
            (
                ApiError::WrongType { details: field() },
                422,
                r#"{"message":"Invalid JSON","details":[{"path":"/id","errors":["e"]}]}"#,
            ),
            (
                ApiError::NotValid { details: field() },
                422,
                r#"{"message":"Object is not valid","details":[{"path":"/id","errors":["e"]}]}"#,
            ),
            (ApiError::AppUnknown(app()), 404, r#"{"message":"App '/x' does not exist"}"#),
            (
                ApiError::VersionUnknown(app(), Time(0)),
                404,
                r#"{"message":"App '/x' does not exist in version 1970-01-01T00:00:00.000Z"}"#,
            ),
            (ApiError::NoRoute, 404, r#"{"message":"URI not found"}"#),
            (ApiError::MethodNotAllowed, 405, r#"{"message":"Method Not Allowed"}"#),
            (ApiError::NotAcceptable, 406, r#"{"message":"Not Acceptable"}"#),
            (
                rejected(Rejection::AppExists(app())),
                409,
                r#"{"message":"An app with id [/x] already exists."}"#,
            ),
            (
                rejected(Rejection::Locked(vec![DeploymentId::new("d1")])),
                409,
                r#"{"message":"App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.","deployments":[{"id":"d1"}]}"#,
            ),
            (
                rejected(Rejection::ServicePortsExhausted { begin: 1, end: 2 }),
                500,
                r#"{"message":"All ports in the range [1-2] are already in use"}"#,
            ),
            (
                ApiError::Propose(ProposeError::Unavailable("no space left on device".into())),
                503,
                r#"{"message":"the log did not take the command: no space left on device"}"#,
            ),
            (
                ApiError::Propose(ProposeError::NotLeader),
                503,
                r#"{"message":"this master is not the leader"}"#,
            ),
            (
                ApiError::Ambiguous {
                    name: "a".into(),
                    candidates: vec!["a1".into(), "a2".into()],
                    away: vec!["a2".into()],
                },
                409,
                r#"{"message":"'a' could be any of: a1, a2 (away)","candidates":["a1","a2"]}"#,
            ),
        ];
        for (error, status, body) in rows {
            assert_eq!(text(error).await, (status, body.to_string()));
        }
    }
}
