//! The agent's decision: desired tasks x observed tasks -> actions.

use crate::model::TaskId;
use std::collections::BTreeMap;

/// What is wanted of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub run: bool,
    pub kill_grace_ms: u64,
}

/// What the agent sees of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Being brought up: images, network, executor.
    Starting,
    Running,
    /// Told to stop.
    Stopping,
    /// Ended; its last status is in the ledger.
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start(TaskId),
    Stop {
        task_id: TaskId,
        grace_ms: u64,
    },
    /// It shall not run and nothing of it runs: report it as killed.
    ReportNeverStarted(TaskId),
    /// The cluster no longer knows it: remove what is left of it.
    Forget(TaskId),
}

/// Actions that bring `seen` towards `wanted`, in task order. Calling it again after its actions
/// were performed gives nothing new (a fixed point).
pub fn converge(wanted: &BTreeMap<TaskId, Wanted>, seen: &BTreeMap<TaskId, Seen>) -> Vec<Action> {
    let mut actions = Vec::new();
    for (task_id, want) in wanted {
        match (want.run, seen.get(task_id)) {
            (true, None) => actions.push(Action::Start(task_id.clone())),
            (false, None) => actions.push(Action::ReportNeverStarted(task_id.clone())),
            (false, Some(Seen::Starting | Seen::Running)) => actions
                .push(Action::Stop { task_id: task_id.clone(), grace_ms: want.kill_grace_ms }),
            _ => {}
        }
    }
    for (task_id, seen) in seen {
        if wanted.contains_key(task_id) {
            continue;
        }
        match seen {
            Seen::Starting | Seen::Running => {
                actions.push(Action::Stop { task_id: task_id.clone(), grace_ms: 0 });
            }
            Seen::Stopping => {}
            Seen::Ended => actions.push(Action::Forget(task_id.clone())),
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// (wanted: run or stop, seen) -> action, for every pair.
    #[test]
    fn every_pair_has_its_action() {
        let id = TaskId::new("t");
        let start = || Some(Action::Start(id.clone()));
        let stop = |grace_ms| Some(Action::Stop { task_id: id.clone(), grace_ms });
        let never = || Some(Action::ReportNeverStarted(id.clone()));
        let forget = || Some(Action::Forget(id.clone()));
        use Seen::*;
        let cases = [
            (Some(true), None, start()),
            (Some(true), Some(Starting), None),
            (Some(true), Some(Running), None),
            // Its end is on the way to the master, which then decides.
            (Some(true), Some(Stopping), None),
            (Some(true), Some(Ended), None),
            (Some(false), None, never()),
            (Some(false), Some(Starting), stop(7)),
            (Some(false), Some(Running), stop(7)),
            (Some(false), Some(Stopping), None),
            (Some(false), Some(Ended), None),
            (None, None, None),
            (None, Some(Starting), stop(0)),
            (None, Some(Running), stop(0)),
            (None, Some(Stopping), None),
            (None, Some(Ended), forget()),
        ];
        for (run, seen, action) in cases {
            let wanted = run.map(|run| (id.clone(), Wanted { run, kill_grace_ms: 7 }));
            let wanted = wanted.into_iter().collect();
            let observed = seen.map(|seen| (id.clone(), seen)).into_iter().collect();
            let expected: Vec<Action> = action.into_iter().collect();
            assert_eq!(converge(&wanted, &observed), expected, "{run:?} {seen:?}");
        }
    }

    fn tasks<T: std::fmt::Debug>(
        value: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = BTreeMap<TaskId, T>> {
        prop::collection::btree_map((0..8u8).prop_map(|n| TaskId(format!("t{n}"))), value, 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Performing the actions leaves nothing to do, and so does everything stopping leaves
        /// nothing but what is wanted.
        #[test]
        fn actions_reach_a_fixed_point(
            wanted in tasks(any::<bool>().prop_map(|run| Wanted { run, kill_grace_ms: 1 })),
            seen in tasks(prop_oneof![
                Just(Seen::Starting), Just(Seen::Running), Just(Seen::Stopping), Just(Seen::Ended)
            ]),
        ) {
            let mut seen = seen;
            perform(&converge(&wanted, &seen), &mut seen);
            prop_assert_eq!(converge(&wanted, &seen), vec![]);
            for state in seen.values_mut().filter(|s| **s == Seen::Stopping) {
                *state = Seen::Ended;
            }
            perform(&converge(&wanted, &seen), &mut seen);
            prop_assert_eq!(converge(&wanted, &seen), vec![]);
            prop_assert!(seen.keys().eq(wanted.keys()));
            for (id, want) in &wanted {
                prop_assert!(want.run || seen[id] == Seen::Ended);
            }
        }
    }

    fn perform(actions: &[Action], seen: &mut BTreeMap<TaskId, Seen>) {
        for action in actions {
            match action {
                Action::Start(id) => seen.insert(id.clone(), Seen::Starting),
                Action::Stop { task_id, .. } => seen.insert(task_id.clone(), Seen::Stopping),
                Action::ReportNeverStarted(id) => seen.insert(id.clone(), Seen::Ended),
                Action::Forget(id) => seen.remove(id),
            };
        }
    }
}
