//! What decides everything: one seed and one clock, for the whole process.
//!
//! The program under `main.rs` answers the C library's `getrandom` and `clock_gettime` from here,
//! so that hash maps, `select!`, uuids and every clock follow the seed without the code under
//! simulation knowing. Outside of a run nothing is answered, and the system is asked.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// 2026-01-01, where wall clocks begin: seconds since 1970.
const WALL_BEGIN_S: u64 = 1_767_225_600;
/// What monotonic clocks begin with, so that nothing underflows.
const MONOTONIC_BEGIN_S: u64 = 1_000_000;

static ON: AtomicBool = AtomicBool::new(false);
static STATE: AtomicU64 = AtomicU64::new(0);
static NOW_NS: AtomicU64 = AtomicU64::new(0);
static BEGIN: OnceLock<Instant> = OnceLock::new();
static WALL_OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// From here on `seed` decides.
pub fn begin(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
    NOW_NS.store(0, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
    BEGIN.get_or_init(Instant::now);
}

/// Fill `bytes` with the next random ones; `false` outside of a run.
pub fn fill(bytes: &mut [u8]) -> bool {
    if !ON.load(Ordering::Relaxed) {
        return false;
    }
    for chunk in bytes.chunks_mut(8) {
        let word = next().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    true
}

/// splitmix64.
fn next() -> u64 {
    let state = STATE.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.store(state, Ordering::Relaxed);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// It is `now` since the beginning of the run.
pub fn set_now(now: Duration) {
    NOW_NS.store(u64::try_from(now.as_nanos()).expect("a run is short"), Ordering::Relaxed);
}

/// Time since the beginning of the run: of the node that runs now, by its runtime's clock.
pub fn now() -> Duration {
    let world = Duration::from_nanos(NOW_NS.load(Ordering::Relaxed));
    if tokio::runtime::Handle::try_current().is_err() {
        return world;
    }
    // A runtime's clock began with a reading of ours, so that both count alike.
    let here = tokio::time::Instant::now().into_std();
    BEGIN.get().map_or(world, |begin| here.saturating_duration_since(*begin))
}

/// The time of the run at which monotonic clocks show `ms` milliseconds.
pub fn since_begin(ms: u64) -> Duration {
    Duration::from_millis(ms).saturating_sub(Duration::from_secs(MONOTONIC_BEGIN_S))
}

/// The wall clock of whoever runs now is off by this much.
pub fn set_wall_offset(ms: i64) {
    WALL_OFFSET_MS.store(ms, Ordering::Relaxed);
}

/// The reading of a clock; `None` outside of a run.
pub fn read(wall: bool) -> Option<Duration> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    if !wall {
        return Some(Duration::from_secs(MONOTONIC_BEGIN_S) + now());
    }
    let true_ms = Duration::from_secs(WALL_BEGIN_S) + now();
    let ms = i64::try_from(true_ms.as_millis()).expect("a run is short");
    let ms = ms.saturating_add(WALL_OFFSET_MS.load(Ordering::Relaxed)).max(0);
    Some(Duration::from_millis(ms.unsigned_abs()))
}
