//! How an app changes, scales and is retried; what it depends on.

use super::{Violations, id_violations};
use crate::model::{
    App, LABEL_SINGLE_INSTANCE, PPM, Pod, PodVolume, UnreachableStrategy, Volume, VolumeSource,
};

/// Most instances of one app. A mistyped number must not fill the memory of every master.
const INSTANCES_MAX: u32 = 10_000;

pub(super) fn check(app: &App, found: &mut Violations) {
    found.require(
        app.instances <= INSTANCES_MAX,
        "/instances",
        format!("must be at most {INSTANCES_MAX}"),
    );
    upgrade(app, found);
    found.require(
        app.backoff.factor_ppm >= PPM,
        "/backoffFactor",
        "must be greater than or equal to 1.0",
    );
    unreachable(app, found);
    dependencies(app, found);
}

fn upgrade(app: &App, found: &mut Violations) {
    const MIN: &str = "/upgradeStrategy/minimumHealthCapacity";
    const OVER: &str = "/upgradeStrategy/maximumOverCapacity";
    const BETWEEN: &str = "must be between 0.0 and 1.0";
    let upgrade = &app.upgrade;
    found.require(upgrade.min_health_ppm <= PPM, MIN, BETWEEN);
    found.require(upgrade.max_over_ppm <= PPM, OVER, BETWEEN);
    if app.is_resident() {
        found.require(upgrade.max_over_ppm == 0, OVER, "must be 0 for resident tasks");
    }
    if app.labels.get(LABEL_SINGLE_INSTANCE).is_some_and(|v| v == "true") {
        found.require(
            app.instances <= 1,
            "/instances",
            format!("must be at most 1 with label {LABEL_SINGLE_INSTANCE}=true"),
        );
        let message = format!("must be 0 with label {LABEL_SINGLE_INSTANCE}=true");
        found.require(upgrade.min_health_ppm == 0, MIN, &*message);
        found.require(upgrade.max_over_ppm == 0, OVER, message);
    }
}

fn unreachable(app: &App, found: &mut Violations) {
    match app.unreachable {
        UnreachableStrategy::Disabled => {}
        UnreachableStrategy::After { inactive_ms, expunge_ms } => {
            found.require(
                inactive_ms <= expunge_ms,
                "/unreachableStrategy/inactiveAfterSeconds",
                "must be less than or equal to expungeAfterSeconds",
            );
            found.require(
                !app.is_resident(),
                "/unreachableStrategy",
                "unreachableStrategy must be disabled for resident tasks",
            );
        }
    }
}

fn dependencies(app: &App, found: &mut Violations) {
    for (i, id) in app.dependencies.iter().enumerate() {
        let path = format!("/dependencies({i})");
        found.require(*id != app.id, &path, "an app must not depend on itself");
        for message in id_violations(id.as_str()) {
            found.add(&path, message);
        }
    }
}

/// What a running app may not change: a resident one is bound to what was reserved for it.
pub(super) fn change(old: &App, new: &App, found: &mut Violations) {
    if !old.is_resident() {
        return;
    }
    if let (Some(old), Some(new)) = (&old.pod, &new.pod) {
        let persistent = |pod: &Pod| -> Vec<PodVolume> {
            let kept = |v: &&PodVolume| matches!(v.source, VolumeSource::Persistent { .. });
            pod.volumes.iter().filter(kept).cloned().collect()
        };
        let same = persistent(old) == persistent(new);
        found.require(same, "/volumes", "Persistent volumes can not be changed!");
    }
    let persistent = |app: &App| -> Vec<Volume> {
        let volumes = app.container.iter().flat_map(|c| c.volumes.iter());
        volumes.filter(|v| matches!(v, Volume::Persistent { .. })).cloned().collect()
    };
    found.require(
        persistent(old) == persistent(new),
        "/container/volumes",
        "Persistent volumes can not be changed!",
    );
    found.require(
        old.resources == new.resources,
        "/",
        "Services with persistent volumes configured may not change resource requirements",
    );
}
