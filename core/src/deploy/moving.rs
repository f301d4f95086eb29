//! Tasks that may not be any more where they are move, one of an app at a time, as in a change of
//! their app: a replacement comes first where the app's bounds allow one more.

use super::Moves;
use super::crowd::{Crowd, count};
use super::restart;
use crate::model::{App, Instance, State};
use crate::place;

/// The next moves towards moving one task; `None` when none shall, or can, move now.
///
/// Nothing is stopped, nor added, for a task that would find no other place: it is better where it
/// may not be than nowhere.
pub(super) fn moves<'a>(state: &'a State, app: &'a App, crowd: &Crowd<'a>) -> Option<Moves> {
    let movable = |i: &&&Instance| {
        let task = i.task.as_ref().filter(|task| task.misplaced.is_some());
        task.and_then(|task| state.agents.get(&task.agent_id)).is_some_and(|a| a.reachable)
    };
    // A change of the app that was broken off comes first: it is the user's own. Data cannot move.
    if !crowd.old.is_empty() || app.is_resident() {
        return None;
    }
    let one: &Instance = crowd.new.iter().find(movable)?;
    let mut moving = crowd.clone();
    moving.new.retain(|instance| instance.id != one.id);
    moving.old.push(one);
    let has_replacement = count(&moving.new) >= app.instances;
    let moves = restart::moves(app, &moving);
    let idle = moves.add == 0 && moves.stop.is_empty();
    (idle || has_replacement || place::has_room(state, app)).then_some(moves)
}
