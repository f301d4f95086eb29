//! A formed cluster in a lab, and what can be seen of it from outside.

use bramble_tests::lab::{Host, Lab};
use bramble_tests::{PATIENCE, cgroup_processes, eventually, within};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long one question may take.
pub const ASK: Duration = Duration::from_secs(5);

/// Masters (each runs tasks as well) and agents. Hosts are numbered masters first.
pub struct Cluster {
    pub lab: Lab,
    pub masters: usize,
}

/// Masters and agents of these numbers, to be changed before they are set up.
pub fn hosts(masters: usize, agents: usize) -> Vec<Host> {
    let master = |n| Host::new(&format!("master{n}"), "up");
    let agent = |n| Host::new(&format!("agent{n}"), "agent");
    (1..=masters).map(master).chain((1..=agents).map(agent)).collect()
}

impl Cluster {
    /// Set up and form a cluster; gives it once all are in it, with as many voters as masters.
    pub fn form(masters: usize, agents: usize) -> Self {
        Self::form_of(hosts(masters, agents), masters)
    }

    /// Set up, and form nothing.
    pub fn of(hosts: Vec<Host>, masters: usize) -> Self {
        Self { lab: Lab::new(hosts), masters }
    }

    /// Like [`Cluster::form`], of hosts that are special.
    pub fn form_of(hosts: Vec<Host>, masters: usize) -> Self {
        let mut cluster = Self::of(hosts, masters);
        cluster.start_all();
        cluster
    }

    /// Start the first host, let all others join it, and wait until they have.
    pub fn start_all(&mut self) {
        let start = Instant::now();
        self.lab.start([0]);
        let token = self.token();
        for host in 1..self.lab.everyone().end {
            // Only now: what was joined once is known ever after.
            self.lab.node_mut(host).spawn_with(&["--token", &token]);
        }
        self.until_whole();
        println!("{} hosts formed in {:?}", self.lab.everyone().len(), start.elapsed());
    }

    /// The token that the founder prints, once it does.
    pub fn token(&self) -> String {
        eventually(&format!("a token\n{}", self.lab.node(0).log()), || {
            let output = self.lab.node(0).bramble(&["token"]);
            let token = String::from_utf8(output.stdout).expect("text").trim().to_string();
            (output.status.success() && !token.is_empty()).then_some(token)
        })
    }

    /// What a host answers, if it is a success.
    pub fn see(&self, host: usize, path: &str) -> Option<Value> {
        let answer = self.lab.node(host).ask("GET", path, None, ASK).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Who leads, as this host says.
    pub fn leader_by(&self, host: usize) -> Option<usize> {
        let leader = self.see(host, "/v2/leader")?["leader"].as_str()?.to_string();
        let place = leader.rsplit_once(':').map_or(leader.as_str(), |(host, _)| host);
        self.lab
            .everyone()
            .find(|host| self.lab.node(*host).name == place || self.lab.address(*host) == place)
    }

    /// Who leads, once one of these hosts says so and the leader itself agrees.
    pub fn leader_among(&self, hosts: &[usize]) -> usize {
        self.awaited(&format!("a leader among {hosts:?}"), || {
            let said = hosts.iter().find_map(|host| self.leader_by(*host));
            said.filter(|leader| hosts.contains(leader) && self.leader_by(*leader) == said)
        })
    }

    pub fn leader(&self) -> usize {
        self.leader_among(&(0..self.masters).collect::<Vec<_>>())
    }

    /// Masters that vote, as whoever led when that changed last has logged.
    pub fn voters(&self) -> usize {
        let logs = (0..self.masters).map(|host| self.lab.node(host).log());
        let changes: Vec<String> = logs
            .flat_map(|log| log.lines().map(str::to_string).collect::<Vec<_>>())
            .filter(|line| line.contains("change=SetVoters("))
            .collect();
        // A line begins with its time. Ids are of one length, and only this change lists several.
        let latest = changes.iter().max().map(|line| line.split("SetVoters(").nth(1));
        latest.flatten().map_or(1, |ids| ids.split(',').count())
    }

    /// The latest term in which any master saw somebody lead, as their logs tell.
    pub fn term(&self) -> u64 {
        let of = |host: usize| {
            let log = self.lab.node(host).log();
            let changes = log.lines().filter(|line| line.contains("leadership changed"));
            let terms = changes.filter_map(|line| {
                line.split("term=").nth(1)?.split_whitespace().next()?.parse::<u64>().ok()
            });
            terms.max()
        };
        (0..self.masters).filter_map(of).max().expect("leaders are logged")
    }

    /// Agents with a session, as a host says.
    pub fn connected(&self, host: usize) -> Option<usize> {
        let agents = self.see(host, "/v1/bramble/agents")?;
        Some(agents.as_array()?.iter().filter(|agent| agent["connected"] == true).count())
    }

    /// Wait until there is one leader, every master votes and every host is connected.
    pub fn until_whole(&self) {
        let all = self.lab.everyone().len();
        self.awaited("a whole cluster", || {
            let leader = self.leader_by(0)?;
            let whole = self.voters() == self.masters && self.connected(leader)? == all;
            (whole && (0..self.masters).all(|host| self.leader_by(host) == Some(leader)))
                .then_some(())
        });
    }

    /// Wait for something; where it does not come, every node shows its log as it is dropped.
    pub fn awaited<T>(&self, what: &str, found: impl FnMut() -> Option<T>) -> T {
        within(PATIENCE, what, found)
    }

    /// Change something through any of these hosts; panics unless one of them accepts it.
    pub fn write(&self, hosts: &[usize], method: &str, path: &str, body: &str) {
        let mut said = String::new();
        self.awaited(&format!("{method} {path} accepted"), || {
            let answers = hosts
                .iter()
                .map(|host| (host, self.lab.node(*host).ask(method, path, Some(body), ASK)));
            let accepted = answers.map(|(host, answer)| match answer {
                Ok(answer) if answer.status < 300 => true,
                other => {
                    let now = format!("{host}: {other:?}");
                    if said != now {
                        println!("{method} {path} at {now}");
                        said = now;
                    }
                    false
                }
            });
            accepted.into_iter().any(|accepted| accepted).then_some(())
        });
    }

    /// Processes `sleep MARK` per host that has some: what really runs, whoever believes what.
    pub fn sleepers(&self, mark: &str) -> BTreeMap<usize, Vec<i32>> {
        let of = |host: usize| {
            let mut pids = cgroup_processes(&self.lab.node(host).cgroup_parent);
            pids.retain(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line == format!("sleep\0{mark}\0").as_bytes()
            });
            (host, pids)
        };
        self.lab.everyone().map(of).filter(|(_, pids)| !pids.is_empty()).collect()
    }

    /// Wait until so many of them run; gives where.
    pub fn until_sleep(&self, mark: &str, count: usize) -> BTreeMap<usize, Vec<i32>> {
        self.awaited(&format!("{count} times sleep {mark}"), || {
            let found = self.sleepers(mark);
            (found.values().map(Vec::len).sum::<usize>() == count).then_some(found)
        })
    }
}

/// An app of so many `sleep MARK`.
pub fn sleeping(id: &str, mark: &str, instances: usize) -> String {
    format!(
        r#"{{"id":"{id}","cmd":"exec sleep {mark}","cpus":0.05,"mem":16,"instances":{instances}}}"#
    )
}
