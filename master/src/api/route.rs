//! Paths: from the text of a request to what it names.
//!
//! App ids are greedy and may hold slashes, with or without a leading one, doubled or trailing
//! ones do not count, and a few suffixes (`tasks`, `versions`, `restart`) name something of the
//! app before them. axum's router cannot say "greedy, then a suffix", so paths are read here.

use bramble_core::model::{AppId, GroupId};
use http::Method;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Root,
    Page,
    Help,
    Config,
    Logging,
    Ping,
    Metrics,
    MetricsText,
    Apps,
    App(AppId),
    Restart(AppId),
    AppTasks(AppId),
    AppTask(AppId, String),
    Versions(AppId),
    Version(AppId, String),
    /// `{group}/*`: every app below; `""` is the root.
    Below(String),
    BelowTasks(String),
    Group(GroupId),
    GroupApps(GroupId),
    GroupVersions(GroupId),
    GroupVersion(GroupId, String),
    Pods,
    Pod(AppId),
    PodStatuses,
    PodStatus(AppId),
    PodVersions(AppId),
    PodVersion(AppId, String),
    PodInstances(AppId),
    PodInstance(AppId, String),
    Tasks,
    TasksDelete,
    Deployments,
    Deployment(String),
    Queue,
    QueueDelay(AppId),
    Events,
    EventSubscriptions,
    Info,
    Leader,
    Plugins,
    /// Something of a plugin, whose id this is.
    Plugin(String),
    /// A path below `/v2/artifacts`; `""` is the place itself.
    Artifact(String),
    Status,
    Agents,
    Agent(String),
    Drain(String),
    Os,
    AgentOs(String),
    OsTry(String),
    OsConfirm(String),
    Images,
    Token,
    RotateToken,
    Masters,
    Node(String),
    Backup,
    Logs(String),
    Exec(String),
    Why(AppId),
    Secrets,
    Secret(String),
    NativeDeployments,
    Promote(String),
    Withdraw(String),
    Volumes,
    Volume(String),
}

/// Read the path of a request; `None`: there is no such thing.
pub(crate) fn route(method: &Method, path: &str) -> Option<Route> {
    let path = decode(path);
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    match segments.as_slice() {
        [] => Some(Route::Root),
        ["ui"] => Some(Route::Page),
        ["help"] | ["api-console"] => Some(Route::Help),
        ["config"] => Some(Route::Config),
        ["logging"] => Some(Route::Logging),
        ["ping"] => Some(Route::Ping),
        ["metrics"] => Some(Route::Metrics),
        ["metrics", "prometheus"] => Some(Route::MetricsText),
        ["v2", "apps", rest @ ..] => Some(apps(method, rest)),
        ["v2", "groups", rest @ ..] => Some(groups(method, rest)),
        ["v2", "pods", rest @ ..] => pods(&rest.join("/")),
        ["v2", "tasks"] => Some(Route::Tasks),
        ["v2", "tasks", "delete"] => Some(Route::TasksDelete),
        ["v2", "deployments"] => Some(Route::Deployments),
        ["v2", "deployments", id] => Some(Route::Deployment((*id).to_string())),
        ["v2", "queue"] => Some(Route::Queue),
        ["v2", "queue", id @ .., "delay"] if !id.is_empty() => Some(Route::QueueDelay(app(id))),
        ["v2", "events"] => Some(Route::Events),
        ["v2", "eventSubscriptions"] => Some(Route::EventSubscriptions),
        ["v2", "info"] => Some(Route::Info),
        ["v2", "leader"] => Some(Route::Leader),
        ["v2", "plugins"] => Some(Route::Plugins),
        ["v2", "plugins", id, ..] => Some(Route::Plugin((*id).to_string())),
        ["v2", "artifacts", path @ ..] => Some(Route::Artifact(path.join("/"))),
        ["v1", "bramble", rest @ ..] => native(rest),
        _ => None,
    }
}

