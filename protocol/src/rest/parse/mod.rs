//! Requests to [`AppUpdate`]: types and schema limits, with every mistake named at its path.
//!
//! Rules of meaning (what excludes what, what must exist) are not looked at here.

mod checks;
mod container;
mod group;
mod network;
mod pod;
mod read;
#[cfg(test)]
mod tests;

pub use group::{enforce_role, group_update};
pub use pod::{instance_ids, pod_update};

use super::error::FieldError;
use super::number::{MIB, MILLI, PPM};
use super::update::{AppUpdate, UpgradeUpdate};
use crate::timestamp;
use bramble_core::model::*;
use read::{Errors, Object};
use serde_json::Value;

/// Cores an app may ask for: beyond any machine, and far from where sums overflow.
const CPUS_MAX: u64 = 1_000_000;
/// MiB an app may ask for (2^40 MiB = 1 EiB).
const MIB_MAX: u64 = 1 << 40;
/// Seconds of any interval, and the bound of counts (Marathon's 32-bit integers).
const INT_MAX: u64 = i32::MAX as u64;
/// Factors and ratios.
const FACTOR_MAX: u64 = 1000;

/// Read one app definition or update.
///
/// # Errors
/// Every wrong type and broken schema limit.
pub fn app_update(body: &Value) -> Result<AppUpdate, Vec<FieldError>> {
    let mut errors = Errors::default();
    finish(one(&mut errors, "", body), errors)
}

/// Read an array of apps (`PUT` and `PATCH /v2/apps`).
///
/// # Errors
/// Every wrong type and broken schema limit, at `/(0)/id` and the like.
pub fn app_updates(body: &Value) -> Result<Vec<AppUpdate>, Vec<FieldError>> {
    let mut errors = Errors::default();
    let updates = read::list(&mut errors, "/", body, one);
    finish(updates, errors)
}

fn finish<T>(read: Option<T>, errors: Errors) -> Result<T, Vec<FieldError>> {
    match read {
        Some(read) if errors.0.is_empty() => Ok(read),
        _ => Err(errors.0),
    }
}

fn one(errors: &mut Errors, path: &str, value: &Value) -> Option<AppUpdate> {
    let object = Object::open(errors, path, value)?;
    let mut update = AppUpdate::default();
    command(&object, errors, &mut update);
    amounts(&object, errors, &mut update);
    connections(&object, errors, &mut update);
    strategies(&object, errors, &mut update);
    bookkeeping(&object, errors, &mut update);
    Some(update)
}

fn command(object: &Object<'_>, errors: &mut Errors, update: &mut AppUpdate) {
    update.id = object.field(errors, "id", read::text);
    update.cmd = object.field(errors, "cmd", read::text);
    update.args = object.field(errors, "args", read::texts);
    update.user = object.field(errors, "user", read::text);
    update.env = object.field(errors, "env", |e, p, v| read::map(e, p, v, env_value));
    update.executor = object.field(errors, "executor", read::text);
    update.fetch = object.field(errors, "fetch", |e, p, v| read::list(e, p, v, fetch));
    update.uris = object.field(errors, "uris", read::texts);
    update.store_urls = object.field(errors, "storeUrls", read::texts);
    update.secrets = object.field(errors, "secrets", |e, p, v| read::map(e, p, v, secret));
    update.tty = object.field(errors, "tty", read::boolean);
}

fn amounts(object: &Object<'_>, errors: &mut Errors, update: &mut AppUpdate) {
    update.instances = object.field(errors, "instances", count);
    update.cpus_milli = object.field(errors, "cpus", |e, p, v| cpus(e, p, v, 0));
    update.mem_bytes = object.field(errors, "mem", |e, p, v| mib(e, p, v, 0));
    update.disk_bytes = object.field(errors, "disk", |e, p, v| mib(e, p, v, 0));
    update.gpus = object.field(errors, "gpus", count);
    update.executor_resources = object.field(errors, "executorResources", executor_resources);
    update.resource_limits = object.field(errors, "resourceLimits", resource_limits);
}

fn connections(object: &Object<'_>, errors: &mut Errors, update: &mut AppUpdate) {
    update.container = object.field(errors, "container", container::container);
    update.networks =
        object.field(errors, "networks", |e, p, v| read::list(e, p, v, network::network));
    update.ip_address = object.field(errors, "ipAddress", network::ip_address);
    update.ports = object.field(errors, "ports", |e, p, v| read::list(e, p, v, network::port));
    update.port_definitions = object
        .field(errors, "portDefinitions", |e, p, v| read::list(e, p, v, network::port_definition));
    update.require_ports = object.field(errors, "requirePorts", read::boolean);
    update.health_checks =
        object.field(errors, "healthChecks", |e, p, v| read::list(e, p, v, checks::health_check));
    update.check = object.field(errors, "check", checks::check);
    update.readiness_checks = object
        .field(errors, "readinessChecks", |e, p, v| read::list(e, p, v, checks::readiness_check));
}

