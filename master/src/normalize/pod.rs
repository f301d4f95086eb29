//! From a request for a pod to the pod it means.
//!
//! What pods have in common with apps is normalised as an app's; a pod's ports and containers
//! stand in its own part, and none in the app around it.

use super::{defaults, normalize};
use bramble_core::model::{App, AppId, BYTES_PER_MIB, Resources, Time};
use bramble_core::validate::{self, Violation};
use bramble_protocol::rest::error::FieldError;
use bramble_protocol::rest::pod::PodUpdate;

/// What an executor may take besides its containers where nothing is said (Marathon). It is shown
/// and not set aside: here an executor needs less than one megabyte.
const EXECUTOR_RESOURCES: Resources = Resources {
    cpus_milli: 100,
    mem_bytes: 32 * BYTES_PER_MIB,
    disk_bytes: 10 * BYTES_PER_MIB,
    gpus: 0,
};

/// Give the pod that `update` means. A pod is always defined whole.
///
/// # Errors
/// Every mixture of keys that has no meaning, by path.
pub fn normalize_pod(update: &PodUpdate, id: AppId, now: Time) -> Result<App, Vec<FieldError>> {
    let common = normalize(&update.common, id, None, now)?;
    let mut app = App {
        resources: update.pod.resources(),
        // An app off the host network gets a container for its ports, one on it a port.
        container: None,
        port_definitions: Vec::new(),
        executor_resources: common.executor_resources.or(Some(EXECUTOR_RESOURCES)),
        pod: Some(update.pod.clone()),
        ..common
    };
    defaults::for_kind(&update.common, None, &mut app);
    Ok(app)
}

/// Name every rule that a pod breaks, also as a change of what is there.
pub fn pod_violations(app: &App, old: Option<&App>) -> Vec<Violation> {
    let mut broken = validate::validate(app);
    if let Some(old) = old.filter(|old| old.is_pod()) {
        broken.extend(validate::validate_change(old, app));
    }
    broken
}
