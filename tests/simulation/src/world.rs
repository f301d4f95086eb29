//! The world: its nodes, its time, and the order in which everything happens.

use crate::agent::AgentNode;
use crate::client::Client;
use crate::fate;
use crate::faults::Fault;
use crate::master::MasterNode;
use crate::net::{Net, Place, Weather};
use crate::planted::Planted;
use bramble_core::autopilot::Standing;
use bramble_core::command::Command;
use bramble_core::model::{self, Agent, Cluster, NodeId, NodeRole, Resources, Time};
use bramble_master::consensus::Members;
use bramble_master::consensus::simulated::Platter;
use bramble_master::membership::Membership;
use bramble_protocol::net::NodeKey;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

pub const MASTERS: usize = 3;
pub const AGENTS: usize = 3;
pub const NODES: usize = MASTERS + AGENTS;
/// What every node lives through at a time. A heartbeat is ten of them.
pub const TICK: Duration = Duration::from_millis(5);
/// Of each agent. Two of the three have 1,800: room for 1,600 of all kinds but Racked, and for that
/// one wherever the others stand; and never is more than one agent full before Spread finds two.
const CPUS_MILLI: u64 = 900;

/// A node of the world, up or down.
pub struct Node {
    runtime: Option<Runtime>,
    /// When its runtime began, by the world's time and by its own.
    began: Duration,
    epoch: Instant,
    /// Counts its lives.
    pub life: u64,
    wall_offset_ms: i64,
}

pub struct World {
    pub now: Duration,
    pub net: Net,
    pub nodes: Vec<Node>,
    pub masters: Vec<MasterNode>,
    pub agents: Vec<AgentNode>,
    pub client: Client,
    ids: Arc<Vec<NodeId>>,
    rng: StdRng,
    planted: Option<Planted>,
    votes: [Option<(u64, u64)>; MASTERS],
}

/// The id of the node at `place`; its first eight bytes are its Raft id.
fn node_id(place: Place) -> NodeId {
    NodeId::new(format!("{:016x}{}", place + 1, "0".repeat(48)))
}

fn record(place: Place) -> Agent {
    Agent {
        id: node_id(place).agent(),
        name: format!("agent-{place}"),
        total: Resources { cpus_milli: CPUS_MILLI, ..Resources::default() },
        ports: Vec::new(),
        attributes: BTreeMap::from([("rack".into(), format!("r{}", place % 2))]),
        reachable: true,
    }
}

/// What makes the cluster: its founding and its agents.
fn founding() -> Vec<Command> {
    let node = |place: Place| model::Node {
        id: node_id(place),
        name: format!("node-{place}"),
        role: if place < MASTERS { NodeRole::Master } else { NodeRole::Agent },
        public_key: vec![u8::try_from(place).expect("few places")],
        admitted_at: Time(0),
    };
    let cluster = Cluster {
        id: "simulation".into(),
        ca_certificate: Vec::new(),
        join_secret_sha256: String::new(),
        founded_at: Time(0),
        authority: None,
        join_token: None,
        previous: Vec::new(),
        rotation_due: false,
    };
    let mut commands = vec![Command::Found { cluster, founder: node(0) }];
    commands.extend((1..NODES).map(|place| Command::AdmitNode { node: node(place) }));
    commands
}

impl World {
    pub fn new(
        net: Net,
        dir: &Path,
        mut rng: StdRng,
        client: StdRng,
        planted: Option<Planted>,
    ) -> Self {
        let ids: Vec<NodeId> = (0..NODES).map(node_id).collect();
        let key = NodeKey::generate().expect("a key");
        let masters = (0..MASTERS).map(|place| MasterNode {
            id: ids[place].clone(),
            dir: dir.join(format!("master-{place}")),
            platter: Arc::new(Platter::new(planted == Some(Planted::UnsyncedVote))),
            key: key.clone(),
            seen: Arc::new(Mutex::new(None)),
        });
        let nodes = (0..NODES).map(|_| Node {
            runtime: None,
            began: Duration::ZERO,
            epoch: Instant::now(),
            life: 0,
            wall_offset_ms: rng.random_range(-60_000..60_000),
        });
        let mut world = Self {
            now: Duration::ZERO,
            client: Client::new(net.clone(), NODES, MASTERS, client, founding()),
            net,
            nodes: nodes.collect(),
            masters: masters.collect(),
            agents: (MASTERS..NODES).map(|place| AgentNode::new(record(place))).collect(),
            ids: Arc::new(ids),
            rng,
            planted,
            votes: [None; MASTERS],
        };
        for place in 0..NODES {
            world.start(place);
        }
        world
    }

