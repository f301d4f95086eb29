//! The one door of every request: access, limits, route, handler, common headers.
//!
//! Knows which method of which route goes where, and nothing of what the handlers do.

use super::access::{self, Peer};
use super::editing::Editing;
use super::error::ApiError;
use super::limits::{REQUESTS_MAX, STREAMS_MAX};
use super::query::Query;
use super::relay::{self, Aim, Origin, Passed, Quiet};
use super::reply::{self, Reply};
use super::route::{Route, route};
use super::{
    Api, ApiConfig, accept, apps, artifacts, compress, cors, deployments, events, groups, logging,
    native, pages, pods, queue, system, tasks,
};
use crate::artifacts::Artifacts;
use crate::masters::Lead;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) api: Api,
    pub(crate) open_api: bool,
    /// Pages that may read answers.
    pub(crate) allow_origins: Vec<String>,
    pub(crate) artifacts: Option<Arc<Artifacts>>,
    /// Every setting of the node, for `/config`.
    pub(crate) settings: serde_json::Value,
    /// The node's name.
    pub(crate) hostname: String,
    /// Bound HTTP port.
    pub(crate) port: u16,
    pub(crate) started: Instant,
    pub(crate) shutdown: CancellationToken,
    /// Bounds streams that outlive their handler.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) editing: Editing,
    pub(crate) quiet: Quiet,
    requests: Semaphore,
    pub(crate) counts: Counts,
}

/// Requests since start, for `/metrics`.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Shared {
    /// `host:port` of this node's API, as the leader's address.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.hostname, self.port)
    }

    /// Whether this master leads now.
    pub(crate) fn leads(&self) -> bool {
        matches!(*self.api.masters.lead().borrow(), Lead::Here { .. })
    }

    /// Requests being handled now.
    pub(crate) fn active(&self) -> usize {
        REQUESTS_MAX.saturating_sub(self.requests.available_permits())
    }
}

/// What a client sends besides the head of its request.
pub(crate) struct Content {
    pub(crate) body: Body,
    /// Present when the client asked to switch protocols.
    pub(crate) upgrade: Option<hyper::upgrade::OnUpgrade>,
}

/// Ends the connection that a request came on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hangup(pub(crate) CancellationToken);

/// The head of one request.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    /// Who asked the node that the request came to first.
    pub(crate) peer: Peer,
    /// Who shall answer, where another node passed the request on.
    pub(crate) aim: Option<Aim>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// Path and query, as the client wrote them.
    pub(crate) uri: Uri,
    /// Path of the request, as the client wrote it.
    pub(crate) path: String,
    pub(crate) query: Query,
    /// Cancelled, it ends the client's connection at once.
    pub(crate) hangup: CancellationToken,
}

impl Call {
    pub(crate) fn api(&self) -> &Api {
        &self.shared.api
    }

    /// `host:port` under which the client knows this node.
    pub(crate) fn host(&self) -> String {
        let host = self.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        host.map_or_else(|| self.shared.address(), str::to_string)
    }

    /// Where the client is, as events name it.
    pub(crate) fn client_ip(&self) -> String {
        match self.peer {
            Peer::Tcp(address) => address.ip().to_canonical().to_string(),
            Peer::Unix => Ipv4Addr::LOCALHOST.to_string(),
        }
    }
}