fn strategies(object: &Object<'_>, errors: &mut Errors, update: &mut AppUpdate) {
    update.constraints =
        object.field(errors, "constraints", |e, p, v| read::list(e, p, v, constraint));
    update.dependencies = object.field(errors, "dependencies", read::texts);
    update.backoff_initial_ms = object.field(errors, "backoffSeconds", seconds);
    update.backoff_factor_ppm = object
        .field(errors, "backoffFactor", |e, p, v| read::decimal(e, p, v, PPM, (1, FACTOR_MAX)));
    update.backoff_max_ms = object.field(errors, "maxLaunchDelaySeconds", seconds);
    update.upgrade = object.field(errors, "upgradeStrategy", upgrade);
    update.kill_selection = object.field(errors, "killSelection", kill_selection);
    update.unreachable = object.field(errors, "unreachableStrategy", unreachable);
    update.kill_grace_ms = object.field(errors, "taskKillGracePeriodSeconds", seconds);
    update.residency = object.field(errors, "residency", residency);
}

fn bookkeeping(object: &Object<'_>, errors: &mut Errors, update: &mut AppUpdate) {
    update.labels = object.field(errors, "labels", read::text_map);
    update.accepted_resource_roles = object.field(errors, "acceptedResourceRoles", read::texts);
    update.role = object.field(errors, "role", read::text);
    update.version = object.field(errors, "version", version);
}

fn env_value(errors: &mut Errors, path: &str, value: &Value) -> Option<EnvValue> {
    if value.is_object() {
        let object = Object::open(errors, path, value)?;
        return object.required(errors, "secret", read::text).map(EnvValue::Secret);
    }
    read::text(errors, path, value).map(EnvValue::Plain)
}

fn secret(errors: &mut Errors, path: &str, value: &Value) -> Option<String> {
    Object::open(errors, path, value)?.required(errors, "source", read::text)
}

fn fetch(errors: &mut Errors, path: &str, value: &Value) -> Option<Fetch> {
    let object = Object::open(errors, path, value)?;
    let extract = object.optional(errors, "extract", read::boolean).unwrap_or(true);
    let executable = object.optional(errors, "executable", read::boolean).unwrap_or(false);
    let cache = object.optional(errors, "cache", read::boolean).unwrap_or(false);
    let dest_path = object.optional(errors, "destPath", read::text);
    let uri = object.required(errors, "uri", read::text)?;
    Some(Fetch { uri, extract, executable, cache, dest_path })
}

fn count(errors: &mut Errors, path: &str, value: &Value) -> Option<u32> {
    read::integer(errors, path, value, (0, INT_MAX)).and_then(|n| u32::try_from(n).ok())
}

/// Seconds, given as milliseconds.
fn seconds(errors: &mut Errors, path: &str, value: &Value) -> Option<u64> {
    read::integer(errors, path, value, (0, INT_MAX)).map(|s| s * 1000)
}

fn cpus(errors: &mut Errors, path: &str, value: &Value, min: u64) -> Option<u64> {
    read::decimal(errors, path, value, MILLI, (min, CPUS_MAX))
}

fn mib(errors: &mut Errors, path: &str, value: &Value, min: u64) -> Option<u64> {
    read::decimal(errors, path, value, MIB, (min, MIB_MAX))
}

fn executor_resources(errors: &mut Errors, path: &str, value: &Value) -> Option<Resources> {
    /// Marathon's least executor: 0.1 cpus, 32 MiB of memory, 10 MiB of disk.
    const LEAST: (u64, u64, u64) = (100, 32, 10);
    let object = Object::open(errors, path, value)?;
    let cpus_milli = object.optional(errors, "cpus", |e, p, v| cpus(e, p, v, 0)).unwrap_or(LEAST.0);
    if cpus_milli < LEAST.0 {
        errors.note::<()>(&object.path("cpus"), "error.min", Some("must be at least 0.1".into()));
    }
    let mem = object.optional(errors, "mem", |e, p, v| mib(e, p, v, LEAST.1));
    let disk = object.optional(errors, "disk", |e, p, v| mib(e, p, v, LEAST.2));
    Some(Resources {
        cpus_milli,
        mem_bytes: mem.unwrap_or(LEAST.1 * MIB),
        disk_bytes: disk.unwrap_or(LEAST.2 * MIB),
        gpus: 0,
    })
}

