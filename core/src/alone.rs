//! What an agent decides by itself while no master can be reached: when a task that ended is
//! started again, and when one is stopped.
//!
//! Owns the rules and no memory: moments are milliseconds on the clock of the agent's boot, handed
//! in. A restart goes on with the same task, so that nothing is new to the cluster when masters
//! are back. What the cluster has heard of, or must decide, is never touched.

use crate::deploy::duration_ms;
use crate::machine::after_failure;
use crate::model::{
    AlonePolicy, App, BackoffStrategy, LABEL_ON_PARTITION, LaunchDelay, TaskState, Time,
};

/// How long an agent without a session leaves it to the masters what becomes of a task that
/// ended, in milliseconds: another leader takes over meanwhile, and would replace the task too.
pub const ALONE_AFTER_MS: u64 = 3_000;

/// What is known of a task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its assignment says that it shall run.
    pub wanted: bool,
    /// A master has committed the end: whatever follows is for the cluster to say.
    pub acknowledged: bool,
    /// It was stopped because nothing shall run here: the node went down, or was cut off for
    /// longer than the app bears.
    pub on_purpose: bool,
    /// Not before this moment, for it failed before.
    pub not_before_ms: u64,
}

/// When an ended task is to be started again by an agent without a session since `without_ms`;
/// `None`: never, as things are.
///
/// A task under a lease is not started again even while that lasts: its end may have been heard
/// although nobody said so, and another may run already.
pub fn restart_at(policy: &AlonePolicy, ended: &Ended, without_ms: u64) -> Option<u64> {
    let no = !ended.wanted || ended.acknowledged || ended.on_purpose || policy.leased;
    let at = without_ms.saturating_add(ALONE_AFTER_MS).max(ended.not_before_ms);
    let stopped_before = stop_at(policy, without_ms).is_some_and(|stop| stop <= at);
    (!no && !stopped_before).then_some(at)
}

/// When a task is to be stopped by an agent without a session since `without_ms`; `None`: never.
pub fn stop_at(policy: &AlonePolicy, without_ms: u64) -> Option<u64> {
    policy.stop_after_ms.map(|after| without_ms.saturating_add(after))
}

/// The delay that follows an end at `now_ms`, as the masters would have it (Marathon, section 8:
/// every ending but a kill makes the next launch wait).
pub fn delay_after(
    earlier: LaunchDelay,
    state: TaskState,
    strategy: &BackoffStrategy,
    now_ms: u64,
) -> LaunchDelay {
    match state.delays_launch() {
        true => after_failure(earlier, strategy, Time(now_ms)),
        false => earlier,
    }
}

/// Read what an app's label says of a time without masters: after how many milliseconds to stop;
/// `None` = keep running.
///
/// # Errors
/// What the label must look like.
pub fn on_partition(app: &App) -> Result<Option<u64>, String> {
    let Some(value) = app.labels.get(LABEL_ON_PARTITION).map(|value| value.trim()) else {
        return Ok(None);
    };
    if value == "keep" {
        return Ok(None);
    }
    let after = value.strip_prefix("stop:").and_then(|time| duration_ms(time.trim()).ok());
    after.map(Some).ok_or_else(|| {
        "must be keep, or stop: and a time from 1s to 7d, for example stop:60s".to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AppId;
    use proptest::prelude::*;

    const ENDED: Ended =
        Ended { wanted: true, acknowledged: false, on_purpose: false, not_before_ms: 0 };

    fn policy(leased: bool, stop_after_ms: Option<u64>) -> AlonePolicy {
        AlonePolicy { leased, stop_after_ms, ..AlonePolicy::default() }
    }

    #[test]
    fn a_task_is_restarted_only_where_nobody_else_can_decide() {
        let plain = policy(false, None);
        let cases = [
            ("ended", plain, ENDED, Some(13_000)),
            ("waits after failures", plain, Ended { not_before_ms: 50_000, ..ENDED }, {
                Some(50_000)
            }),
            ("a delay within the grace", plain, Ended { not_before_ms: 11_000, ..ENDED }, {
                Some(13_000)
            }),
            ("unwanted", plain, Ended { wanted: false, ..ENDED }, None),
            ("the cluster knows", plain, Ended { acknowledged: true, ..ENDED }, None),
            ("bramble down", plain, Ended { on_purpose: true, ..ENDED }, None),
            ("leased", policy(true, None), ENDED, None),
            ("would be stopped at once", policy(false, Some(3_000)), ENDED, None),
            ("runs until it is stopped", policy(false, Some(3_001)), ENDED, Some(13_000)),
            (
                "would wait until it is stopped",
                policy(false, Some(60_000)),
                Ended { not_before_ms: 70_000, ..ENDED },
                None,
            ),
        ];
        for (name, policy, ended, expected) in cases {
            assert_eq!(restart_at(&policy, &ended, 10_000), expected, "{name}");
        }
    }

    #[test]
    fn ends_delay_as_the_masters_would_have_it() {
        let strategy = BackoffStrategy { initial_ms: 1000, factor_ppm: 2_000_000, max_ms: 3000 };
        let mut delay = LaunchDelay::default();
        let ends = [
            (TaskState::Finished, 10_000, 11_000),
            (TaskState::Failed, 12_000, 14_000),
            (TaskState::Killed, 15_000, 14_000),
            (TaskState::Failed, 14_500, 17_500),
            (TaskState::Failed, 60_000, 61_000),
        ];
        for (state, now, until) in ends {
            delay = delay_after(delay, state, &strategy, now);
            assert_eq!(delay.until, Time(until), "{state:?} at {now}");
        }
    }

    #[test]
    fn the_label_is_keep_or_a_time() {
        let read = |value: &str| {
            let mut app = App::with_defaults(AppId::new("/a"));
            app.labels.insert(LABEL_ON_PARTITION.into(), value.into());
            on_partition(&app)
        };
        assert_eq!(on_partition(&App::with_defaults(AppId::new("/a"))), Ok(None));
        assert_eq!(read("keep"), Ok(None));
        assert_eq!(read("stop:60s"), Ok(Some(60_000)));
        assert_eq!(read(" stop: 5m "), Ok(Some(300_000)));
        for bad in ["", "stop", "stop:", "stop:0s", "stop:60", "stop:8d", "Keep", "60s"] {
            assert!(read(bad).is_err_and(|told| told.contains("stop:60s")), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Whatever happens, nothing is started before the grace, before its delay, or to be
        /// stopped at once, and nothing at all that is not this agent's to decide.
        #[test]
        fn restarts_are_late_enough_and_last(
            wanted: bool, acknowledged: bool, on_purpose: bool, leased: bool,
            not_before_ms in 0u64..1_000_000,
            stop_after_ms in proptest::option::of(0u64..1_000_000),
            without_ms in 0u64..1_000_000,
        ) {
            let ended = Ended { wanted, acknowledged, on_purpose, not_before_ms };
            let policy = policy(leased, stop_after_ms);
            if let Some(at) = restart_at(&policy, &ended, without_ms) {
                prop_assert!(wanted && !acknowledged && !on_purpose && !leased);
                prop_assert!(at >= without_ms + ALONE_AFTER_MS && at >= not_before_ms);
                prop_assert!(stop_at(&policy, without_ms).is_none_or(|stop| at < stop));
            }
        }
    }
}
