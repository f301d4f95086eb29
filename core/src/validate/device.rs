//! The label that asks for devices.

use super::Violations;
use crate::model::{App, LABEL_DEVICES, device_requests};

pub(super) fn check(app: &App, found: &mut Violations) {
    let Some(text) = app.labels.get(LABEL_DEVICES) else { return };
    let path = format!("/labels/{LABEL_DEVICES}");
    if app.is_pod() {
        found.add(path, "containers of a pod get no devices; use an app");
    } else if let Err(message) = device_requests(text) {
        found.add(path, message);
    }
}
