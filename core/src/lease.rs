//! The lease of tasks that must not run twice: how long it lasts, and when it is surely over.
//!
//! An agent asks for it and names the moment on its own clock; a leader that proves, after it was
//! asked, that it leads answers with a time to live. The deadline is the moment of asking plus
//! that time, so that an answer which was long under way grants nothing it should not. The
//! executor of the task keeps the deadline, with or without an agent.
//!
//! Why a replacement is safe: a leader that records an agent as away has had no session with it,
//! and whoever led before was last proven to lead before that one was elected. So every deadline
//! lies before the record plus [`LEASE_MS`], on clocks that run equally fast. The margin is for
//! clocks that do not, and for the time it takes to kill.

use crate::model::Time;

/// How long a task may run on without hearing from a leader, in milliseconds.
pub const LEASE_MS: u64 = 10_000;
/// Waited beyond the lease before another task takes its place, in milliseconds.
pub const LEASE_MARGIN_MS: u64 = 5_000;
/// Pause between two renewals that an agent asks for, in milliseconds: three may be lost.
pub const LEASE_RENEW_MS: u64 = 2_000;
/// The end of a lease that a task is given to end in, in milliseconds.
pub const LEASE_GRACE_MS: u64 = 2_000;

/// When the lease of every task is over whose agent is away since `away`.
pub fn surely_over(away: Time) -> Time {
    away.plus_ms(LEASE_MS + LEASE_MARGIN_MS)
}

/// Whether a task may begin at `now_ms` under a lease until `until_ms`: one that is about to be
/// asked to end must not.
pub fn may_begin(until_ms: u64, now_ms: u64) -> bool {
    until_ms.saturating_sub(LEASE_GRACE_MS) > now_ms
}

/// When a task has to be asked to end, and when it is killed, under a lease until `until_ms`.
pub fn ends(until_ms: u64) -> (u64, u64) {
    (until_ms.saturating_sub(LEASE_GRACE_MS), until_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_task_begins_only_with_time_to_run() {
        for (until, now, may) in [(0, 0, false), (0, 5, false), (2_000, 0, false), (2_001, 0, true)]
        {
            assert_eq!(may_begin(until, now), may, "{until} {now}");
        }
        assert_eq!(ends(10_000), (8_000, 10_000));
        assert_eq!(ends(1_000), (0, 1_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// One true time. An agent asks, a leader is proven afterwards, another is elected after
        /// that and records the agent as away once it has waited; clocks differ in rate by up to
        /// 5 %. Nothing of the old task runs when the new one may begin.
        #[test]
        fn a_lease_ends_before_its_replacement_begins(
            asked in 0u64..1_000_000,
            proven_after in 0u64..10_000_000,
            elected_after in 0u64..10_000,
            timeout in 0u64..100_000,
            // Rates of the agent's and of the new leader's clock, in thousandths.
            agent_rate in 950u64..=1050,
            leader_rate in 950u64..=1050,
        ) {
            let elected = asked + proven_after + elected_after;
            let killed = asked + LEASE_MS * 1000 / agent_rate;
            let away = elected + timeout;
            let waited = surely_over(Time(0)).0;
            let replaced = away + waited * 1000 / leader_rate;
            prop_assert!(killed < replaced, "{killed} {replaced}");
        }
    }
}
