//! Bring the number of an app's instances to what is wanted, whatever their configuration.

use super::Moves;
use super::crowd::Crowd;
use super::select::choose_to_stop;
use super::upgrade::Bounds;
use crate::model::{App, State};

/// The next moves of a Scale action. Scaling `up` waits until all work; scaling down does not:
/// an app whose tasks keep dying must still be made smaller.
pub(super) fn moves(state: &State, app: &App, crowd: &Crowd<'_>, up: bool) -> Moves {
    let Moves { add, stop, .. } = to_count(state, app, crowd);
    let settled = crowd.wanted_count() == app.instances && crowd.stopping == 0;
    let working = !up || crowd.ready_count() >= app.instances;
    let done = add == 0 && stop.is_empty() && settled && working;
    Moves { add, stop, done, ..Moves::default() }
}

/// Add what is missing or stop what is too much.
pub(super) fn to_count(state: &State, app: &App, crowd: &Crowd<'_>) -> Moves {
    let have = crowd.wanted_count();
    let surplus = have.saturating_sub(app.instances);
    // At most one at a time: the next starts only when the last has really ended.
    let still_there = if app.is_single_instance() { crowd.stopping } else { 0 };
    // A task that moves counts until it has ended: the bounds of the app hold while it does.
    let room = match crowd.leaving {
        0 => u32::MAX,
        leaving => Bounds::of(app).max_capacity.saturating_sub(have.saturating_add(leaving)),
    };
    let add = app.instances.saturating_sub(have.saturating_add(still_there)).min(room);
    Moves { add, stop: choose_to_stop(state, app, crowd, surplus), ..Moves::default() }
}
