//! One run: faults, then healing, then whatever must still come true.

use crate::faults::Faults;
use crate::invariants::{self, Sight};
use crate::net::Net;
use crate::planted::Planted;
use crate::trace::Trace;
use crate::world::{MASTERS, NODES, TICK, World};
use crate::{client::Known, fate};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

/// How long a cluster may take to come to be in a world without faults.
const FOUNDING_MAX: Duration = Duration::from_secs(20);
/// How long faults go on, in milliseconds.
const FAULTS_MS: std::ops::Range<u64> = 6_000..18_000;
/// How long after healing everything must be as it should.
const LIVENESS_MAX: Duration = Duration::from_secs(40);
/// How long it must then stay so, ended statuses and all.
const REST: Duration = Duration::from_secs(1);
/// Ticks between two looks of the invariants.
const LOOK_TICKS: u64 = 4;
/// Ticks between two looks at whether all has come to rest.
const SETTLED_TICKS: u64 = 20;

/// What a run came to.
pub struct Outcome {
    pub digest: u64,
    pub events: u64,
    pub acknowledged: usize,
    /// Virtual time it took.
    pub took: Duration,
}

/// Run the world of `seed` to its end.
///
/// # Errors
/// The invariant that does not hold, and when.
pub fn run(seed: u64, planted: Option<Planted>, printed: bool) -> Result<Outcome, String> {
    fate::begin(seed);
    fate::set_now(Duration::ZERO);
    let scratch = if std::path::Path::new("/dev/shm").is_dir() {
        tempfile::tempdir_in("/dev/shm")
    } else {
        tempfile::tempdir()
    };
    let scratch = scratch.map_err(|e| format!("no directory for snapshots: {e}"))?;
    let mut dice = StdRng::seed_from_u64(seed);
    let mut branch = || StdRng::seed_from_u64(dice.random());
    let net = Net::new(seed, NODES + 1, Trace::new(printed));
    let world = World::new(net, scratch.path(), branch(), branch(), planted);
    let faults = Faults::new(branch(), MASTERS, NODES);
    let faulty = Duration::from_millis(branch().random_range(FAULTS_MS));
    Run { world, invariants: invariants::all(), ticks: 0 }.through(faults, faulty)
}

struct Run {
    world: World,
    invariants: Vec<Box<dyn invariants::Invariant>>,
    ticks: u64,
}

impl Run {
    fn through(mut self, mut faults: Faults, faulty: Duration) -> Result<Outcome, String> {
        self.until(FOUNDING_MAX, "the cluster forms", World::is_formed)?;
        let end = self.world.now + faulty;
        while self.world.now < end {
            for (voter, candidate) in self.world.voted() {
                faults.voted(self.world.now, voter, candidate);
            }
            for fault in faults.due(self.world.now) {
                self.world.carry_out(fault);
            }
            self.tick()?;
        }
        self.world.client.wishes_apps = false;
        self.world.heal();
        let healed = self.world.now;
        self.until(LIVENESS_MAX, "a write is acknowledged after healing", |world| {
            world.client.answered_at > healed + TICK
        })?;
        self.converge(healed)?;
        self.look(true)?;
        let (digest, events) = self.world.net.sum();
        let acknowledged = self.world.client.acknowledged.len();
        let surely = self.world.client.apps.values().filter(|k| **k != Known::Perhaps).count();
        let took = self.world.now;
        Ok(Outcome { digest, events, acknowledged: acknowledged + surely, took })
    }

    /// Wait until nothing moves any more and all is as it should be.
    fn converge(&mut self, healed: Duration) -> Result<(), String> {
        let mut settled_at: Option<Duration> = None;
        loop {
            let why = invariants::unsettled(&Sight { world: &self.world });
            match (why, settled_at) {
                (None, None) => settled_at = Some(self.world.now),
                (None, Some(at)) if self.world.now - at >= REST => return Ok(()),
                (None, Some(_)) => {}
                (Some(why), _) => {
                    settled_at = None;
                    if self.world.now - healed > LIVENESS_MAX {
                        return Err(self.failed("converges", &why));
                    }
                }
            }
            for _ in 0..SETTLED_TICKS {
                self.tick()?;
            }
        }
    }

    fn until(
        &mut self,
        max: Duration,
        what: &str,
        ready: impl Fn(&World) -> bool,
    ) -> Result<(), String> {
        let end = self.world.now + max;
        while !ready(&self.world) {
            if self.world.now > end {
                return Err(self.failed("liveness", &format!("{what}: not within {max:?}")));
            }
            self.tick()?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), String> {
        self.world.tick();
        self.ticks += 1;
        if self.ticks.is_multiple_of(LOOK_TICKS) { self.look(false) } else { Ok(()) }
    }

    fn look(&mut self, last: bool) -> Result<(), String> {
        let sight = Sight { world: &self.world };
        for invariant in &mut self.invariants {
            let seen = match last {
                true => invariant.at_the_end(&sight),
                false => invariant.look(&sight),
            };
            if let Err(why) = seen {
                let name = invariant.name();
                return Err(self.failed(name, &why));
            }
        }
        Ok(())
    }

    fn failed(&self, name: &str, why: &str) -> String {
        let (digest, _) = self.world.net.sum();
        let at = self.world.now.as_secs_f64();
        format!("{name}, {at:.3} s into the run (trace {digest:016x}): {why}")
    }
}
