//! What goes wrong: crashes, reboots, cut links, weather, clocks that jump. Owns the dice and the
//! list of what has to be mended; the world carries it out.

use crate::net::Weather;
use rand::Rng;
use rand::rngs::StdRng;
use std::time::Duration;

/// Pause between two faults in milliseconds, in a rough world and in a quiet one.
const ROUGH_MS: std::ops::Range<u64> = 150..1_500;
const QUIET_MS: std::ops::Range<u64> = 800..4_000;
/// How long a cut or a node that is down lasts, in milliseconds.
const LASTS_MS: std::ops::Range<u64> = 100..6_000;
/// Farthest a wall clock jumps, in years.
const YEARS_MAX: i64 = 12;
const YEAR_MS: i64 = 365 * 24 * 3600 * 1000;

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The process ends; its disk and its containers stay.
    Crash(usize),
    /// The machine ends, and everything on it.
    Reboot(usize),
    Restart(usize),
    /// Nothing passes from one to the other.
    Cut(usize, usize),
    Mend(usize, usize),
    Weather(Weather),
    /// The wall clock of a node is off by so many milliseconds now.
    Clock(usize, i64),
}

pub struct Faults {
    rng: StdRng,
    nodes: usize,
    masters: usize,
    pause_ms: std::ops::Range<u64>,
    /// Faults of the future, those that end others among them.
    planned: Vec<(Duration, Fault)>,
    next_at: Duration,
}

impl Faults {
    pub fn new(mut rng: StdRng, masters: usize, nodes: usize) -> Self {
        let pause_ms = if rng.random_bool(0.6) { ROUGH_MS } else { QUIET_MS };
        let planned = Vec::new();
        Self { rng, nodes, masters, pause_ms, planned, next_at: Duration::ZERO }
    }

    /// What happens at `now`.
    pub fn due(&mut self, now: Duration) -> Vec<Fault> {
        if now >= self.next_at {
            let pause = self.rng.random_range(self.pause_ms.clone());
            self.next_at = now + Duration::from_millis(pause);
            self.plan(now);
        }
        self.planned.sort_by_key(|(at, _)| *at);
        let count = self.planned.partition_point(|(at, _)| *at <= now);
        self.planned.drain(..count).map(|(_, fault)| fault).collect()
    }

    /// A master has voted for another: the moment at which a vote that is not on disk does harm is
    /// the next one, so that chance alone would hardly ever find it.
    pub fn voted(&mut self, now: Duration, voter: usize, candidate: usize) {
        if voter == candidate || !self.rng.random_ratio(1, 3) {
            return;
        }
        let mut soon = |ms: std::ops::Range<u64>| Duration::from_millis(self.rng.random_range(ms));
        let crash = now + soon(5..25);
        let back = crash + soon(1..20);
        let (alone, together) = (now + soon(10..30), now + soon(1_000..2_500));
        self.planned.push((crash, Fault::Crash(voter)));
        self.planned.push((back, Fault::Restart(voter)));
        for third in (0..self.masters).filter(|third| *third != voter && *third != candidate) {
            self.planned.push((back, Fault::Restart(third)));
            self.planned.push((back, Fault::Mend(voter, third)));
            self.planned.push((back, Fault::Mend(third, voter)));
        }
        self.isolate(alone, together, candidate);
    }

    fn lasts(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(LASTS_MS))
    }

    fn plan(&mut self, now: Duration) {
        let until = now + self.lasts();
        let node = self.rng.random_range(0..self.nodes);
        match self.rng.random_range(0..12) {
            0..=2 => self.down(now, until, node),
            // Votes and leaders are lost where masters fall.
            3..=4 => {
                let master = self.rng.random_range(0..self.masters);
                let soon = now + Duration::from_millis(self.rng.random_range(20..400));
                self.down(now, soon, master);
            }
            5..=6 => self.isolate(now, until, node),
            7 => {
                let other = self.rng.random_range(0..self.nodes);
                self.cut(now, until, node, other);
            }
            8 => {
                let half: Vec<bool> = (0..self.nodes).map(|_| self.rng.random_bool(0.5)).collect();
                for a in 0..self.nodes {
                    for b in (0..self.nodes).filter(|b| half[a] != half[*b]) {
                        self.cut(now, until, a, b);
                    }
                }
            }
            9..=10 => {
                let weather = Weather {
                    delay_max_ms: [3, 10, 40, 120][self.rng.random_range(0..4)],
                    loss_percent: [0, 2, 10, 30][self.rng.random_range(0..4)],
                };
                self.planned.push((now, Fault::Weather(weather)));
                self.planned.push((until, Fault::Weather(Weather::CALM)));
            }
            _ => {
                let years = self.rng.random_range(-YEARS_MAX..=YEARS_MAX);
                let offset = years * YEAR_MS + self.rng.random_range(-100_000..100_000);
                self.planned.push((now, Fault::Clock(node, offset)));
            }
        }
    }

    fn down(&mut self, now: Duration, until: Duration, node: usize) {
        let fault = match self.rng.random_ratio(1, 3) {
            true => Fault::Reboot(node),
            false => Fault::Crash(node),
        };
        self.planned.push((now, fault));
        self.planned.push((until, Fault::Restart(node)));
    }

    fn isolate(&mut self, now: Duration, until: Duration, node: usize) {
        for other in 0..self.nodes {
            self.cut(now, until, node, other);
            self.cut(now, until, other, node);
        }
    }

    fn cut(&mut self, now: Duration, until: Duration, from: usize, to: usize) {
        if from != to {
            self.planned.push((now, Fault::Cut(from, to)));
            self.planned.push((until, Fault::Mend(from, to)));
        }
    }
}
