//! Putting pods together again from what an earlier life of the agent left of their containers.

use super::{Ends, Part, Pod, Whole, is_finish};
use crate::reconciler::performer::{Container, Ending, Found};
use bramble_core::model::{Assignment, TaskId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The pod of each container that is part of one.
pub fn owners(
    assignments: &BTreeMap<TaskId, Arc<Assignment>>,
) -> BTreeMap<&TaskId, &Arc<Assignment>> {
    let pods = assignments.values();
    pods.flat_map(|pod| pod.spec.pod.iter().map(move |task| (&task.task_id, pod))).collect()
}

/// Make pods of the containers that belong to one; the others stay as they are.
pub fn assemble<C: Container>(
    assignments: &BTreeMap<TaskId, Arc<Assignment>>,
    mut found: BTreeMap<TaskId, Found<C>>,
) -> BTreeMap<TaskId, Found<Whole<C>>> {
    let mut whole = BTreeMap::new();
    for (id, pod) in assignments.iter().filter(|(_, task)| !task.spec.pod.is_empty()) {
        let parts = pod.spec.pod.iter().map(|task| found.remove(&task.task_id)).collect();
        if let Some(found) = joined(pod, parts) {
            whole.insert(id.clone(), found);
        }
    }
    let ones = found.into_iter().map(|(id, found)| {
        let found = match found {
            Found::Created(container) => Found::Created(Whole::One(container)),
            Found::Running(container) => Found::Running(Whole::One(container)),
            Found::Ended(ending) => Found::Ended(ending),
            Found::Dead => Found::Dead,
        };
        (id, found)
    });
    whole.extend(ones);
    whole
}

/// What the parts of one pod make. Parts without a trace or an executor mean that the agent died
/// while it made the pod, unless one of the others has run: then they have, too.
fn joined<C: Container>(pod: &Assignment, parts: Vec<Option<Found<C>>>) -> Option<Found<Whole<C>>> {
    if parts.iter().all(Option::is_none) {
        return None;
    }
    let is_there = |part: &Option<Found<C>>| !matches!(part, None | Some(Found::Dead));
    if !parts.iter().all(is_there) && !parts.iter().any(has_run) {
        return Some(Found::Dead);
    }
    let created = parts.iter().any(|part| matches!(part, Some(Found::Created(_))));
    let parts: Vec<Part<C>> = parts
        .into_iter()
        .map(|part| match part {
            Some(Found::Created(container) | Found::Running(container)) => Part::Live(container),
            Some(Found::Ended(ending)) => Part::Ended(ending),
            Some(Found::Dead) | None => Part::Ended(Ending::ExecutorDied),
        })
        .collect();
    if let Some(ends) = all_ended(&parts) {
        return Some(Found::Ended(Ending::Pod(ends)));
    }
    let whole = Whole::Pod(Pod::new(pod, parts));
    Some(if created { Found::Created(whole) } else { Found::Running(whole) })
}

fn has_run<C>(part: &Option<Found<C>>) -> bool {
    match part {
        Some(Found::Running(_)) => true,
        Some(Found::Ended(Ending::Exited(exit))) => exit.failure.is_none(),
        _ => false,
    }
}

fn all_ended<C>(parts: &[Part<C>]) -> Option<Ends> {
    let endings: Option<Vec<Option<Ending>>> = parts
        .iter()
        .map(|part| match part {
            Part::Ended(ending) => Some(Some(ending.clone())),
            Part::Live(_) => None,
        })
        .collect();
    let endings = endings?;
    let culprit = endings.iter().flatten().position(|ending| !is_finish(ending));
    Some(Ends { endings, culprit })
}
