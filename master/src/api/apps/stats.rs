//! `taskStats`: tasks of an app counted by the version they run (Marathon's contract, 2.1.1).

use bramble_core::model::{AppRecord, Instance, Task, TaskState, Time};
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    started_after_last_scaling: Option<Bucket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    with_latest_config: Option<Bucket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    with_outdated_config: Option<Bucket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_summary: Option<Bucket>,
}

#[derive(Debug, Serialize)]
struct Bucket {
    stats: Stats,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    life_time: Option<LifeTime>,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    staged: u32,
    running: u32,
    healthy: u32,
    unhealthy: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LifeTime {
    average_seconds: f64,
    median_seconds: f64,
}

/// Count `tasks` of an app.
pub(super) fn task_stats(record: &AppRecord, tasks: &[(&Instance, &Task)], now: Time) -> TaskStats {
    let last_scaling = record.app.last_scaling;
    let of = |wanted: &dyn Fn(Time) -> bool| {
        let chosen: Vec<&Task> =
            tasks.iter().filter(|(i, _)| wanted(i.version)).map(|(_, t)| *t).collect();
        (!chosen.is_empty()).then(|| Bucket { stats: stats(&chosen, now) })
    };
    TaskStats {
        started_after_last_scaling: of(&|version| version >= last_scaling),
        with_latest_config: of(&|version| record.is_current(version)),
        with_outdated_config: of(&|version| !record.is_current(version)),
        total_summary: of(&|_| true),
    }
}

fn stats(tasks: &[&Task], now: Time) -> Stats {
    let mut counts = Counts::default();
    let mut lives: Vec<u64> = Vec::new();
    for task in tasks {
        match task.state {
            TaskState::Staging | TaskState::Starting => counts.staged += 1,
            TaskState::Running => counts.running += 1,
            _ => {}
        }
        match task.healthy {
            Some(true) => counts.healthy += 1,
            Some(false) => counts.unhealthy += 1,
            None => {}
        }
        lives.extend(task.started_at.map(|start| now.since_ms(start)));
    }
    lives.sort_unstable();
    Stats { counts, life_time: life_time(&lives) }
}

/// Of sorted milliseconds.
fn life_time(lives: &[u64]) -> Option<LifeTime> {
    let middle = lives.len() / 2;
    let upper = *lives.get(middle)?;
    let lower = if lives.len().is_multiple_of(2) { lives[middle - 1] } else { upper };
    let seconds = |ms: f64| ms / 1000.0;
    Some(LifeTime {
        average_seconds: seconds(lives.iter().sum::<u64>() as f64 / lives.len() as f64),
        median_seconds: seconds((lower + upper) as f64 / 2.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::state::{add_app, running};
    use bramble_core::model::{AppId, State};

    #[test]
    fn buckets_follow_versions_and_empty_ones_are_left_out() {
        let mut state = State::default();
        add_app(&mut state, "/a", 2);
        running(&mut state, "/a", "1");
        running(&mut state, "/a", "2");
        state.instances.values_mut().next().unwrap().version = Time(10);
        let id = AppId::new("/a");
        let tasks: Vec<_> =
            state.instances_of(&id).map(|i| (i, i.task.as_ref().unwrap())).collect();
        let stats = task_stats(&state.apps[&id], &tasks, Time(9000));
        let one = r#"{"stats":{"counts":{"staged":0,"running":1,"healthy":0,"unhealthy":0},"lifeTime":{"averageSeconds":5.0,"medianSeconds":5.0}}}"#;
        let two = one.replace("\"running\":1", "\"running\":2");
        assert_eq!(
            serde_json::to_string(&stats).unwrap(),
            format!(
                r#"{{"startedAfterLastScaling":{one},"withLatestConfig":{one},"withOutdatedConfig":{one},"totalSummary":{two}}}"#
            )
        );
        let none = serde_json::to_string(&task_stats(&state.apps[&id], &[], Time(0))).unwrap();
        assert_eq!(none, "{}");
    }

    #[test]
    fn lives_have_a_middle() {
        let median =
            |lives: &[u64]| life_time(lives).map(|l| (l.average_seconds, l.median_seconds));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1000, 2000, 6000]), Some((3.0, 2.0)));
        assert_eq!(median(&[1000, 2000]), Some((1.5, 1.5)));
    }
}
