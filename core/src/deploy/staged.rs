//! Keep canaries or a whole second set of a new version beside the stable one, until someone says
//! how to go on. Nothing here decides that.

use super::Moves;
use super::crowd::{Crowd, count};
use super::restart::worst;
use super::upgrade::Bounds;
use crate::model::{App, AppRecord, Instance, Rollout, RolloutKind};

/// The next moves while a new version is on trial.
///
/// Canaries come beside the stable instances where the app's upgrade strategy leaves room for
/// both, else in the place of some. A second set always comes beside.
pub(super) fn moves(record: &AppRecord, rollout: &Rollout, crowd: &Crowd<'_>) -> Moves {
    let app = &record.app;
    let bounds = bounds(app, rollout);
    let fresh = rollout.fresh(app.instances);
    // Instances of neither: an earlier change was replaced while it was on trial itself.
    let (stable, stale): (Vec<&Instance>, Vec<&Instance>) =
        crowd.old.iter().partition(|i| record.same_config(i.assigned_version(), rollout.stable));
    let stable_wanted = rollout.stable_instances.min(bounds.max_capacity.saturating_sub(fresh));

    let new_surplus = count(&crowd.new).saturating_sub(fresh);
    let stable_surplus = count(&stable).saturating_sub(stable_wanted);
    let mut stop: Vec<_> = worst(app, crowd, &crowd.new, new_surplus).collect();
    stop.extend(worst(app, crowd, &stale, count(&stale)));
    stop.extend(worst(app, crowd, &stable, stable_surplus));
    // What works is stopped only while enough works besides.
    let mut spare = crowd.ready_count().saturating_sub(bounds.min_healthy);
    stop.retain(|id| {
        let free = !crowd.works(id) || spare > 0;
        spare -= u32::from(free && crowd.works(id));
        free
    });

    let taken = crowd.wanted_count().saturating_add(crowd.stopping);
    let room = bounds.max_capacity.saturating_sub(taken);
    let add = fresh.saturating_sub(count(&crowd.new)).min(room);
    let add_stable = stable_wanted.saturating_sub(count(&stable)).min(room - add);
    Moves { add, add_stable, stop, ..Moves::default() }
}

/// The bounds of the larger of the two counts: a change that also shrinks the app shrinks it only
/// once it is promoted.
fn bounds(app: &App, rollout: &Rollout) -> Bounds {
    let instances = app.instances.max(rollout.stable_instances);
    let bounds = Bounds::of(&App { instances, ..app.clone() });
    match rollout.kind {
        RolloutKind::BlueGreen => {
            let both = app.instances.saturating_add(rollout.stable_instances);
            Bounds { max_capacity: both.max(bounds.max_capacity), ..bounds }
        }
        RolloutKind::Rolling | RolloutKind::Canary { .. } => bounds,
    }
}
