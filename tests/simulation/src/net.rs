//! The network in memory: requests that get lost, late or out of order, and streams that stay in
//! order as QUIC's do, break after silence, and notice a peer that is gone.

use crate::trace::{Trace, digest};
use bramble_core::command::Command;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Silence after which a stream's connection counts as lost. As in `protocol::net::transport`.
const IDLE: Duration = Duration::from_secs(5);
/// Shortest and longest wait, in milliseconds, before a lost part of a stream is sent again.
const AGAIN_MS: std::ops::Range<u64> = 50..250;

/// The name of a node in the network: its place in the world's list.
pub type Place = usize;

/// What arrives at a node.
#[derive(Debug)]
pub enum Packet {
    /// Raft, from another master.
    Request {
        from: Place,
        id: u64,
        body: Vec<u8>,
    },
    Reply {
        id: u64,
        body: Vec<u8>,
    },
    /// Another master is there.
    Hello {
        from: Place,
    },
    /// A client proposes.
    Ask {
        from: Place,
        id: u64,
        command: Box<Command>,
    },
    /// What became of it.
    Answer {
        id: u64,
        answer: Answer,
    },
    /// An agent dialled.
    Open {
        line: u64,
        from: Place,
    },
    Bytes {
        line: u64,
        body: Vec<u8>,
    },
    /// The other side ended the stream, or its connection is lost.
    End {
        line: u64,
    },
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Committed(u64),
    Rejected(String),
    /// Nothing was done.
    NotLeader,
    /// It may or may not be committed.
    Unknown(String),
}

/// What packets go through.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay_max_ms: u64,
    pub loss_percent: u32,
}

impl Weather {
    pub const CALM: Weather = Weather { delay_max_ms: 4, loss_percent: 0 };
}

/// One stream between an agent and a master.
struct Line {
    ends: [Place; 2],
    /// What is under way to each end, and when it may arrive.
    flying: [VecDeque<(Duration, Flying)>; 2],
    /// Since when nothing could pass in some direction.
    silent_since: Option<Duration>,
}

enum Flying {
    Open,
    Bytes(Vec<u8>),
    End,
}

struct Inner {
    now: Duration,
    rng: StdRng,
    inboxes: Vec<Option<UnboundedSender<Packet>>>,
    /// By time of arrival, then in the order of sending.
    flying: BTreeMap<(Duration, u64), (Place, Place, Packet)>,
    sent: u64,
    lines: BTreeMap<u64, Line>,
    next_line: u64,
    /// Directed links that carry nothing.
    cut: BTreeSet<(Place, Place)>,
    weather: Weather,
    trace: Trace,
}

/// A handle; clones are the same network.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Inner>>);

impl Net {
    pub fn new(seed: u64, places: usize, trace: Trace) -> Self {
        let inner = Inner {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            inboxes: (0..places).map(|_| None).collect(),
            flying: BTreeMap::new(),
            sent: 0,
            lines: BTreeMap::new(),
            next_line: 1,
            cut: BTreeSet::new(),
            weather: Weather::CALM,
            trace,
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packets for `place` go to `inbox`: the node is up.
    pub fn plug(&self, place: Place, inbox: UnboundedSender<Packet>) {
        self.lock().inboxes[place] = Some(inbox);
    }

    /// The node is gone without a word.
    pub fn unplug(&self, place: Place) {
        let mut inner = self.lock();
        inner.inboxes[place] = None;
    }

    /// The node begins anew: whoever still speaks with its earlier life is told so.
    pub fn reset(&self, place: Place) {
        let mut inner = self.lock();
        let old: Vec<u64> = inner.lines_of(place);
        for line in old {
            inner.drop_line(line);
        }
    }

    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Let the link carry nothing, or everything again, in this direction.
    pub fn set_cut(&self, from: Place, to: Place, cut: bool) {
        let mut inner = self.lock();
        match cut {
            true => inner.cut.insert((from, to)),
            false => inner.cut.remove(&(from, to)),
        };
    }

    pub fn note(&self, numbers: &[u64], words: impl FnOnce() -> String) {
        let mut inner = self.lock();
        let now = inner.now;
        inner.trace.note(now, numbers, words);
    }

    pub fn sum(&self) -> (u64, u64) {
        self.lock().trace.sum()
    }

    /// Send a packet that stands alone.
    pub fn send(&self, from: Place, to: Place, packet: Packet) {
        let mut inner = self.lock();
        let (lost, delay) = inner.fate_of_one();
        if lost || inner.cut.contains(&(from, to)) {
            return;
        }
        let (due, number) = (inner.now + delay, inner.sent);
        inner.sent += 1;
        inner.flying.insert((due, number), (from, to, packet));
    }

    /// Dial: a stream from `from` to `to`. It ends by itself when nobody answers.
    pub fn open(&self, from: Place, to: Place) -> u64 {
        let mut inner = self.lock();
        let line = inner.next_line;
        inner.next_line += 1;
        let flying = Default::default();
        inner.lines.insert(line, Line { ends: [from, to], flying, silent_since: None });
        inner.push(line, from, Flying::Open);
        line
    }

    /// Send bytes on a stream, from its end at `from`.
    pub fn write(&self, line: u64, from: Place, bytes: &[u8]) {
        self.lock().push(line, from, Flying::Bytes(bytes.to_vec()));
    }

    /// End a stream, from its end at `from`.
    pub fn finish(&self, line: u64, from: Place) {
        self.lock().push(line, from, Flying::End);
    }

    /// Deliver what is due at `now`.
    pub fn deliver(&self, now: Duration) {
        let mut inner = self.lock();
        inner.now = now;
        while let Some(entry) = inner.flying.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (from, to, packet) = entry.remove();
            if !inner.cut.contains(&(from, to)) {
                inner.hand_over(from, to, packet);
            }
        }
        let lines: Vec<u64> = inner.lines.keys().copied().collect();
        for line in lines {
            inner.deliver_line(line);
        }
    }
}

impl Inner {
    fn delay(&mut self) -> Duration {
        let max = self.weather.delay_max_ms;
        Duration::from_micros(self.rng.random_range(200..=max * 1000))
    }

