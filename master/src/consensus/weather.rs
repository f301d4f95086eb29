//! Watches for elections that lead nowhere, and changes raft's timing until it is calm.
//!
//! Timeouts of a good network are too short for disks, links or processors that are slow at the
//! moment: whoever is elected is not heard in time, and the next one stands. Sole caller of a
//! change of timing, apart from that for the first further member.

use super::{Consensus, Profile};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Terms within [`STORM_WITHIN`] that are a storm. A leader's death costs one, a split vote
/// another.
const STORM_TERMS: u64 = 6;
const STORM_WITHIN: Duration = Duration::from_secs(12);
/// The same leader for so long is calm: the timing of a good network is tried again.
const CALM_AFTER: Duration = Duration::from_secs(600);

/// What was seen of terms and leaders.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// When counting began, and in which term.
    counted_from: (Instant, u64),
    /// Since when one leader has led, and in which term.
    steady_from: (Instant, u64),
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fair,
    Storm,
    Calm,
}

impl Weather {
    fn new(now: Instant, term: u64) -> Self {
        Self { counted_from: (now, term), steady_from: (now, term) }
    }

    fn see(&mut self, now: Instant, term: u64, led: bool) -> Verdict {
        if !led || term != self.steady_from.1 {
            self.steady_from = (now, term);
        }
        // What a restarted raft first says of terms is all of its past.
        if self.counted_from.1 == 0 {
            self.counted_from = (now, term);
        }
        let (since, first) = self.counted_from;
        if term.saturating_sub(first) >= STORM_TERMS && now - since <= STORM_WITHIN {
            *self = Self::new(now, term);
            return Verdict::Storm;
        }
        if now - since > STORM_WITHIN {
            self.counted_from = (now, term);
        }
        if now - self.steady_from.0 >= CALM_AFTER {
            self.steady_from = (now, term);
            return Verdict::Calm;
        }
        Verdict::Fair
    }
}

impl Consensus {
    /// Look after the timing until `stop`.
    pub async fn watch_weather(self: Arc<Self>, stop: CancellationToken) {
        let mut leadership = self.leadership();
        let mut weather = Weather::new(Instant::now(), leadership.borrow().term);
        loop {
            let (term, led) = {
                let seen = leadership.borrow_and_update();
                (seen.term, seen.leader.is_some())
            };
            let profile = self.profile();
            let outcome = match weather.see(Instant::now(), term, led) {
                Verdict::Storm if profile == Some(Profile::Fast) => {
                    tracing::warn!(term, "elections lead nowhere");
                    self.set_profile(Profile::Slow).await
                }
                Verdict::Calm if profile == Some(Profile::Slow) => {
                    self.set_profile(Profile::Fast).await
                }
                _ => Ok(()),
            };
            if let Err(error) = outcome {
                // Raft is over then, and the node with it.
                tracing::error!(error = &error as &dyn std::error::Error, "no timing to change");
                return;
            }
            let calm = weather.steady_from.0 + CALM_AFTER;
            tokio::select! {
                () = stop.cancelled() => return,
                changed = leadership.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(calm), if self.profile() == Some(Profile::Slow) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_terms_at_once_are_a_storm_and_one_leader_for_long_is_calm() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        type Seen<'a> = &'a [(u64, u64, bool, Verdict)];
        let cases: [(&str, Seen); 5] = [
            ("a leader dies", &[(0, 1, true, Verdict::Fair), (900, 2, true, Verdict::Fair)]),
            ("votes are split", &[(0, 1, true, Verdict::Fair), (2_000, 6, true, Verdict::Fair)]),
            (
                "a storm, and none for a while after it was seen",
                &[
                    (0, 1, true, Verdict::Fair),
                    (2_000, 7, false, Verdict::Storm),
                    (2_500, 12, false, Verdict::Fair),
                    (3_000, 13, false, Verdict::Storm),
                ],
            ),
            (
                "an election now and then",
                &[
                    (0, 1, true, Verdict::Fair),
                    (13_000, 4, true, Verdict::Fair),
                    (26_000, 7, true, Verdict::Fair),
                    (39_000, 10, true, Verdict::Fair),
                ],
            ),
            (
                "calm",
                &[
                    (0, 1, true, Verdict::Fair),
                    (300_000, 2, true, Verdict::Fair),
                    (600_000, 2, true, Verdict::Fair),
                    (900_000, 2, true, Verdict::Calm),
                    (900_001, 2, true, Verdict::Fair),
                ],
            ),
        ];
        for (name, seen) in cases {
            let mut weather = Weather::new(start, 1);
            for (ms, term, led, expected) in seen {
                assert_eq!(weather.see(at(*ms), *term, *led), *expected, "{name} at {ms}");
            }
        }
        let mut restarted = Weather::new(start, 0);
        assert_eq!(restarted.see(at(300), 40, false), Verdict::Fair, "its past");
        assert_eq!(restarted.see(at(900), 41, true), Verdict::Fair);
        assert_eq!(restarted.see(at(5_000), 46, false), Verdict::Storm);
    }
}
