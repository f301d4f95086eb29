//! What an app is when nothing is said (Marathon's contract, section 3).

use bramble_core::model::*;
use bramble_protocol::rest::update::{AppUpdate, UpgradeUpdate};

/// Of apps whose volumes cannot be in two places: never more instances than wanted.
const UPGRADE_WITH_VOLUMES: UpgradeStrategy =
    UpgradeStrategy { min_health_ppm: PPM / 2, max_over_ppm: 0 };
/// Of singletons: the old one ends before the new one starts.
const UPGRADE_SINGLE: UpgradeStrategy = UpgradeStrategy { min_health_ppm: 0, max_over_ppm: 0 };
const UNREACHABLE: UnreachableStrategy =
    UnreachableStrategy::After { inactive_ms: 0, expunge_ms: 0 };
const RELAUNCH_ESCALATION_MS: u64 = 3_600_000;

/// A new app with nothing said yet.
pub(super) fn app(id: AppId, now: Time) -> App {
    App { version: now, last_scaling: now, last_config_change: now, ..App::with_defaults(id) }
}

/// Set what depends on the kind of app it turned out to be.
pub(super) fn for_kind(update: &AppUpdate, base: Option<&App>, app: &mut App) {
    if app.is_resident() && app.residency.is_none() {
        app.residency = Some(Residency {
            relaunch_escalation_ms: RELAUNCH_ESCALATION_MS,
            task_lost_behavior: "WAIT_FOREVER".into(),
        });
    }
    // Residency follows from volumes: it must not outlive the last of them.
    if !app.is_resident() && !update.residency.is_given() {
        app.residency = None;
    }
    let usual = usual_upgrade(app);
    match (update.upgrade.given(), base) {
        (Some(given), _) => app.upgrade = upgrade(given),
        // A default stays one when the kind of the app changes under it.
        (None, Some(base)) if base.upgrade != usual_upgrade(base) => {}
        (None, _) => app.upgrade = usual,
    }
    match (update.unreachable.given(), base) {
        (Some(given), _) => app.unreachable = *given,
        (None, Some(base)) if base.unreachable != usual_unreachable(base) => {}
        (None, _) => app.unreachable = usual_unreachable(app),
    }
}

fn usual_upgrade(app: &App) -> UpgradeStrategy {
    let volumes = app.container.iter().flat_map(|c| &c.volumes);
    let has_external = volumes.into_iter().any(|v| matches!(v, Volume::External { .. }));
    if app.labels.get(LABEL_SINGLE_INSTANCE).is_some_and(|v| v == "true") {
        UPGRADE_SINGLE
    } else if app.is_resident() || has_external {
        UPGRADE_WITH_VOLUMES
    } else {
        UPGRADE_DEFAULT
    }
}

fn usual_unreachable(app: &App) -> UnreachableStrategy {
    if app.is_resident() { UnreachableStrategy::Disabled } else { UNREACHABLE }
}

/// A given object replaces the strategy whole; a key it leaves out has Marathon's plain default.
fn upgrade(given: &UpgradeUpdate) -> UpgradeStrategy {
    UpgradeStrategy {
        min_health_ppm: given.min_health_ppm.unwrap_or(UPGRADE_DEFAULT.min_health_ppm),
        max_over_ppm: given.max_over_ppm.unwrap_or(UPGRADE_DEFAULT.max_over_ppm),
    }
}
