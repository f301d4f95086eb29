//! Replace an app's old instances by new ones, within its bounds.
//!
//! Marathon keeps books while it rolls: how many to kill at first, then one for each new healthy
//! one. The same rhythm follows from the state alone: as many old ones stay as the minimum still
//! needs beside the new ones that work.

use super::Moves;
use super::crowd::{Crowd, count};
use super::select::{age_order, stands_well};
use super::upgrade::Bounds;
use crate::model::{App, Instance, InstanceId};

/// The next moves of a Restart action.
///
/// It always comes to an end: while all new ones work and none stops, either an old one is above
/// the minimum and goes, or there is room for a new one, because the bounds never meet.
pub(super) fn moves(app: &App, crowd: &Crowd<'_>) -> Moves {
    let bounds = Bounds::of(app);
    let new = count(&crowd.new);
    let new_ready = crowd.new_ready_count();
    // An old one that has no place yet helps nobody; launching it now would be waste.
    let (waiting, placed): (Vec<&Instance>, Vec<&Instance>) =
        crowd.old.iter().partition(|i| i.task.is_none());
    let stay = bounds.min_healthy.saturating_sub(new_ready);
    let old_surplus = count(&placed).saturating_sub(stay);
    // More new ones than wanted: a change half way was replaced by a smaller one.
    let new_surplus = new.saturating_sub(app.instances);

    let mut stop: Vec<InstanceId> = waiting.iter().map(|i| i.id.clone()).collect();
    stop.extend(worst(app, crowd, &placed, old_surplus));
    stop.extend(worst(app, crowd, &crowd.new, new_surplus));
    let taken = new.saturating_add(count(&placed)).saturating_add(crowd.stopping);
    let room = bounds.max_capacity.saturating_sub(taken);
    let add = app.instances.saturating_sub(new).min(room);
    let done =
        new == app.instances && new_ready == new && crowd.old.is_empty() && crowd.stopping == 0;
    Moves { add, stop, done, ..Moves::default() }
}

/// The `surplus` that go first: those that do not work, then those that may not be where they are,
/// then as the app selects.
pub(super) fn worst<'a>(
    app: &App,
    crowd: &Crowd<'_>,
    instances: &[&'a Instance],
    surplus: u32,
) -> impl Iterator<Item = InstanceId> + use<'a> {
    let mut order = instances.to_vec();
    order.sort_by_key(|i| (crowd.is_ready(i), stands_well(i), age_order(app, i), &i.id));
    order.truncate(surplus as usize);
    order.into_iter().map(|i| i.id.clone())
}
