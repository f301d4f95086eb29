//! Definitions from any bytes: nothing panics, and what is accepted is printed so that it is read
//! as the same.

use crate::normalize::{group, normalize, normalize_pod, pod_violations, resolve_id};
use bramble_core::model::{App, AppId, Group, GroupId, Time};
use bramble_core::validate::validate;
use bramble_protocol::rest::app::canonical;
use bramble_protocol::rest::classic::{classic, is_classic};
use bramble_protocol::rest::parse;
use bramble_protocol::rest::pod;
use serde_json::Value;

const NOW: Time = Time(1_600_000_000_000);

/// Read `data` in every way in which the API reads a body.
pub fn app_json(data: &[u8]) {
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return };
    let _ = parse::app_updates(&body);
    let _ = parse::enforce_role(&body);
    if let Ok(update) = parse::group_update(&body) {
        let _ = group::check_alone(&update);
        let _ = group::define(&update, &GroupId::new("/g"), &Group::default(), NOW);
    }
    pod_json(&body);
    let Ok(update) = parse::app_update(&body) else { return };
    let id = update.id.given().and_then(|id| resolve_id(id, "/").ok());
    let id = id.unwrap_or_else(|| AppId::new("/x"));
    let Ok(app) = normalize(&update, id, None, NOW) else { return };
    if !validate(&app).is_empty() {
        return;
    }
    if is_classic(&body) {
        classic(&app, &body);
    }
    round_trip(&app);
}

fn pod_json(body: &Value) {
    let read = |body: &Value| {
        let update = parse::pod_update(body).ok()?;
        normalize_pod(&update, AppId::new("/p"), NOW).ok()
    };
    let Some(app) = read(body).filter(|app| pod_violations(app, None).is_empty()) else { return };
    let printed = pod::pod(&app).expect("it is a pod");
    let printed = serde_json::to_value(printed).expect("a pod can be written");
    let again = read(&printed).unwrap_or_else(|| panic!("not read again: {printed}"));
    assert_eq!(again.config(), app.config(), "read from {printed}");
    assert_eq!(again.instances, app.instances);
    assert_eq!(pod_violations(&again, Some(&app)), [], "of {printed}");
}

fn round_trip(app: &App) {
    let printed = serde_json::to_value(canonical(app)).expect("an app can be written");
    let update = parse::app_update(&printed)
        .unwrap_or_else(|errors| panic!("{errors:?} in what was printed: {printed}"));
    let again = normalize(&update, app.id.clone(), None, NOW)
        .unwrap_or_else(|errors| panic!("{errors:?} of what was printed: {printed}"));
    assert_eq!(again.config(), app.config(), "read from {printed}");
    assert_eq!(again.instances, app.instances);
    assert_eq!(validate(&again), [], "of {printed}");
    let mut patched = update;
    patched.version = Default::default();
    let patched = normalize(&patched, app.id.clone(), Some(app), NOW)
        .unwrap_or_else(|errors| panic!("{errors:?} of what was printed onto itself: {printed}"));
    assert_eq!(patched.config(), app.config(), "put onto itself: {printed}");
}
