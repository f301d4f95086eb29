//! What runs, as whom, with which environment, files and amounts.

use super::Violations;
use crate::model::{App, EnvValue, Limit, secret_name};

/// Characters of a URI (Marathon).
const URI_CHARS_MAX: usize = 1024;

/// The shortest command Marathon takes.
const CMD_CHARS_MIN: usize = 2;

pub(super) fn check(app: &App, found: &mut Violations) {
    what_runs(app, found);
    no_nul(app, found);
    environment(app, found);
    fetch(app, found);
    amounts(app, found);
    found.require(
        is_executor(&app.executor),
        "/executor",
        "must fully match regular expression '^(//cmd)|(/?[^/]+(/[^/]+)*)|$'",
    );
    found.require(
        app.user.as_ref().is_none_or(|u| !u.is_empty()),
        "/user",
        "must not be an empty string",
    );
    found.require(
        app.accepted_resource_roles.as_ref().is_none_or(|r| !r.is_empty()),
        "/acceptedResourceRoles",
        "must not be empty",
    );
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
fn no_nul(app: &App, found: &mut Violations) {
    const MESSAGE: &str = "must not contain a NUL character";
    let clean = |text: &str| !text.contains('\0');
    found.require(app.cmd.as_deref().is_none_or(clean), "/cmd", MESSAGE);
    found.require(app.user.as_deref().is_none_or(clean), "/user", MESSAGE);
    for (i, arg) in app.args.iter().flatten().enumerate() {
        found.require(clean(arg), format!("/args({i})"), MESSAGE);
    }
    for (name, value) in &app.env {
        let value = match value {
            EnvValue::Plain(text) | EnvValue::Secret(text) => text,
        };
        found.require(clean(name) && clean(value), format!("/env/{name}"), MESSAGE);
    }
}

fn environment(app: &App, found: &mut Violations) {
    for (name, value) in &app.env {
        found.require(!name.is_empty(), "/env", "must not contain an empty name");
        found.require(
            !name.contains('='),
            format!("/env/{name}"),
            "must not contain '=' in its name",
        );
        if let EnvValue::Secret(secret) = value {
            found.require(
                app.secrets.contains_key(secret),
                format!("/env/{name}/secret"),
                format!("references an undefined secret '{secret}'"),
            );
        }
    }
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

fn fetch(app: &App, found: &mut Violations) {
    for (i, fetch) in app.fetch.iter().enumerate() {
        let uri = format!("/fetch({i})/uri");
        let is_clean = !fetch.uri.chars().any(|c| c.is_whitespace() || c.is_control());
        found.require(!fetch.uri.is_empty() && is_clean, &uri, "URI has invalid syntax.");
        found.require(
            fetch.uri.chars().count() <= URI_CHARS_MAX,
            &uri,
            format!("must be at most {URI_CHARS_MAX} characters long"),
        );
        if let Some(path) = &fetch.dest_path {
            let stays_inside = !path.is_empty()
                && !path.starts_with('/')
                && path.split('/').all(|part| part != "..");
            found.require(
                stays_inside,
                format!("/fetch({i})/destPath"),
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
