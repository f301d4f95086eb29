//! Pods: the definition of a request (Marathon's contract, section 9), whole as it always is.

mod container;

use super::super::error::FieldError;
use super::super::number::{MILLI, PPM};
use super::super::pod::PodUpdate;
use super::super::update::{AppUpdate, Field};
use super::read::{self, Errors, Object};
use super::{
    FACTOR_MAX, INT_MAX, OPERATORS, count, env_value, executor_resources, finish, kill_selection,
    network, secret, unreachable, upgrade,
};
use bramble_core::model::{Constraint, Pod, PodVolume, Volume, VolumeMode, VolumeSource};
use serde_json::Value;

/// Read one pod.
///
/// # Errors
/// Every wrong type and broken schema limit.
pub fn pod_update(body: &Value) -> Result<PodUpdate, Vec<FieldError>> {
    let mut errors = Errors::default();
    finish(pod(&mut errors, "", body), errors)
}

/// Read the body of `DELETE /v2/pods/{id}::instances`: a list of ids.
///
/// # Errors
/// When it is no list of texts.
pub fn instance_ids(body: &Value) -> Result<Vec<String>, Vec<FieldError>> {
    let mut errors = Errors::default();
    finish(read::texts(&mut errors, "/", body), errors)
}

pub(super) fn pod(errors: &mut Errors, path: &str, value: &Value) -> Option<PodUpdate> {
    let object = Object::open(errors, path, value)?;
    let mut common = AppUpdate {
        id: object.field(errors, "id", read::text),
        labels: object.field(errors, "labels", read::text_map),
        user: object.field(errors, "user", read::text),
        env: object.field(errors, "environment", |e, p, v| read::map(e, p, v, env_value)),
        secrets: object.field(errors, "secrets", |e, p, v| read::map(e, p, v, secret)),
        networks: object.field(errors, "networks", |e, p, v| read::list(e, p, v, network::network)),
        executor_resources: object.field(errors, "executorResources", executor_resources),
        role: object.field(errors, "role", read::text),
        ..AppUpdate::default()
    };
    object.optional(errors, "scaling", |e, p, v| scaling(e, p, v, &mut common));
    object.optional(errors, "scheduling", |e, p, v| scheduling(e, p, v, &mut common));
    let volumes = object.optional(errors, "volumes", |e, p, v| read::list(e, p, v, volume));
    let containers = object
        .required(errors, "containers", |e, p, v| read::list(e, p, v, container::container))?;
    Some(PodUpdate { common, pod: Pod { containers, volumes: volumes.unwrap_or_default() } })
}

fn scaling(errors: &mut Errors, path: &str, value: &Value, common: &mut AppUpdate) -> Option<()> {
    let object = Object::open(errors, path, value)?;
    object.optional(errors, "kind", |e, p, v| read::word(e, p, v, &[("fixed", ())]));
    common.instances = object.field(errors, "instances", count);
    Some(())
}

fn scheduling(
    errors: &mut Errors,
    path: &str,
    value: &Value,
    common: &mut AppUpdate,
) -> Option<()> {
    let object = Object::open(errors, path, value)?;
    object.optional(errors, "backoff", |e, p, v| backoff(e, p, v, common));
    common.upgrade = object.field(errors, "upgrade", upgrade);
    object.optional(errors, "placement", |e, p, v| placement(e, p, v, common));
    common.kill_selection = object.field(errors, "killSelection", kill_selection);
    common.unreachable = object.field(errors, "unreachableStrategy", unreachable);
    Some(())
}

fn backoff(errors: &mut Errors, path: &str, value: &Value, common: &mut AppUpdate) -> Option<()> {
    let object = Object::open(errors, path, value)?;
    common.backoff_initial_ms = object.field(errors, "backoff", moment);
    common.backoff_factor_ppm = object
        .field(errors, "backoffFactor", |e, p, v| read::decimal(e, p, v, PPM, (1, FACTOR_MAX)));
    common.backoff_max_ms = object.field(errors, "maxLaunchDelay", moment);
    Some(())
}

/// Seconds with a fraction, given as milliseconds: pods allow it where apps count whole ones.
fn moment(errors: &mut Errors, path: &str, value: &Value) -> Option<u64> {
    read::decimal(errors, path, value, MILLI, (0, INT_MAX))
}

fn placement(errors: &mut Errors, path: &str, value: &Value, common: &mut AppUpdate) -> Option<()> {
    let object = Object::open(errors, path, value)?;
    common.constraints =
        object.field(errors, "constraints", |e, p, v| read::list(e, p, v, constraint));
    // An empty list is what Marathon writes for "any".
    let roles = object.optional(errors, "acceptedResourceRoles", read::texts);
    common.accepted_resource_roles =
        roles.filter(|roles| !roles.is_empty()).map_or(Field::Absent, Field::Given);
    Some(())
}

/// `{"fieldName","operator","value"?}`.
fn constraint(errors: &mut Errors, path: &str, value: &Value) -> Option<Constraint> {
    let object = Object::open(errors, path, value)?;
    let field = object.required(errors, "fieldName", read::text);
    let operator = object.required(errors, "operator", |e, p, v| {
        let upper = Value::String(read::text(e, p, v)?.to_uppercase());
        read::word(e, p, &upper, &OPERATORS)
    });
    let value = object.optional(errors, "value", read::text);
    Some(Constraint { field: field?, operator: operator?, value })
}

fn volume(errors: &mut Errors, path: &str, value: &Value) -> Option<PodVolume> {
    let object = Object::open(errors, path, value)?;
    let name = object.required(errors, "name", read::text);
    let kinds = ["host", "persistent", "secret"].into_iter().filter(|key| object.has(key));
    if kinds.count() > 1 {
        let fix = "must have at most one of host, persistent, secret";
        return errors.note(path, "error.maxLength", Some(fix.into()));
    }
    let host = object.optional(errors, "host", read::text).map(VolumeSource::Host);
    let secret = object.optional(errors, "secret", read::text).map(VolumeSource::Secret);
    let persistent = object.optional(errors, "persistent", persistent);
    let source = host.or(secret).or(persistent).unwrap_or(VolumeSource::Ephemeral);
    Some(PodVolume { name: name?, source })
}

fn persistent(errors: &mut Errors, path: &str, value: &Value) -> Option<VolumeSource> {
    let mode = VolumeMode::ReadWrite;
    let read = super::container::persistent(errors, path, value, String::new(), mode)?;
    let Volume::Persistent { kind, size_mib, max_size_mib, profile_name, constraints, .. } = read
    else {
        return None;
    };
    Some(VolumeSource::Persistent { kind, size_mib, max_size_mib, profile_name, constraints })
}
