//! What runs, as whom, with which environment, files and amounts.

use super::Violations;
use crate::model::{App, EnvValue, Fetch, Limit, secret_name};
use std::collections::BTreeMap;

/// Characters of a URI (Marathon).
const URI_CHARS_MAX: usize = 1024;

/// The shortest command Marathon takes.
const CMD_CHARS_MIN: usize = 2;

pub(super) fn check(app: &App, found: &mut Violations) {
    what_runs(app, found);
    no_nul(app, found);
    environment(&app.env, &app.secrets, "/env", found);
    secrets(app, found);
    fetch(&app.fetch, "/fetch", found);
    amounts(app, found);
    found.require(
        is_executor(&app.executor),
        "/executor",
        "must fully match regular expression '^(//cmd)|(/?[^/]+(/[^/]+)*)|$'",
    );
    user(app.user.as_ref(), "/user", found);
    roles(app, found);
}

pub(super) fn roles(app: &App, found: &mut Violations) {
    found.require(
        app.accepted_resource_roles.as_ref().is_none_or(|r| !r.is_empty()),
        "/acceptedResourceRoles",
        "must not be empty",
    );
}

pub(super) fn user(user: Option<&String>, path: &str, found: &mut Violations) {
    let Some(user) = user else { return };
    found.require(!user.is_empty(), path, "must not be an empty string");
    clean(user, path, found);
}

fn what_runs(app: &App, found: &mut Violations) {
    let has_cmd = app.cmd.is_some();
    let has_args = app.args.as_ref().is_some_and(|a| !a.is_empty());
    let has_image = app.container.as_ref().is_some_and(|c| c.docker.is_some());
    found.require(
        !(has_cmd && has_args) && (has_cmd || has_args || has_image),
        "/",
        "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.",
    );
    let is_long_enough = |cmd: &String| cmd.chars().nth(CMD_CHARS_MIN - 1).is_some();
    found.require(
        app.cmd.as_ref().is_none_or(is_long_enough),
        "/cmd",
        "must not be an empty string",
    );
}

/// The kernel takes NUL-ended strings: what holds one could never start.
pub(super) fn clean(text: &str, path: impl Into<String>, found: &mut Violations) {
    found.require(!text.contains('\0'), path, "must not contain a NUL character");
}

fn no_nul(app: &App, found: &mut Violations) {
    clean(app.cmd.as_deref().unwrap_or_default(), "/cmd", found);
    for (i, arg) in app.args.iter().flatten().enumerate() {
        clean(arg, format!("/args({i})"), found);
    }
}

/// The variables of an app, a pod or a container, which stand at `path`.
pub(super) fn environment(
    env: &BTreeMap<String, EnvValue>,
    secrets: &BTreeMap<String, String>,
    path: &str,
    found: &mut Violations,
) {
    for (name, value) in env {
        found.require(!name.is_empty(), path, "must not contain an empty name");
        let (EnvValue::Plain(text) | EnvValue::Secret(text)) = value;
        let nul = name.contains('\0') || text.contains('\0');
        let path = format!("{path}/{name}");
        found.require(!nul, &path, "must not contain a NUL character");
        found.require(!name.contains('='), &path, "must not contain '=' in its name");
        if let EnvValue::Secret(secret) = value {
            found.require(
                secrets.contains_key(secret),
                format!("{path}/secret"),
                format!("references an undefined secret '{secret}'"),
            );
        }
    }
}

pub(super) fn secrets(app: &App, found: &mut Violations) {
    for (name, source) in &app.secrets {
        let at = format!("/secrets/{name}/source");
        if source.is_empty() {
            found.add(at, "must not be empty");
        } else {
            let message = "must name a secret: letters, digits and '._-', in parts between '/'";
            found.require(secret_name(source).is_some(), at, message);
        }
    }
}

pub(super) fn fetch(files: &[Fetch], path: &str, found: &mut Violations) {
    for (i, fetch) in files.iter().enumerate() {
        let uri = format!("{path}({i})/uri");
        let is_clean = !fetch.uri.chars().any(|c| c.is_whitespace() || c.is_control());
        found.require(!fetch.uri.is_empty() && is_clean, &uri, "URI has invalid syntax.");
        found.require(
            fetch.uri.chars().count() <= URI_CHARS_MAX,
            &uri,
            format!("must be at most {URI_CHARS_MAX} characters long"),
        );
        if let Some(dest) = &fetch.dest_path {
            let stays_inside = !dest.is_empty()
                && !dest.starts_with('/')
                && dest.split('/').all(|part| part != "..");
            found.require(
                stays_inside,
                format!("{path}({i})/destPath"),
                "must be a relative path inside the sandbox",
            );
        }
    }
}

fn amounts(app: &App, found: &mut Violations) {
    let limits = app.resource_limits.unwrap_or_default();
    let holds = |limit: Option<Limit>, request: u64| match limit {
        Some(Limit::At(limit)) => limit >= request,
        Some(Limit::Unlimited) | None => true,
    };
    found.require(
        holds(limits.cpus, app.resources.cpus_milli),
        "/resourceLimits/cpus",
        "must be greater than or equal to cpus",
    );
    found.require(
        holds(limits.mem, app.resources.mem_bytes),
        "/resourceLimits/mem",
        "must be greater than or equal to mem",
    );
    let is_docker =
        app.container.as_ref().is_some_and(|c| c.kind == crate::model::ContainerKind::Docker);
    found.require(
        !(app.resources.gpus > 0 && is_docker),
        "/gpus",
        "GPU resources only work with the Mesos containerizer",
    );
}

/// Empty, `//cmd`, or a path without empty parts.
fn is_executor(text: &str) -> bool {
    let path = text.strip_prefix('/').unwrap_or(text);
    text.is_empty() || text == "//cmd" || path.split('/').all(|part| !part.is_empty())
}
