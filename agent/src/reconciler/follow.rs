//! The generation rules: whether an assignment set follows on what the agent holds.

use bramble_core::model::{Assignment, TaskId};
use bramble_protocol::message::AssignmentSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an assignment set means for the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It was computed before what the agent holds: a leader that is behind.
    Older,
    /// A difference against a generation the agent does not hold.
    Gap,
    /// Only what really changes.
    Change { put: Vec<Arc<Assignment>>, remove: Vec<TaskId> },
}

/// Compare a set with the assignments of `generation`.
///
/// A set of the same generation is taken again: a new session begins with a complete one.
pub fn follow(
    generation: u64,
    held: &BTreeMap<TaskId, Arc<Assignment>>,
    set: AssignmentSet,
) -> Follow {
    if set.generation < generation {
        return Follow::Older;
    }
    let remove: Vec<TaskId> = match set.base {
        Some(base) if base != generation => return Follow::Gap,
        Some(_) => set.remove.into_iter().filter(|id| held.contains_key(id)).collect(),
        None => {
            let named: BTreeSet<&TaskId> = set.put.iter().map(|a| &a.task_id).collect();
            held.keys().filter(|id| !named.contains(id)).cloned().collect()
        }
    };
    let put = set
        .put
        .into_iter()
        .filter(|new| held.get(&new.task_id).is_none_or(|old| **old != *new))
        .map(Arc::new)
        .collect();
    Follow::Change { put, remove }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::assignment;

    #[test]
    fn sets_follow_by_generation() {
        let held: BTreeMap<_, _> = ["a", "b"]
            .map(|id| (TaskId::new(id), Arc::new(assignment(id, true))))
            .into_iter()
            .collect();
        let set = |generation, base, put: &[(&str, bool)], remove: &[&str]| AssignmentSet {
            generation,
            base,
            put: put.iter().map(|(id, run)| assignment(id, *run)).collect(),
            remove: remove.iter().map(|id| TaskId::new(*id)).collect(),
            ..AssignmentSet::default()
        };
        let change = |put: &[(&str, bool)], remove: &[&str]| Follow::Change {
            put: put.iter().map(|(id, run)| Arc::new(assignment(id, *run))).collect(),
            remove: remove.iter().map(|id| TaskId::new(*id)).collect(),
        };
        let cases = [
            ("older complete", set(4, None, &[], &[]), Follow::Older),
            ("older difference", set(4, Some(3), &[], &[]), Follow::Older),
            ("the same again", set(5, None, &[("a", true), ("b", true)], &[]), change(&[], &[])),
            ("complete drops the unnamed", set(6, None, &[("b", true), ("c", true)], &[]), {
                change(&[("c", true)], &["a"])
            }),
            ("chained difference", set(6, Some(5), &[("a", false)], &["b", "unknown"]), {
                change(&[("a", false)], &["b"])
            }),
            ("difference not on ours", set(7, Some(6), &[("c", true)], &[]), Follow::Gap),
            ("difference on an older base", set(7, Some(4), &[("c", true)], &[]), Follow::Gap),
        ];
        for (name, set, expected) in cases {
            assert_eq!(follow(5, &held, set), expected, "{name}");
        }
    }

    #[test]
    fn a_difference_to_an_agent_that_holds_nothing_is_a_gap() {
        let set = AssignmentSet { generation: 9, base: Some(8), ..AssignmentSet::default() };
        assert_eq!(follow(0, &BTreeMap::new(), set), Follow::Gap);
    }
}