fn apps(method: &Method, rest: &[&str]) -> Route {
    match rest {
        [] => Route::Apps,
        [group @ .., "*"] => Route::Below(below(group)),
        [group @ .., "*", "tasks"] => Route::BelowTasks(below(group)),
        [id @ .., "tasks"] if !id.is_empty() => Route::AppTasks(app(id)),
        [id @ .., "tasks", task] if !id.is_empty() => Route::AppTask(app(id), (*task).to_string()),
        [id @ .., "versions"] if !id.is_empty() => Route::Versions(app(id)),
        [id @ .., "versions", version] if !id.is_empty() => {
            Route::Version(app(id), (*version).to_string())
        }
        // Marathon has no other method there: the path is then an app's own id.
        [id @ .., "restart"] if !id.is_empty() && *method == Method::POST => {
            Route::Restart(app(id))
        }
        id => Route::App(app(id)),
    }
}

/// Suffixes are for reading only: to every other method the whole path is a group's id.
fn groups(method: &Method, rest: &[&str]) -> Route {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match rest {
        [id @ .., "apps"] if reads => Route::GroupApps(group(id)),
        [id @ .., "versions"] if reads => Route::GroupVersions(group(id)),
        [id @ .., "versions", version] if reads => {
            Route::GroupVersion(group(id), (*version).to_string())
        }
        id => Route::Group(group(id)),
    }
}

/// Ids of pods are greedy too; what is asked of one stands behind two colons.
fn pods(rest: &str) -> Option<Route> {
    let Some((id, asked)) = rest.split_once("::") else {
        return Some(if rest.is_empty() { Route::Pods } else { Route::Pod(app(&[rest])) });
    };
    if id.is_empty() {
        return (asked == "status").then_some(Route::PodStatuses);
    }
    let id = app(&[id.trim_end_matches('/')]);
    match asked.split_once('/') {
        None if asked == "status" => Some(Route::PodStatus(id)),
        None if asked == "versions" => Some(Route::PodVersions(id)),
        None if asked == "instances" => Some(Route::PodInstances(id)),
        Some(("versions", version)) => Some(Route::PodVersion(id, version.to_string())),
        Some(("instances", instance)) => Some(Route::PodInstance(id, instance.to_string())),
        _ => None,
    }
}

fn native(rest: &[&str]) -> Option<Route> {
    match rest {
        ["status"] => Some(Route::Status),
        ["agents"] => Some(Route::Agents),
        ["agents", name @ .., "drain"] if !name.is_empty() => Some(Route::Drain(name.join("/"))),
        ["agents", name @ .., "os"] if !name.is_empty() => Some(Route::AgentOs(name.join("/"))),
        ["agents", name @ .., "os", "try"] if !name.is_empty() => {
            Some(Route::OsTry(name.join("/")))
        }
        ["agents", name @ .., "os", "confirm"] if !name.is_empty() => {
            Some(Route::OsConfirm(name.join("/")))
        }
        ["agents", name @ ..] => Some(Route::Agent(name.join("/"))),
        ["os"] => Some(Route::Os),
        ["images"] => Some(Route::Images),
        ["token"] => Some(Route::Token),
        ["token", "rotate"] => Some(Route::RotateToken),
        ["masters"] => Some(Route::Masters),
        ["nodes", name @ ..] if !name.is_empty() => Some(Route::Node(name.join("/"))),
        ["backup"] => Some(Route::Backup),
        ["volumes"] => Some(Route::Volumes),
        ["volumes", id] => Some(Route::Volume((*id).to_string())),
        ["secrets"] => Some(Route::Secrets),
        ["secrets", name @ ..] => Some(Route::Secret(name.join("/"))),
        ["deployments"] => Some(Route::NativeDeployments),
        ["deployments", id, "promote"] => Some(Route::Promote((*id).to_string())),
        ["deployments", id, "withdraw"] => Some(Route::Withdraw((*id).to_string())),
        ["why", id @ ..] if !id.is_empty() => Some(Route::Why(app(id))),
        ["tasks", name @ .., "logs"] if !name.is_empty() => Some(Route::Logs(name.join("/"))),
        ["tasks", name @ .., "exec"] if !name.is_empty() => Some(Route::Exec(name.join("/"))),
        _ => None,
    }
}

