//! The user: asks one thing after the other of whichever master answers, and remembers what was
//! acknowledged.

use crate::net::{Answer, Net, Packet, Place};
use bramble_core::command::{AppChange, Command};
use bramble_core::model::*;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How long the client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// Pause between two wishes, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 30..400;
/// Pause before the next master is asked.
const AGAIN: Duration = Duration::from_millis(120);
/// Apps of each kind.
const SLOTS: u32 = 2;

/// What the cluster has acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub index: u64,
    /// The node it admitted, which nothing removes.
    pub marker: NodeId,
}

/// What the user knows of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Acknowledged last: it has so many instances of this command, or none exists.
    Surely(Option<(u32, Option<String>)>),
    /// Something was asked that nobody answered.
    Perhaps,
}

enum Wish {
    /// What every cluster begins with; to be repeated until it is there.
    Found,
    Marker(NodeId),
    App(AppId, Option<(u32, Option<String>)>),
}

struct Asked {
    id: u64,
    since: Duration,
    wish: Wish,
    command: Command,
    /// Some attempt may have been taken without an answer.
    lost: bool,
}

pub struct Client {
    me: Place,
    masters: usize,
    net: Net,
    rng: StdRng,
    inbox: UnboundedReceiver<Packet>,
    founding: Vec<Command>,
    asked: Option<Asked>,
    next_at: Duration,
    next_id: u64,
    turn: usize,
    pub acknowledged: Vec<Acknowledged>,
    pub apps: BTreeMap<AppId, Known>,
    /// What it may still ask for; nothing new once the world heals.
    pub wishes_apps: bool,
    /// The log index of the latest write that was acknowledged.
    pub last_index: u64,
    /// When the last acknowledgement came.
    pub answered_at: Duration,
}

impl Client {
    pub fn new(
        net: Net,
        me: Place,
        masters: usize,
        rng: StdRng,
        mut founding: Vec<Command>,
    ) -> Self {
        let (sender, inbox) = unbounded_channel();
        net.plug(me, sender);
        founding.reverse();
        Self {
            me,
            masters,
            net,
            rng,
            inbox,
            founding,
            asked: None,
            next_at: Duration::ZERO,
            next_id: 1,
            turn: 0,
            acknowledged: Vec::new(),
            apps: BTreeMap::new(),
            wishes_apps: true,
            last_index: 0,
            answered_at: Duration::ZERO,
        }
    }

    /// Whether the cluster is there to be used.
    pub fn is_founded(&self) -> bool {
        self.founding.is_empty()
    }

    pub fn act(&mut self, now: Duration) {
        while let Ok(packet) = self.inbox.try_recv() {
            if let Packet::Answer { id, answer } = packet {
                self.hear(now, id, answer);
            }
        }
        if self.asked.as_ref().is_some_and(|asked| now - asked.since >= PATIENCE) {
            self.again(now, true);
        }
        if self.asked.is_none() && now >= self.next_at {
            self.wish(now);
        }
    }

    fn hear(&mut self, now: Duration, id: u64, answer: Answer) {
        if self.asked.as_ref().is_none_or(|asked| asked.id != id) {
            return;
        }
        match answer {
            Answer::Committed(index) => {
                let Some(asked) = self.asked.take() else { return };
                self.answered_at = now;
                self.last_index = self.last_index.max(index);
                match asked.wish {
                    Wish::Found => drop(self.founding.pop()),
                    Wish::Marker(marker) => {
                        self.acknowledged.push(Acknowledged { index, marker });
                    }
                    Wish::App(id, wanted) => {
                        let known = match asked.lost {
                            true => Known::Perhaps,
                            false => Known::Surely(wanted),
                        };
                        self.apps.insert(id, known);
                    }
                }
                self.rest(now);
            }
            Answer::Rejected(_) => {
                let Some(asked) = self.asked.take() else { return };
                if matches!(asked.wish, Wish::Found) {
                    // An earlier attempt was taken after all.
                    self.founding.pop();
                }
                self.rest(now);
            }
            Answer::NotLeader => self.again(now, false),
            Answer::Unknown(_) => self.again(now, true),
        }
    }

    fn rest(&mut self, now: Duration) {
        self.next_at = now + Duration::from_millis(self.rng.random_range(PAUSE_MS));
    }

    /// Nobody took it, or nobody said so.
    fn again(&mut self, now: Duration, lost: bool) {
        self.turn += 1;
        let Some(mut asked) = self.asked.take() else { return };
        self.next_at = now + AGAIN;
        asked.lost |= lost;
        if let Wish::App(id, _) = &asked.wish {
            // Not repeated: it might come after what the user wants next.
            if lost {
                self.apps.insert(id.clone(), Known::Perhaps);
                return;
            }
        }
        self.ask(now, asked.wish, asked.command, asked.lost);
    }

