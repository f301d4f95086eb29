//! A change of size alone: tasks take it as they run, where they can. The rest of a Restart action
//! replaces those that cannot.

use super::Moves;
use super::crowd::{Crowd, count};
use crate::model::{App, InstanceId, State};

/// The next moves of a Restart action that need no new task; `None` when there are none left.
pub(super) fn moves(state: &State, app: &App, crowd: &Crowd<'_>) -> Option<Moves> {
    // Nobody asks for room on behalf of an instance that is about to be one too many.
    let missing = app.instances.saturating_sub(count(&crowd.new));
    if missing == 0 || crowd.old.is_empty() {
        return None;
    }
    let possible = state.resizable(&app.id).into_iter().filter(|(_, verdict)| verdict.is_ok());
    let resize: Vec<InstanceId> = possible.map(|(id, _)| id).take(missing as usize).collect();
    (!resize.is_empty()).then(|| Moves { resize, ..Moves::default() })
}