fn app(segments: &[&str]) -> AppId {
    AppId::new(format!("/{}", segments.join("/")))
}

fn group(segments: &[&str]) -> GroupId {
    GroupId::new(format!("/{}", segments.join("/")))
}

/// The group's path with a trailing slash, as a prefix of its members' ids.
fn below(segments: &[&str]) -> String {
    if segments.is_empty() { "/".into() } else { format!("/{}/", segments.join("/")) }
}

/// Undo percent encoding; what is malformed stays as it is. Some clients encode the slashes of
/// an app id, so this happens before the path is cut.
fn decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AppId {
        AppId::new(text)
    }

    #[test]
    fn greedy_paths() {
        let rows: Vec<(&str, Option<Route>)> = vec![
            ("/ping", Some(Route::Ping)),
            ("/v2/apps", Some(Route::Apps)),
            ("/v2/apps/", Some(Route::Apps)),
            ("/v2/apps//", Some(Route::Apps)),
            ("/v2/apps/a", Some(Route::App(id("/a")))),
            ("/v2/apps//a/b", Some(Route::App(id("/a/b")))),
            ("/v2/apps/a/b/", Some(Route::App(id("/a/b")))),
            ("/v2/apps/%2Fa%2fb", Some(Route::App(id("/a/b")))),
            ("/v2/apps/a%zz", Some(Route::App(id("/a%zz")))),
            ("/v2/apps/a/b/tasks", Some(Route::AppTasks(id("/a/b")))),
            ("/v2/apps//a/b/tasks/t.1", Some(Route::AppTask(id("/a/b"), "t.1".into()))),
            ("/v2/apps/tasks", Some(Route::App(id("/tasks")))),
            ("/v2/apps/tasks/tasks", Some(Route::AppTasks(id("/tasks")))),
            ("/v2/apps/a/versions", Some(Route::Versions(id("/a")))),
            (
                "/v2/apps/a/b/versions/2015-02-05T11:45:31.026Z",
                Some(Route::Version(id("/a/b"), "2015-02-05T11:45:31.026Z".into())),
            ),
            ("/v2/apps/a/restart", Some(Route::App(id("/a/restart")))),
            ("/v2/apps/*", Some(Route::Below("/".into()))),
            ("/v2/apps/g/h/*", Some(Route::Below("/g/h/".into()))),
            ("/v2/apps/g/*/tasks", Some(Route::BelowTasks("/g/".into()))),
            ("/v2/groups", Some(Route::Group(GroupId::root()))),
            ("/v2/groups//", Some(Route::Group(GroupId::root()))),
            ("/v2/groups//a/b/", Some(Route::Group(GroupId::new("/a/b")))),
            ("/v2/groups/apps", Some(Route::GroupApps(GroupId::root()))),
            ("/v2/groups/a/apps/", Some(Route::GroupApps(GroupId::new("/a")))),
            ("/v2/groups/versions", Some(Route::GroupVersions(GroupId::root()))),
            ("/v2/groups/a/b/versions", Some(Route::GroupVersions(GroupId::new("/a/b")))),
            ("/v2/groups/versions/t", Some(Route::GroupVersion(GroupId::root(), "t".into()))),
            ("/v2/groups/a/versions/t", Some(Route::GroupVersion(GroupId::new("/a"), "t".into()))),
            ("/v2/pods/", Some(Route::Pods)),
            ("/v2/pods//a/b/", Some(Route::Pod(id("/a/b")))),
            ("/v2/pods/::status", Some(Route::PodStatuses)),
            ("/v2/pods//a/b::status", Some(Route::PodStatus(id("/a/b")))),
            ("/v2/pods/a%3A%3Aversions", Some(Route::PodVersions(id("/a")))),
            ("/v2/pods/a::versions/t", Some(Route::PodVersion(id("/a"), "t".into()))),
            ("/v2/pods/a/b::instances", Some(Route::PodInstances(id("/a/b")))),
            (
                "/v2/pods/a/b::instances/a_b.instance-1",
                Some(Route::PodInstance(id("/a/b"), "a_b.instance-1".into())),
            ),
            ("/v2/pods/a::other", None),
            ("/v2/pods/::versions", None),
            ("/v2/tasks/", Some(Route::Tasks)),
            ("/v2/tasks/delete", Some(Route::TasksDelete)),
            ("/v2/deployments/d-1", Some(Route::Deployment("d-1".into()))),
            ("/v2/queue//a/b/delay", Some(Route::QueueDelay(id("/a/b")))),
            ("/v2/queue/a", None),
            ("/v2/events/", Some(Route::Events)),
            ("/v2/eventSubscriptions", Some(Route::EventSubscriptions)),
            ("/v2/info", Some(Route::Info)),
            ("/v1/bramble/status", Some(Route::Status)),
            ("/v1/bramble/why/a/b", Some(Route::Why(id("/a/b")))),
            ("/v1/bramble/why", None),
            ("/v1/bramble/agents/", Some(Route::Agents)),
            ("/v1/bramble/agents/pi-1", Some(Route::Agent("pi-1".into()))),
            ("/v1/bramble/token/rotate", Some(Route::RotateToken)),
            ("/v1/bramble/masters/", Some(Route::Masters)),
            ("/v1/bramble/nodes/pi-1", Some(Route::Node("pi-1".into()))),
            ("/v1/bramble/nodes", None),
            ("/v1/bramble/agents/pi-1/drain", Some(Route::Drain("pi-1".into()))),
            ("/v1/bramble/agents/pi-1/os", Some(Route::AgentOs("pi-1".into()))),
            ("/v1/bramble/agents/pi-1/os/try", Some(Route::OsTry("pi-1".into()))),
            ("/v1/bramble/agents/pi-1/os/confirm", Some(Route::OsConfirm("pi-1".into()))),
            ("/v1/bramble/agents/os", Some(Route::Agent("os".into()))),
            ("/v1/bramble/os", Some(Route::Os)),
            ("/v1/bramble/agents/drain", Some(Route::Agent("drain".into()))),
            ("/v1/bramble/deployments/", Some(Route::NativeDeployments)),
            ("/v1/bramble/deployments/d/promote", Some(Route::Promote("d".into()))),
            ("/v1/bramble/deployments/d/withdraw", Some(Route::Withdraw("d".into()))),
            ("/v1/bramble/deployments/d", None),
            ("/v1/bramble/tasks/a/b/logs", Some(Route::Logs("a/b".into()))),
            ("/v1/bramble/tasks/t/exec", Some(Route::Exec("t".into()))),
            ("/v1/bramble/tasks/logs", None),
            ("/", Some(Route::Root)),
            ("/ui/", Some(Route::Page)),
            ("/ui/x", None),
            ("/help", Some(Route::Help)),
            ("/config/", Some(Route::Config)),
            ("/logging", Some(Route::Logging)),
            ("/v2/plugins", Some(Route::Plugins)),
            ("/v2/plugins/p/x/y", Some(Route::Plugin("p".into()))),
            ("/v2/artifacts/", Some(Route::Artifact("".into()))),
            ("/v2/artifacts//a/%2e%2e/b", Some(Route::Artifact("a/../b".into()))),
            ("/v1/bramble/volumes/a%23b%231", Some(Route::Volume("a#b#1".into()))),
            ("/v1/bramble/secrets/", Some(Route::Secrets)),
            ("/v1/bramble/backup", Some(Route::Backup)),
            ("/v1/bramble/secrets/prod/db", Some(Route::Secret("prod/db".into()))),
            ("/v2", None),
            ("/v3/apps", None),
        ];
        for (path, want) in rows {
            assert_eq!(route(&Method::GET, path), want, "{path}");
        }
        let restart = route(&Method::POST, "/v2/apps/a/b/restart");
        assert_eq!(restart, Some(Route::Restart(id("/a/b"))));
        let versions = route(&Method::PUT, "/v2/groups/a/versions/t");
        assert_eq!(versions, Some(Route::Group(GroupId::new("/a/versions/t"))));
        let delete = route(&Method::DELETE, "/v2/apps/a/b/restart");
        assert_eq!(delete, Some(Route::App(id("/a/b/restart"))));
    }
}