    fn ask(&mut self, since: Duration, wish: Wish, command: Command, lost: bool) {
        let id = self.next_id;
        self.next_id += 1;
        let packet = Packet::Ask { from: self.me, id, command: Box::new(command.clone()) };
        self.net.send(self.me, self.turn % self.masters, packet);
        self.asked = Some(Asked { id, since, wish, command, lost });
    }

    fn wish(&mut self, now: Duration) {
        if let Some(command) = self.founding.last().cloned() {
            return self.ask(now, Wish::Found, command, false);
        }
        if !self.wishes_apps || self.rng.random_ratio(2, 5) {
            let marker = NodeId::new(format!("marker-{}", self.next_id));
            let node = Node {
                id: marker.clone(),
                name: marker.to_string(),
                role: NodeRole::Agent,
                public_key: marker.as_str().as_bytes().to_vec(),
                admitted_at: Time(0),
            };
            return self.ask(now, Wish::Marker(marker), Command::AdmitNode { node }, false);
        }
        let (id, change, wanted) = self.change();
        let deployment_id = DeploymentId::new(format!("deployment-{}", self.next_id));
        let command = Command::ChangeApps { deployment_id, changes: vec![change], force: true };
        // Until it is answered nobody knows.
        self.apps.insert(id.clone(), Known::Perhaps);
        self.ask(now, Wish::App(id, wanted), command, false);
    }

    /// Something to change: what an app's kind allows.
    fn change(&mut self) -> (AppId, AppChange, Option<(u32, Option<String>)>) {
        let kind = Kind::ALL[self.rng.random_range(0..Kind::ALL.len())];
        let id = AppId::new(format!("/{}-{}", kind.name(), self.rng.random_range(0..SLOTS)));
        let exists = match self.apps.get(&id) {
            Some(Known::Surely(Some(_))) => true,
            Some(Known::Perhaps) => self.rng.random_bool(0.5),
            _ => false,
        };
        if exists && kind.changes() && self.rng.random_ratio(1, 4) {
            return (id.clone(), AppChange::Remove(id), None);
        }
        let app = kind.app(id.clone(), &mut self.rng);
        let wanted = Some((app.instances, app.cmd.clone()));
        let change = match exists {
            true => AppChange::Update(app),
            false => AppChange::Create(app),
        };
        (id, change, wanted)
    }
}

/// The kinds of apps there are, each for what it shows.
///
/// All of them at their largest fit on the agents, however the first are placed (see
/// `world::CPUS_MILLI`): what finds no place would never converge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Replaced as soon as its agent is away.
    Plain,
    /// Never replaced while its agent is away, and never changed: its instances never run twice.
    Once,
    /// At most one on each agent.
    Spread,
    /// Only on agents of one rack.
    Racked,
    /// Ends by itself, again and again.
    Failing,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Plain, Kind::Once, Kind::Spread, Kind::Racked, Kind::Failing];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Once => "once",
            Kind::Spread => "spread",
            Kind::Racked => "racked",
            Kind::Failing => "failing",
        }
    }

    /// The kind of the app with this id.
    pub fn of(app_id: &str) -> Option<Kind> {
        let name = app_id.trim_start_matches('/').split('-').next()?;
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn changes(self) -> bool {
        self != Kind::Once
    }

    fn app(self, id: AppId, rng: &mut StdRng) -> App {
        let mut app = App::with_defaults(id);
        app.resources = Resources { cpus_milli: 100, ..Resources::default() };
        app.cmd = Some(format!("serve {}", rng.random_range(0..3)));
        // Old ones make room first, so that a change never waits for room.
        app.upgrade = UpgradeStrategy { min_health_ppm: 0, max_over_ppm: 0 };
        app.backoff = BackoffStrategy { initial_ms: 200, factor_ppm: PPM, max_ms: 1_000 };
        app.kill_grace_ms = Some(1_000);
        let constraint = |field: &str, operator, value: Option<&str>| Constraint {
            field: field.into(),
            operator,
            value: value.map(str::to_string),
        };
        match self {
            Kind::Plain => {
                app.instances = rng.random_range(1..=2);
                app.resources.cpus_milli = 100 * rng.random_range(1..=2);
            }
            Kind::Once => {
                app.cmd = Some("serve once".into());
                app.unreachable = UnreachableStrategy::Disabled;
            }
            Kind::Spread => {
                app.instances = rng.random_range(1..=2);
                app.constraints = vec![constraint("hostname", Operator::Unique, None)];
            }
            Kind::Racked => {
                app.constraints = vec![constraint("rack", Operator::Cluster, Some("r1"))];
            }
            Kind::Failing => {
                let lasts = rng.random_range(300..4_000);
                app.cmd = Some(format!("run {lasts} ms"));
            }
        }
        app
    }
}
