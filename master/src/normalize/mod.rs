//! From a request to the app it means: defaults, legacy keys, merging with the current definition.
//!
//! Pure, as core is: the same request, base and time give the same app. What the rules of meaning
//! say about the result is `core::validate`'s; here only mixtures of old and new keys are refused,
//! because nothing of them is left in the result. Service ports stay 0 and versions are a
//! proposal: the state machine settles both when it applies the change.

mod artifact;
mod container;
mod defaults;
pub mod group;
mod network;
mod pod;
#[cfg(test)]
mod tests;

pub use pod::{normalize_pod, pod_violations};

use bramble_core::model::*;
use bramble_core::validate;
use bramble_protocol::rest::error::FieldError;
use bramble_protocol::rest::update::{AppUpdate, Field};

/// Resolve an app id as written against the absolute path `base` (`/` for the root).
///
/// # Errors
/// Every rule of Marathon's contract, section 3.1, that it breaks, at `/id`.
pub fn resolve_id(text: &str, base: &str) -> Result<AppId, FieldError> {
    validate::resolve(text, base).map_err(|errors| FieldError { path: "/id".into(), errors })
}

/// Give the app that `update` means: a new one without `base`, else `base` with what is given
/// (objects and lists replace whole). To replace a definition fully, leave `base` out.
///
/// `id` is the resolved id; the one in `update` is not looked at.
///
/// # Errors
/// Every mixture of keys that has no meaning, by path.
pub fn normalize(
    update: &AppUpdate,
    id: AppId,
    base: Option<&App>,
    now: Time,
) -> Result<App, Vec<FieldError>> {
    let mut errors = Vec::new();
    if base.is_some() && update.version.is_given() && !update.has_only_version_and_id() {
        let message = "The 'version' field may only be combined with the 'id' field.";
        errors.push(FieldError::new("/version", message));
    }
    let fetch = artifact::fetch(update, &mut errors);
    let dependencies = dependencies(update, &mut errors);
    let networking = network::settle(update, base, &mut errors);
    if !errors.is_empty() {
        return Err(grouped(errors));
    }
    let mut app = base.cloned().unwrap_or_else(|| defaults::app(id.clone(), now));
    app.id = id;
    if let Some(fetch) = fetch {
        app.fetch = fetch;
    }
    if let Some(dependencies) = dependencies {
        app.dependencies = dependencies;
    }
    app.networks = networking.networks;
    app.container = networking.container;
    app.port_definitions = networking.port_definitions;
    merge_command(update, &mut app);
    merge_amounts(update, &mut app);
    merge_strategies(update, &mut app);
    app.require_ports = update.require_ports.or(app.require_ports) && app.is_host_network();
    merge_checks(update, &mut app);
    defaults::for_kind(update, base, &mut app);
    app.version = base.map_or(now, |base| now.max(base.version.plus_ms(1)));
    Ok(app)
}

fn merge_command(update: &AppUpdate, app: &mut App) {
    app.cmd = update.cmd.or_option(app.cmd.take());
    // An empty list is none: no command line has no words.
    app.args = update.args.or_option(app.args.take()).filter(|args| !args.is_empty());
    app.user = update.user.or_option(app.user.take());
    assign(&update.env, &mut app.env);
    assign(&update.executor, &mut app.executor);
    assign(&update.store_urls, &mut app.store_urls);
    assign(&update.secrets, &mut app.secrets);
    app.tty = update.tty.or_option(app.tty);
    assign(&update.labels, &mut app.labels);
    app.role = update.role.or_option(app.role.take());
    app.accepted_resource_roles =
        update.accepted_resource_roles.or_option(app.accepted_resource_roles.take());
}

fn merge_amounts(update: &AppUpdate, app: &mut App) {
    assign(&update.instances, &mut app.instances);
    assign(&update.cpus_milli, &mut app.resources.cpus_milli);
    assign(&update.mem_bytes, &mut app.resources.mem_bytes);
    assign(&update.disk_bytes, &mut app.resources.disk_bytes);
    assign(&update.gpus, &mut app.resources.gpus);
    app.executor_resources = update.executor_resources.or_option(app.executor_resources);
    app.resource_limits = update.resource_limits.or_option(app.resource_limits);
}

fn merge_strategies(update: &AppUpdate, app: &mut App) {
    assign(&update.constraints, &mut app.constraints);
    assign(&update.backoff_initial_ms, &mut app.backoff.initial_ms);
    assign(&update.backoff_factor_ppm, &mut app.backoff.factor_ppm);
    assign(&update.backoff_max_ms, &mut app.backoff.max_ms);
    assign(&update.kill_selection, &mut app.kill_selection);
    app.kill_grace_ms = update.kill_grace_ms.or_option(app.kill_grace_ms);
    app.residency = update.residency.or_option(app.residency.take());
}

fn merge_checks(update: &AppUpdate, app: &mut App) {
    assign(&update.health_checks, &mut app.health_checks);
    app.check = update.check.or_option(app.check.take());
    assign(&update.readiness_checks, &mut app.readiness_checks);
    let has_ports = !app.port_definitions.is_empty() || !app.port_mappings().is_empty();
    for check in &mut app.health_checks {
        let names_no_port = check.port.is_none() && check.port_index.is_none();
        if has_ports && names_no_port && check.kind != HealthCheckKind::Command {
            check.port_index = Some(0);
        }
    }
}

fn dependencies(update: &AppUpdate, errors: &mut Vec<FieldError>) -> Option<Vec<AppId>> {
    let texts = update.dependencies.given()?;
    let mut ids: Vec<AppId> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        match validate::resolve(text, "/") {
            // A set: naming an app twice says nothing more.
            Ok(id) if ids.contains(&id) => {}
            Ok(id) => ids.push(id),
            Err(messages) => {
                errors.push(FieldError { path: format!("/dependencies({i})"), errors: messages });
            }
        }
    }
    Some(ids)
}

/// One entry per path, as Marathon answers.
fn grouped(errors: Vec<FieldError>) -> Vec<FieldError> {
    let mut out: Vec<FieldError> = Vec::new();
    for error in errors {
        match out.iter_mut().find(|e| e.path == error.path) {
            Some(known) => known.errors.extend(error.errors),
            None => out.push(error),
        }
    }
    out
}

/// Take a given value; absent and null keep what is there.
fn assign<T: Clone>(field: &Field<T>, place: &mut T) {
    if let Some(value) = field.given() {
        place.clone_from(value);
    }
}