fn resource_limits(errors: &mut Errors, path: &str, value: &Value) -> Option<ResourceLimits> {
    let object = Object::open(errors, path, value)?;
    let limit = |errors: &mut Errors, key: &str, factor: u64, max: u64| {
        object.optional(errors, key, |e, p, v| match v {
            Value::String(text) if text == "unlimited" => Some(Limit::Unlimited),
            other => read::decimal(e, p, other, factor, (0, max)).map(Limit::At),
        })
    };
    Some(ResourceLimits {
        cpus: limit(errors, "cpus", MILLI, CPUS_MAX),
        mem: limit(errors, "mem", MIB, MIB_MAX),
    })
}

const OPERATORS: [(&str, Operator); 7] = [
    ("UNIQUE", Operator::Unique),
    ("CLUSTER", Operator::Cluster),
    ("GROUP_BY", Operator::GroupBy),
    ("LIKE", Operator::Like),
    ("UNLIKE", Operator::Unlike),
    ("MAX_PER", Operator::MaxPer),
    ("IS", Operator::Is),
];

/// `[field, operator]` or `[field, operator, value]`.
fn constraint(errors: &mut Errors, path: &str, value: &Value) -> Option<Constraint> {
    let parts = read::texts(errors, path, value)?;
    let (field, operator, value) = match parts.as_slice() {
        [field, operator] => (field, operator, None),
        [field, operator, value] => (field, operator, Some(value.clone())),
        _ => {
            let code = if parts.len() < 2 { "error.minLength" } else { "error.maxLength" };
            let fix = "must have a field, an operator and, for some operators, a value";
            return errors.note(path, code, Some(fix.into()));
        }
    };
    let upper = Value::String(operator.to_uppercase());
    let operator = read::word(errors, &format!("{path}(1)"), &upper, &OPERATORS)?;
    Some(Constraint { field: field.clone(), operator, value })
}

fn upgrade(errors: &mut Errors, path: &str, value: &Value) -> Option<UpgradeUpdate> {
    let object = Object::open(errors, path, value)?;
    let ratio = |errors: &mut Errors, key: &str| {
        object.optional(errors, key, |e, p, v| read::decimal(e, p, v, PPM, (0, FACTOR_MAX)))
    };
    Some(UpgradeUpdate {
        min_health_ppm: ratio(errors, "minimumHealthCapacity"),
        max_over_ppm: ratio(errors, "maximumOverCapacity"),
    })
}

fn kill_selection(errors: &mut Errors, path: &str, value: &Value) -> Option<KillSelection> {
    const WORDS: [(&str, KillSelection); 2] = [
        ("YOUNGEST_FIRST", KillSelection::YoungestFirst),
        ("OLDEST_FIRST", KillSelection::OldestFirst),
    ];
    read::word(errors, path, value, &WORDS)
}

fn unreachable(errors: &mut Errors, path: &str, value: &Value) -> Option<UnreachableStrategy> {
    if value.is_string() {
        return read::word(errors, path, value, &[("disabled", UnreachableStrategy::Disabled)]);
    }
    let object = Object::open(errors, path, value)?;
    let inactive_ms = object.optional(errors, "inactiveAfterSeconds", seconds).unwrap_or(0);
    let expunge_ms = object.optional(errors, "expungeAfterSeconds", seconds).unwrap_or(0);
    Some(UnreachableStrategy::After { inactive_ms, expunge_ms })
}

fn residency(errors: &mut Errors, path: &str, value: &Value) -> Option<Residency> {
    /// Marathon's default: one hour.
    const ESCALATION_MS: u64 = 3_600_000;
    const BEHAVIORS: [(&str, &str); 2] =
        [("WAIT_FOREVER", "WAIT_FOREVER"), ("RELAUNCH_AFTER_TIMEOUT", "RELAUNCH_AFTER_TIMEOUT")];
    let object = Object::open(errors, path, value)?;
    let escalation = object.optional(errors, "relaunchEscalationTimeoutSeconds", seconds);
    let behavior = object
        .optional(errors, "taskLostBehavior", |e, p, v| read::word(e, p, v, &BEHAVIORS))
        .unwrap_or("WAIT_FOREVER");
    Some(Residency {
        relaunch_escalation_ms: escalation.unwrap_or(ESCALATION_MS),
        task_lost_behavior: behavior.to_string(),
    })
}

fn version(errors: &mut Errors, path: &str, value: &Value) -> Option<Time> {
    let text = read::text(errors, path, value)?;
    match timestamp::parse(&text) {
        Some(time) => Some(time),
        None => errors.note(
            path,
            &format!("Invalid timestamp provided '{text}'. Expecting ISO-8601 datetime string."),
            None,
        ),
    }
}
