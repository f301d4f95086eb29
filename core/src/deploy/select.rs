//! Which instances go when an app is made smaller (Marathon's contract, section 8).

use super::crowd::Crowd;
use crate::model::{App, Instance, InstanceId, KillSelection, Operator, State, TaskState};
use crate::place::field_value;
use std::collections::BTreeMap;

/// Choose `surplus` instances: those without a task first, then unreachable, staging, starting,
/// running; old configurations before the current; those that may not be where they are before
/// others; within these so that the groups of GROUP_BY stay even; the rest as the app selects.
pub(super) fn choose_to_stop(
    state: &State,
    app: &App,
    crowd: &Crowd<'_>,
    surplus: u32,
) -> Vec<InstanceId> {
    if surplus == 0 {
        return Vec::new();
    }
    let mut left: Vec<&Instance> = crowd.new.iter().chain(&crowd.old).copied().collect();
    let rank = |i: &Instance| (progress(state, i), crowd.is_new(i), stands_well(i));
    left.sort_by_key(|i| (rank(i), age_order(app, i), &i.id));
    let field = app.constraints.iter().find(|c| c.operator == Operator::GroupBy).map(|c| &c.field);
    let mut chosen = Vec::new();
    while chosen.len() < surplus as usize && !left.is_empty() {
        let equals = left.iter().take_while(|i| rank(i) == rank(left[0])).count();
        let index = field.map_or(0, |field| of_largest_group(state, field, &left, equals));
        chosen.push(left.remove(index).id.clone());
    }
    chosen
}

/// The first of the leading `equals` that belongs to the largest group among all.
fn of_largest_group(state: &State, field: &str, left: &[&Instance], equals: usize) -> usize {
    let groups: Vec<Option<String>> = left.iter().map(|i| group(state, field, i)).collect();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for group in groups.iter().flatten() {
        *sizes.entry(group).or_default() += 1;
    }
    let size = |at: usize| groups[at].as_deref().map_or(0, |g| sizes[g]);
    (0..equals).fold(0, |best, at| if size(at) > size(best) { at } else { best })
}

fn group(state: &State, field: &str, instance: &Instance) -> Option<String> {
    let task = instance.task.as_ref()?;
    let (host, attributes) = state.place_of(task);
    field_value(field, &host, &attributes).map(std::borrow::Cow::into_owned)
}

/// How far an instance has come; one that nobody can reach may not be there at all.
fn progress(state: &State, instance: &Instance) -> u8 {
    let reachable = |id| state.agents.get(id).is_some_and(|agent| agent.reachable);
    match &instance.task {
        None => 0,
        Some(task) if !reachable(&task.agent_id) => 1,
        Some(task) => match task.state {
            TaskState::Staging => 2,
            TaskState::Starting => 3,
            _ => 4,
        },
    }
}

/// Whether an instance may stay where it is.
pub(super) fn stands_well(instance: &Instance) -> bool {
    instance.task.as_ref().is_none_or(|task| task.misplaced.is_none())
}

/// A number that is smaller for what the app's `killSelection` wants to go first.
pub(super) fn age_order(app: &App, instance: &Instance) -> u64 {
    let start = instance.task.as_ref().map(|t| t.started_at.unwrap_or(t.staged_at));
    let start = start.unwrap_or(instance.since).0;
    match app.kill_selection {
        KillSelection::OldestFirst => start,
        KillSelection::YoungestFirst => u64::MAX - start,
    }
}
