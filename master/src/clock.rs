//! The cluster's time: what the leader stamps on commands, and what every deadline is compared with.
//!
//! Owns the only look at the wall clock. Time is a base and what has passed since by the monotonic
//! clock, so that no jump of the wall clock moves it, in either direction. The base is chosen when
//! a master begins to lead: its wall clock, unless cluster time is ahead of that. A cluster that
//! has been in 2099 stays there, and its time goes on from there.
//!
//! A wall clock is believed as little as can be:
//! - One that stands before the first bramble was made is not set (a Raspberry Pi at boot). Once
//!   it is, the leader's time jumps forward to it, once.
//! - A master that has followed a living leader knows the time from it, and takes up its own wall
//!   clock only where that is ahead by no more than [`LEAP_MAX`]: one with a clock decades ahead
//!   must not make every deadline pass because it was elected.

use bramble_core::model::Time;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z, before the first release: no clock that is set shows an earlier time.
const FIRST_BELIEVABLE: Time = Time(1_767_225_600_000);
/// How far ahead of the time it was told as a follower a new leader believes its wall clock: more
/// than any idle cluster goes without a command, less than a clock that is really wrong is off.
const LEAP_MAX: Duration = Duration::from_secs(24 * 3600);
/// For tests only: seconds added to this process's wall clock, may be negative.
const OFFSET_VARIABLE: &str = "BRAMBLE_TEST_CLOCK_OFFSET_S";

/// Where the wall clock is read. Simulations have their own.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Time + Send + Sync>);