    /// Whether a packet is lost for good, and how long it takes.
    fn fate_of_one(&mut self) -> (bool, Duration) {
        let delay = self.delay();
        if !self.rng.random_ratio(self.weather.loss_percent, 100) {
            return (false, delay);
        }
        // QUIC sends again what is lost, unless the connection goes with it.
        let again = Duration::from_millis(self.rng.random_range(AGAIN_MS));
        (self.rng.random_ratio(1, 3), delay + again)
    }

    fn push(&mut self, line: u64, from: Place, what: Flying) {
        let (_, delay) = self.fate_of_one();
        let due = self.now + delay;
        let Some(line) = self.lines.get_mut(&line) else { return };
        let to = usize::from(line.ends[0] == from);
        // In order: nothing overtakes what was sent before.
        let due = line.flying[to].back().map_or(due, |(before, _)| due.max(*before));
        line.flying[to].push_back((due, what));
    }

    fn hand_over(&mut self, from: Place, to: Place, packet: Packet) {
        let Some(Some(inbox)) = self.inboxes.get(to) else { return };
        let numbers = [from as u64, to as u64, packet.number()];
        let now = self.now;
        self.trace.note(now, &numbers, || format!("{from} -> {to}: {}", packet.name()));
        // A node that was just crashed takes nothing any more.
        let _ = inbox.send(packet);
    }

    fn deliver_line(&mut self, id: u64) {
        let now = self.now;
        let Some(line) = self.lines.get(&id) else { return };
        let [a, b] = line.ends;
        let up = self.inboxes[a].is_some() && self.inboxes[b].is_some();
        if !up || self.cut.contains(&(a, b)) || self.cut.contains(&(b, a)) {
            let since = line.silent_since.unwrap_or(now);
            if now - since >= IDLE {
                return self.drop_line(id);
            }
            if let Some(line) = self.lines.get_mut(&id) {
                line.silent_since = Some(since);
            }
            return;
        }
        let mut arrived = Vec::new();
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.silent_since = None;
        for end in 0..2 {
            while line.flying[end].front().is_some_and(|(due, _)| *due <= now) {
                let Some((_, what)) = line.flying[end].pop_front() else { break };
                arrived.push((line.ends[1 - end], line.ends[end], what));
            }
        }
        for (from, to, what) in arrived {
            let ends = matches!(what, Flying::End);
            let packet = match what {
                Flying::Open => Packet::Open { line: id, from },
                Flying::Bytes(body) => Packet::Bytes { line: id, body },
                Flying::End => Packet::End { line: id },
            };
            self.hand_over(from, to, packet);
            if ends {
                // Sessions end as a whole: nobody speaks on after the other has left.
                self.lines.remove(&id);
            }
        }
    }

    fn lines_of(&self, place: Place) -> Vec<u64> {
        let of_place = self.lines.iter().filter(|(_, line)| line.ends.contains(&place));
        of_place.map(|(id, _)| *id).collect()
    }

    /// The connection is lost: both ends hear of it.
    fn drop_line(&mut self, id: u64) {
        let Some(line) = self.lines.remove(&id) else { return };
        let [a, b] = line.ends;
        for (from, to) in [(a, b), (b, a)] {
            self.hand_over(from, to, Packet::End { line: id });
        }
    }
}

impl Packet {
    fn name(&self) -> String {
        match self {
            Packet::Request { id, body, .. } => format!("raft request {id}, {} bytes", body.len()),
            Packet::Reply { id, body } => format!("raft reply {id}, {} bytes", body.len()),
            Packet::Hello { .. } => "hello".into(),
            Packet::Ask { id, command, .. } => format!("ask {id}: {command:?}"),
            Packet::Answer { id, answer } => format!("answer {id}: {answer:?}"),
            Packet::Open { line, .. } => format!("line {line} opens"),
            Packet::Bytes { line, body } => format!("line {line}: {} bytes", body.len()),
            Packet::End { line } => format!("line {line} ends"),
        }
    }

    fn number(&self) -> u64 {
        match self {
            Packet::Request { id, body, .. } => digest(body) ^ id,
            Packet::Reply { id, body } => digest(body) ^ id.rotate_left(8),
            Packet::Hello { .. } => 5,
            Packet::Ask { id, .. } => *id,
            Packet::Answer { id, answer } => match answer {
                Answer::Committed(index) => id.rotate_left(16) ^ index,
                Answer::Rejected(_) => id.rotate_left(17),
                Answer::NotLeader => id.rotate_left(18),
                Answer::Unknown(_) => id.rotate_left(19),
            },
            Packet::Open { line, .. } => line.rotate_left(24),
            Packet::Bytes { line, body } => digest(body) ^ line.rotate_left(25),
            Packet::End { line } => line.rotate_left(26),
        }
    }
}