/// Build the router of the whole API.
pub(crate) fn router(
    api: Api,
    config: &ApiConfig,
    http: SocketAddr,
    shutdown: CancellationToken,
) -> Router {
    let shared = Shared {
        api,
        open_api: config.open_api,
        allow_origins: config.allow_origins.clone(),
        artifacts: config.artifacts.clone(),
        settings: config.settings.clone(),
        hostname: config.hostname.clone(),
        port: http.port(),
        started: Instant::now(),
        shutdown,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        editing: Editing::default(),
        quiet: Quiet::default(),
        requests: Semaphore::new(REQUESTS_MAX),
        counts: Counts::default(),
    };
    Router::new().fallback(answer).with_state(Arc::new(shared))
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Reply {
    shared.counts.requests.fetch_add(1, Ordering::Relaxed);
    let method = request.method().clone();
    let path = request.uri().path().to_string();
    let headers = request.headers().clone();
    let passed_on = request.extensions().get::<Origin>().is_some_and(|o| o.aim.is_some());
    let outcome = admit(shared.clone(), request).await;
    let mut answer = outcome.unwrap_or_else(|error| error.reply());
    let status = answer.status();
    if status.is_client_error() {
        shared.counts.refused.fetch_add(1, Ordering::Relaxed);
    } else if status.is_server_error() {
        shared.counts.failed.fetch_add(1, Ordering::Relaxed);
    }
    tracing::debug!(%method, path, status = status.as_u16(), "answered");
    let leader = shared.leads().then(|| format!("http://{}", shared.address()));
    reply::decorate(answer.headers_mut(), leader.as_deref());
    // The node that the page talks to says which pages may.
    if !passed_on {
        cors::allow(&shared.allow_origins, &headers, answer.headers_mut());
    }
    // Nobody reads the body of a HEAD: its length is told, and that is the plain one's.
    let finished = method == Method::HEAD || answer.extensions().get::<Passed>().is_some();
    if finished { answer } else { compress::gzip(&headers, answer).await }
}

async fn admit(shared: Arc<Shared>, mut request: Request<Body>) -> Result<Reply, ApiError> {
    // A request without an origin did not come through `listen`: trust it with nothing.
    let origin = request.extensions().get::<Origin>().copied().ok_or(ApiError::NoRoute)?;
    let Origin { peer, aim } = origin;
    // The node it came to first has checked what was passed on.
    if aim.is_none() {
        access::check(peer, request.method(), request.headers(), shared.open_api)?;
    }
    let target = route(request.method(), request.uri().path()).ok_or(ApiError::NoRoute)?;
    let _permit = shared.requests.try_acquire().map_err(|_| ApiError::TooManyRequests)?;
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    let hangup = request.extensions_mut().remove::<Hangup>().unwrap_or_default();
    let (parts, body) = request.into_parts();
    let call = Call {
        shared: shared.clone(),
        peer,
        aim,
        query: Query::of(&parts.uri),
        path: parts.uri.path().to_string(),
        uri: origin_form(parts.uri),
        hangup: hangup.0,
        method: parts.method,
        headers: parts.headers,
    };
    relay::settle(target, &call, Content { body, upgrade }).await
}

/// A URI without scheme and host: those of a proxy request name the node that was asked.
fn origin_form(uri: Uri) -> Uri {
    uri.path_and_query().cloned().map_or(Uri::from_static("/"), Uri::from)
}

/// Have this node's own handlers answer.
pub(crate) async fn perform(
    target: Route,
    call: &Call,
    content: Content,
) -> Result<Reply, ApiError> {
    let allow = methods(&target);
    match handle(target, call, content).await {
        Err(ApiError::MethodNotAllowed) => {
            let mut answer = match call.method {
                Method::OPTIONS => reply::empty(StatusCode::OK),
                _ => ApiError::MethodNotAllowed.reply(),
            };
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
            Ok(answer)
        }
        other => other,
    }
}

/// What can be done with a route, for `Allow`; whoever asks for something else is told.
fn methods(target: &Route) -> &'static str {
    match target {
        Route::Apps => "GET, HEAD, OPTIONS, PATCH, POST, PUT",
        Route::App(_) => "DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
        Route::AppTasks(_) => "DELETE, GET, HEAD, OPTIONS",
        Route::Pods => "GET, HEAD, OPTIONS, POST",
        Route::Pod(_) => "DELETE, GET, HEAD, OPTIONS, PUT",
        Route::PodInstances(_) | Route::PodInstance(..) => "DELETE, OPTIONS",
        Route::Group(_) => "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        Route::EventSubscriptions => "DELETE, GET, HEAD, OPTIONS, POST",
        Route::Leader => "DELETE, GET, HEAD, OPTIONS",
        Route::Logging => "GET, HEAD, OPTIONS, POST",
        Route::Artifact(path) if path.is_empty() => "OPTIONS, POST",
        Route::Artifact(_) => "DELETE, GET, HEAD, OPTIONS, POST, PUT",
        Route::Plugin(_) => "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        Route::Images => "GET, OPTIONS, POST",
        Route::AgentOs(_) => "GET, OPTIONS, POST",
        Route::Logs(_) | Route::Events => "GET, OPTIONS",
        Route::Secret(_) => "DELETE, OPTIONS, PUT",
        Route::Volume(_) => "DELETE, OPTIONS",
        Route::Volumes | Route::Os => "GET, OPTIONS",
        Route::Agent(_) => "GET, HEAD, OPTIONS, PATCH",
        Route::Drain(_) => "DELETE, GET, HEAD, OPTIONS, POST",
        Route::AppTask(..) | Route::Deployment(_) | Route::QueueDelay(_) | Route::Node(_) => {
            "DELETE, OPTIONS"
        }
        Route::Restart(_)
        | Route::TasksDelete
        | Route::Exec(_)
        | Route::OsTry(_)
        | Route::OsConfirm(_)
        | Route::Promote(_)
        | Route::RotateToken
        | Route::Withdraw(_) => "OPTIONS, POST",
        Route::Root
        | Route::Page
        | Route::Help
        | Route::Config
        | Route::Plugins
        | Route::Ping
        | Route::Metrics
        | Route::MetricsText
        | Route::Versions(_)
        | Route::Version(..)
        | Route::Below(_)
        | Route::BelowTasks(_)
        | Route::GroupApps(_)
        | Route::GroupVersions(_)
        | Route::GroupVersion(..)
        | Route::PodStatuses
        | Route::PodStatus(_)
        | Route::PodVersions(_)
        | Route::PodVersion(..)
        | Route::Why(_)
        | Route::Tasks
        | Route::Deployments
        | Route::Queue
        | Route::Info
        | Route::Status
        | Route::NativeDeployments
        | Route::Agents
        | Route::Masters
        | Route::Secrets
        | Route::Backup
        | Route::Token => "GET, HEAD, OPTIONS",
    }
}

