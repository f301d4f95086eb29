//! The replicated state machine: the only code that changes a [`State`].
//!
//! Each family of commands has a file. Every one of them checks first and changes after, so that
//! a rejection changes nothing; none of them reads a clock, draws an id or panics.

use crate::command::{Entry, Rejection};
use crate::event::Event;
use crate::model::State;

/// Apply one committed entry.
///
/// # Errors
/// The command is refused; but for `applied_index` and `now` the state is as it was.
pub fn apply(state: &mut State, entry: &Entry) -> Result<Vec<Event>, Rejection> {
    state.now = state.now.max(entry.now);
    state.applied_index = entry.index;
    Ok(Vec::new())
}