impl WallClock {
    /// A wall clock of one's own.
    pub fn new(read: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// This moment by it.
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl Default for WallClock {
    /// This machine's.
    fn default() -> Self {
        Self::new(machine_time)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({:?})", self.now())
    }
}

/// This moment by this machine's clock; 1970 when the clock is set before it.
fn machine_time() -> Time {
    static OFFSET_S: OnceLock<i64> = OnceLock::new();
    let offset = *OFFSET_S.get_or_init(|| {
        let given = std::env::var(OFFSET_VARIABLE).ok();
        given.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    });
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Time(millis.saturating_add_signed(offset.saturating_mul(1000)))
}

/// Cluster time as one master knows it.
#[derive(Debug)]
pub struct ClusterClock {
    wall: WallClock,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    base: Time,
    since: Instant,
    /// Whether the base is a time that a leader gave: this master's, or another.
    told: bool,
    /// The wall clock was not set when the base was taken from it.
    awaits_wall: bool,
}

impl Inner {
    fn now(&self) -> Time {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Time(self.base.0.saturating_add(passed))
    }

    fn rebase(&mut self, base: Time) {
        (self.base, self.since) = (base, Instant::now());
    }
}

impl ClusterClock {
    /// Go on from `recovered`, the latest time the log tells of, or from the wall clock if later.
    pub fn new(wall: WallClock, recovered: Time) -> Self {
        let read = wall.now();
        let inner = Inner {
            base: read.max(recovered),
            since: Instant::now(),
            told: false,
            awaits_wall: read < FIRST_BELIEVABLE,
        };
        Self { wall, inner: Mutex::new(inner) }
    }

    /// This moment in cluster time: never before the time of anything applied.
    pub fn now(&self) -> Time {
        let mut inner = self.lock();
        if inner.awaits_wall {
            let read = self.wall.now();
            if read >= FIRST_BELIEVABLE {
                inner.awaits_wall = false;
                if read > inner.now() {
                    tracing::info!(?read, "the wall clock is set now; cluster time follows it");
                    inner.rebase(read);
                }
            }
        }
        inner.now()
    }

    /// Something with this time was applied.
    pub(crate) fn observe(&self, applied: Time) {
        let mut inner = self.lock();
        if applied > inner.now() {
            inner.rebase(applied);
        }
    }

    /// Another master leads; `applied` is the latest time it is known to have given.
    pub(crate) fn follow(&self, applied: Time) {
        let mut inner = self.lock();
        inner.awaits_wall = false;
        if !inner.told {
            inner.told = true;
            inner.rebase(applied);
        }
    }

    /// This master begins to lead.
    pub(crate) fn lead(&self) {
        let mut inner = self.lock();
        let (known, read) = (inner.now(), self.wall.now());
        inner.awaits_wall &= read < FIRST_BELIEVABLE;
        if read <= known {
            if !inner.told && read >= FIRST_BELIEVABLE && known.since_ms(read) > leap_max_ms() {
                tracing::warn!(?known, ?read, "cluster time is ahead of the wall clock, and stays");
            }
        } else if inner.told && read.since_ms(known) > leap_max_ms() {
            tracing::warn!(?known, ?read, "the wall clock is far ahead of cluster time; ignored");
        } else {
            inner.rebase(read);
        }
        inner.told = true;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn leap_max_ms() -> u64 {
    u64::try_from(LEAP_MAX.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;
    const RIGHT: Time = Time(FIRST_BELIEVABLE.0 + YEAR_MS);

    /// A wall clock that a test sets.
    fn settable(at: Time) -> (Arc<AtomicU64>, WallClock) {
        let hand = Arc::new(AtomicU64::new(at.0));
        let read = hand.clone();
        (hand, WallClock::new(move || Time(read.load(Ordering::SeqCst))))
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn jumps_of_the_wall_clock_move_nothing() {
        let (hand, wall) = settable(RIGHT);
        let clock = ClusterClock::new(wall, Time(0));
        clock.lead();
        for jump in [RIGHT.0 + 73 * YEAR_MS, 0, FIRST_BELIEVABLE.0, RIGHT.0 - 1, u64::MAX] {
            let before = clock.now();
            hand.store(jump, Ordering::SeqCst);
            assert_eq!(clock.now(), before, "{jump}");
            pass(5).await;
            assert_eq!(clock.now(), before.plus_ms(5_000), "{jump}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_from_the_future_goes_on_under_a_right_clock() {
        let future = RIGHT.plus_ms(73 * YEAR_MS);
        for wall in [RIGHT, Time(0), future.plus_ms(1)] {
            let clock = ClusterClock::new(settable(wall).1, future);
            clock.lead();
            let began = clock.now();
            assert_eq!(began, future.max(wall));
            pass(60).await;
            assert_eq!(clock.now(), began.plus_ms(60_000), "it stands still at {wall:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_late_moves_time_once() {
        let (hand, wall) = settable(Time(1000));
        let clock = ClusterClock::new(wall, Time(0));
        clock.lead();
        pass(30).await;
        assert_eq!(clock.now(), Time(31_000), "without a clock time passes all the same");
        hand.store(RIGHT.0, Ordering::SeqCst);
        assert_eq!(clock.now(), RIGHT);
        hand.store(RIGHT.0 + YEAR_MS, Ordering::SeqCst);
        assert_eq!(clock.now(), RIGHT, "the second time is a jump like any other");
        // What the log knows is no reason to wait less for a clock.
        let (hand, wall) = settable(Time(1000));
        let clock = ClusterClock::new(wall, RIGHT);
        clock.lead();
        hand.store(RIGHT.0 + YEAR_MS, Ordering::SeqCst);
        assert_eq!(clock.now(), RIGHT.plus_ms(YEAR_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_learns_the_time_and_keeps_it_when_it_leads() {
        let cases = [
            ("decades ahead", RIGHT.plus_ms(73 * YEAR_MS), 0),
            ("behind", Time(FIRST_BELIEVABLE.0), 0),
            ("not set", Time(0), 0),
            ("ahead by a little", RIGHT.plus_ms(3_600_000), 3_600_000),
        ];
        for (name, at, ahead) in cases {
            let clock = ClusterClock::new(settable(at).1, Time(7));
            clock.follow(Time(7));
            clock.observe(RIGHT);
            pass(10).await;
            clock.follow(RIGHT);
            assert_eq!(clock.now(), RIGHT.plus_ms(10_000), "{name}: as the leader's goes on");
            clock.lead();
            let expected = RIGHT.plus_ms(10_000.max(ahead));
            assert_eq!(clock.now(), expected, "{name}");
            pass(10).await;
            assert_eq!(clock.now(), expected.plus_ms(10_000), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_applied_is_never_in_the_future() {
        let clock = ClusterClock::new(settable(RIGHT).1, Time(0));
        clock.observe(RIGHT.plus_ms(YEAR_MS));
        assert_eq!(clock.now(), RIGHT.plus_ms(YEAR_MS));
        clock.observe(RIGHT);
        pass(1).await;
        assert_eq!(clock.now(), RIGHT.plus_ms(YEAR_MS + 1000));
        clock.observe(Time(u64::MAX));
        pass(1).await;
        assert_eq!(clock.now(), Time(u64::MAX), "the end of time is no overflow");
    }
}