async fn handle(target: Route, call: &Call, content: Content) -> Result<Reply, ApiError> {
    match target {
        Route::Root if reads(&call.method) => Ok(pages::root()),
        Route::Page if reads(&call.method) => Ok(pages::page()),
        Route::Help if reads(&call.method) => Ok(pages::help()),
        Route::Artifact(path) => artifact(path, call, content.body).await,
        Route::Ping if reads(&call.method) => Ok(system::ping(call)),
        Route::Metrics if reads(&call.method) => Ok(system::metrics(call, false)),
        Route::MetricsText if reads(&call.method) => Ok(system::metrics(call, true)),
        Route::Logs(_)
        | Route::Exec(_)
        | Route::Images
        | Route::Volumes
        | Route::Os
        | Route::AgentOs(_)
        | Route::OsTry(_)
        | Route::OsConfirm(_) => native::streams(target, call, content).await,
        Route::Events => events::stream(call),
        Route::Tasks | Route::AppTasks(_) | Route::BelowTasks(_) if reads(&call.method) => {
            tasks::list(target, call)
        }
        target => {
            accept::need_json(&call.headers)?;
            json(target, call, content.body).await
        }
    }
}

async fn artifact(path: String, call: &Call, body: Body) -> Result<Reply, ApiError> {
    match &call.method {
        &Method::POST => artifacts::put(call, path, body).await,
        _ if path.is_empty() => Err(ApiError::MethodNotAllowed),
        &Method::PUT => artifacts::put(call, path, body).await,
        &Method::DELETE => artifacts::delete(call, &path).await,
        method if reads(method) => artifacts::get(call, &path).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

/// Whether the method only reads; HEAD is GET whose body hyper leaves out.
pub(crate) fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

async fn json(target: Route, call: &Call, body: Body) -> Result<Reply, ApiError> {
    let method = if reads(&call.method) { Method::GET } else { call.method.clone() };
    match (target, method) {
        (Route::Apps, Method::GET) => apps::list(call),
        (Route::Apps, Method::POST) => apps::create(call, body).await,
        (Route::Apps, Method::PUT) => apps::put_many(call, body).await,
        (Route::Apps, Method::PATCH) => apps::patch_many(call, body).await,
        (Route::Below(prefix), Method::GET) => apps::below(call, &prefix),
        (Route::App(id), Method::GET) => apps::get(call, &id),
        (Route::App(id), Method::PUT) => apps::put(call, id, body).await,
        (Route::App(id), Method::PATCH) => apps::patch(call, id, body).await,
        (Route::App(id), Method::DELETE) => apps::delete(call, id).await,
        (Route::Restart(id), Method::POST) => apps::restart(call, id).await,
        (Route::Versions(id), Method::GET) => apps::versions(call, &id),
        (Route::Version(id, at), Method::GET) => apps::version(call, &id, &at),
        (Route::Group(id), Method::GET) => groups::get(call, &id),
        (Route::Group(id), Method::POST) => groups::create(call, id, body).await,
        (Route::Group(id), Method::PUT) => groups::put(call, id, body).await,
        (Route::Group(id), Method::PATCH) => groups::enforce_role(call, id, body).await,
        (Route::Group(id), Method::DELETE) => groups::delete(call, id).await,
        (Route::GroupApps(id), Method::GET) => groups::apps(call, &id),
        (Route::GroupVersions(id), Method::GET) => groups::versions(call, &id),
        (Route::GroupVersion(id, at), Method::GET) => groups::version(call, &id, &at),
        (Route::Pods, Method::GET) => pods::list(call),
        (Route::Pods, Method::POST) => pods::create(call, body).await,
        (Route::Pod(id), Method::GET) => pods::get(call, &id),
        (Route::Pod(id), Method::PUT) => pods::put(call, id, body).await,
        (Route::Pod(id), Method::DELETE) => pods::delete(call, id).await,
        (Route::PodStatuses, Method::GET) => pods::statuses(call),
        (Route::PodStatus(id), Method::GET) => pods::status(call, &id),
        (Route::PodVersions(id), Method::GET) => pods::versions(call, &id),
        (Route::PodVersion(id, at), Method::GET) => pods::version(call, &id, &at),
        (Route::PodInstances(id), Method::DELETE) => pods::kill_many(call, &id, body).await,
        (Route::PodInstance(id, name), Method::DELETE) => pods::kill_one(call, &id, &name).await,
        (Route::AppTasks(id), Method::DELETE) => tasks::kill_of_app(call, &id).await,
        (Route::AppTask(id, task), Method::DELETE) => tasks::kill_one(call, &id, &task).await,
        (Route::TasksDelete, Method::POST) => tasks::delete(call, body).await,
        (Route::Deployments, Method::GET) => deployments::list(call),
        (Route::Deployment(id), Method::DELETE) => deployments::delete(call, id).await,
        (Route::Queue, Method::GET) => queue::list(call),
        (Route::QueueDelay(id), Method::DELETE) => queue::reset_delay(call, id).await,
        (Route::EventSubscriptions, Method::GET) => events::subscriptions(call),
        (Route::EventSubscriptions, Method::POST) => events::subscribe(call).await,
        (Route::EventSubscriptions, Method::DELETE) => events::unsubscribe(call).await,
        (Route::Info, Method::GET) => system::info(call),
        (Route::Leader, Method::GET) => system::leader(call),
        (Route::Leader, Method::DELETE) => system::abdicate(call),
        (Route::Config, Method::GET) => Ok(system::config(call)),
        (Route::Logging, Method::GET) => Ok(logging::list(call)),
        (Route::Logging, Method::POST) => logging::set(call, body).await,
        (Route::Plugins, Method::GET) => Ok(system::plugins()),
        (Route::Plugin(id), method) if method != Method::OPTIONS => {
            Err(ApiError::PluginUnknown(id))
        }
        (Route::Status, Method::GET) => native::status(call),
        (Route::NativeDeployments, Method::GET) => native::deployments(call),
        (Route::Promote(id), Method::POST) => native::promote(call, id).await,
        (Route::Withdraw(id), Method::POST) => native::withdraw(call, id).await,
        (Route::Why(id), Method::GET) => native::why(call, &id),
        (Route::Agents, Method::GET) => native::agents(call),
        (Route::Agent(name), Method::GET) => native::agent(call, &name),
        (Route::Agent(name), Method::PATCH) => native::change_agent(call, &name, body).await,
        (Route::Drain(name), Method::GET) => native::drain(call, &name),
        (Route::Drain(name), Method::POST) => native::set_drain(call, &name, true).await,
        (Route::Drain(name), Method::DELETE) => native::set_drain(call, &name, false).await,
        (Route::Token, Method::GET) => native::token(call),
        (Route::RotateToken, Method::POST) => native::rotate_token(call).await,
        (Route::Masters, Method::GET) => native::masters(call),
        (Route::Node(name), Method::DELETE) => native::remove_node(call, &name).await,
        (Route::Backup, Method::GET) => native::backup(call).await,
        (Route::Secrets, Method::GET) => native::secrets(call),
        (Route::Secret(name), Method::PUT) => native::put_secret(call, &name, body).await,
        (Route::Secret(name), Method::DELETE) => native::remove_secret(call, &name).await,
        (Route::Volume(id), Method::DELETE) => native::remove_volume(call, &id).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}