    /// Let everybody live through one tick.
    pub fn tick(&mut self) {
        self.now += TICK;
        fate::set_now(self.now);
        self.net.deliver(self.now);
        self.client.act(self.now);
        // Nobody is always first.
        let first = self.rng.random_range(0..NODES);
        for place in (0..NODES).map(|turn| (first + turn) % NODES) {
            let node = &self.nodes[place];
            fate::set_wall_offset(node.wall_offset_ms);
            if let Some(runtime) = &node.runtime {
                let end = self.now - node.began;
                runtime.block_on(async { tokio::time::sleep_until(node.epoch + end).await });
            }
        }
        for agent in &self.agents {
            agent.machine.advance(self.now);
        }
    }

    /// Whether the cluster is there, with all masters as voters.
    pub fn is_formed(&self) -> bool {
        let voters = |master: &MasterNode| {
            let members = master.inside().map(|inside| Members(inside.consensus).members());
            let members = members.unwrap_or_default();
            members.iter().filter(|member| member.standing == Standing::Voter).count()
        };
        self.client.is_founded() && self.masters.iter().any(|m| voters(m) == MASTERS)
    }

    /// Masters that have voted since the last look, and for whom.
    pub fn voted(&mut self) -> Vec<(Place, Place)> {
        let mut voted = Vec::new();
        for (place, master) in self.masters.iter().enumerate() {
            let vote = master.platter.vote();
            if let Some((_, raft_id)) = vote.filter(|_| vote > self.votes[place]) {
                let candidate = usize::try_from(raft_id - 1).expect("few masters");
                voted.push((place, candidate));
            }
            self.votes[place] = vote;
        }
        voted
    }

    pub fn carry_out(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(place) => self.stop(place),
            Fault::Reboot(place) => {
                self.stop(place);
                if let Some(agent) = place.checked_sub(MASTERS) {
                    self.agents[agent].machine.reboot();
                }
            }
            Fault::Restart(place) => self.start(place),
            Fault::Cut(from, to) => self.net.set_cut(from, to, true),
            Fault::Mend(from, to) => self.net.set_cut(from, to, false),
            Fault::Weather(weather) => self.net.set_weather(weather),
            Fault::Clock(place, offset) => self.nodes[place].wall_offset_ms = offset,
        }
        self.net.note(&[7], || format!("{fault:?}"));
    }

    /// Mend everything but the clocks.
    pub fn heal(&mut self) {
        self.net.set_weather(Weather::CALM);
        for from in 0..=NODES {
            for to in 0..=NODES {
                self.net.set_cut(from, to, false);
            }
        }
        for place in 0..NODES {
            self.start(place);
        }
        self.net.note(&[8], || "the world heals".into());
    }

    fn start(&mut self, place: Place) {
        if self.nodes[place].runtime.is_some() {
            return;
        }
        self.net.reset(place);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let (net, planted) = (self.net.clone(), self.planted);
        let masters = Arc::new(self.ids[..MASTERS].to_vec());
        match place.checked_sub(MASTERS) {
            None => {
                let master = self.masters[place].clone();
                let founds = place == 0 && self.nodes[place].life == 0;
                let ids = self.ids.clone();
                runtime.spawn(master.live(net, place, ids, masters, founds, planted));
            }
            Some(agent) => {
                let agent = self.agents[agent].clone();
                runtime.spawn(agent.live(net, place, masters, planted));
            }
        }
        let node = &mut self.nodes[place];
        node.life += 1;
        node.began = self.now;
        node.epoch = runtime.block_on(async { Instant::now() });
        node.runtime = Some(runtime);
    }

    fn stop(&mut self, place: Place) {
        let Some(runtime) = self.nodes[place].runtime.take() else { return };
        self.net.unplug(place);
        match place.checked_sub(MASTERS) {
            None => {
                let seen = &self.masters[place].seen;
                seen.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            Some(agent) => {
                let seen = &self.agents[agent].seen;
                seen.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        }
        drop(runtime);
        if place < MASTERS {
            let kept = self.rng.random_range(0..4);
            self.masters[place].platter.crash(kept);
        }
    }
}
