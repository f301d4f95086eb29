//! A cluster that was made before any of its nodes: one founding file, one token, any order.
//!
//! Eight nodes have 40,320 orders. What differs is where the founder stands and what happens to it:
//! first, last and in a drawn order with gaps; killed right after founding; given the file twice.

use crate::cluster::{Cluster, hosts};
use bramble_tests::lab::can_set_up;
use bramble_tests::{PATIENCE, WATCHED, bramble, eventually, throughout, within};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a node logs that founds.
const FOUNDS: &str = "this node founds the cluster";
/// Longest drawn gap between two nodes that somebody switches on, in milliseconds.
const GAP_MS_MAX: usize = 700;
/// Longer than a node listens before it founds, and shorter than twice that.
const LONGER_THAN_LISTENING: Duration = Duration::from_secs(13);

/// Hosts on a switch, and what `bramble cluster new` has made for them.
struct Founding {
    cluster: Cluster,
    id: String,
    token: String,
    file: PathBuf,
    start: Instant,
}

impl Founding {
    fn new(count: usize) -> Self {
        let cluster = Cluster::of(hosts(count, 0), count);
        let out = cluster.lab.node(0).root().join("new");
        let mut new = Command::new(bramble());
        let output = new.args(["cluster", "new", "home", "--json", "--out"]).arg(&out).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let text = |key: &str| made[key].as_str().expect("a text").to_string();
        let (id, token, file) = (text("cluster"), text("token"), text("foundingFile").into());
        Self { cluster, id, token, file, start: Instant::now() }
    }

    /// A copy of the founding file for a host.
    fn copy(&self, host: usize) -> PathBuf {
        let path = self.cluster.lab.node(host).root().join("boot/any.name");
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        std::fs::copy(&self.file, &path).expect("copied");
        path
    }

    fn start_with_token(&mut self, host: usize) {
        let token = self.token.clone();
        self.cluster.lab.node_mut(host).spawn_with(&["--token", &token]);
    }

    /// Start a host with a founding file; gives the file's path.
    fn start_with_file(&mut self, host: usize) -> PathBuf {
        let path = self.copy(host);
        self.start_again_with(host, &path);
        path
    }

    fn start_again_with(&mut self, host: usize, file: &std::path::Path) {
        let file = file.display().to_string();
        self.cluster.lab.node_mut(host).spawn_with(&["--founding", &file]);
    }

    fn says(&self, host: usize, what: &str) -> bool {
        self.cluster.lab.node(host).log().contains(what)
    }

    fn until_says(&self, host: usize, what: &str) {
        eventually(&format!("host {host}: {what:?}"), || self.says(host, what).then_some(()));
    }

    /// Times that any host has founded.
    fn foundings(&self) -> usize {
        let all = self.cluster.lab.everyone();
        all.map(|host| self.cluster.lab.node(host).log().matches(FOUNDS).count()).sum()
    }

    /// The cluster that a host belongs to.
    fn cluster_of(&self, host: usize) -> Option<String> {
        let status = self.cluster.see(host, "/v1/bramble/status")?;
        status["cluster"].as_str().map(str::to_string)
    }

    fn has_an_api(&self, host: usize) -> bool {
        // Its port is taken from the beginning, and asking there would wait as the node does.
        self.says(host, "the API answers")
    }

    /// Wait until every host says the same of one cluster, with all hosts in it.
    fn until_one_cluster(&self) {
        let all = self.cluster.lab.everyone();
        self.cluster.awaited("one cluster of all", || {
            let leader = self.cluster.leader_by(0)?;
            let whole = all.clone().all(|host| {
                self.cluster.leader_by(host) == Some(leader)
                    && self.cluster.connected(host) == Some(all.len())
            });
            whole.then_some(())
        });
        println!("{} hosts are one cluster after {:?}", all.len(), self.start.elapsed());
        for host in all {
            assert_eq!(self.cluster_of(host).as_deref(), Some(self.id.as_str()), "host {host}");
            assert!(self.has_an_api(host));
        }
    }
}

#[test]
fn eight_nodes_started_at_once_with_the_founder_first_are_one_cluster() {
    if !can_set_up("the founder first") {
        return;
    }
    let mut eight = Founding::new(8);
    let file = eight.start_with_file(0);
    for host in 1..8 {
        eight.start_with_token(host);
    }
    eight.until_one_cluster();
    assert_eq!(eight.foundings(), 1);
    assert!(!file.exists(), "a used founding file is removed");
}

#[test]
fn eight_nodes_wait_for_the_founder_that_comes_last() {
    if !can_set_up("the founder last") {
        return;
    }
    let mut eight = Founding::new(8);
    for host in (0..7).rev() {
        eight.start_with_token(host);
    }
    for host in 0..7 {
        eight.until_says(host, "waiting for a node of the cluster");
        assert!(!eight.has_an_api(host), "host {host} has a cluster of its own");
    }
    // A file that cannot be removed is as good.
    let file = eight.copy(7);
    let boot = file.parent().expect("a directory").display().to_string();
    let script = format!("mount --bind {boot} {boot} && mount -o remount,bind,ro {boot}");
    let mounted = eight.cluster.lab.node(7).inside("sh").args(["-c", &script]).status();
    assert!(mounted.expect("sh runs").success(), "{script}");
    eight.start_again_with(7, &file);
    eight.until_one_cluster();
    assert_eq!(eight.foundings(), 1);
    assert!(file.exists() && eight.says(7, "cannot be removed"));
    assert!(eight.cluster.lab.node(7).data_dir().join("founding-used").exists());
    // Given again and again, it does nothing more.
    eight.cluster.lab.kill(7);
    eight.start_again_with(7, &file);
    eight.until_one_cluster();
    assert_eq!(eight.foundings(), 1);
}

#[test]
fn eight_nodes_outlive_a_founder_that_dies_right_after_founding() {
    if !can_set_up("a founder that dies") {
        return;
    }
    let mut eight = Founding::new(8);
    // A drawn order, the founder somewhere in it, with gaps in which nodes come up apart.
    let mut draw = 0x9e37_79b9_7f4a_7c15_u64;
    let mut drawn = |below: usize| {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        (draw % below as u64) as usize
    };
    let mut order: Vec<usize> = (0..8).collect();
    (1..8).rev().for_each(|n| order.swap(n, drawn(n + 1)));
    let founder = drawn(8);
    println!("order {order:?}, founder {founder}");
    let mut file = PathBuf::new();
    for host in order {
        match host == founder {
            true => file = eight.start_with_file(host),
            false => eight.start_with_token(host),
        }
        // Nothing is awaited: when hosts come is part of what is drawn.
        std::thread::sleep(Duration::from_millis(drawn(GAP_MS_MAX) as u64));
    }
    // Before it can be heard: nobody has joined, and the file may or may not be there.
    eight.until_says(founder, FOUNDS);
    eight.cluster.lab.node_mut(founder).stop(Signal::SIGKILL);
    throughout(WATCHED, "no host has a cluster of its own", || {
        (0..8).filter(|host| *host != founder).all(|host| !eight.has_an_api(host))
    });
    eight.start_again_with(founder, &file);
    eight.until_one_cluster();
    assert!(!file.exists(), "a used founding file is removed");
    let others = (0..8).filter(|host| *host != founder);
    assert!(others.clone().all(|host| !eight.says(host, FOUNDS)));
}

#[test]
fn of_nodes_with_one_founding_file_one_founds() {
    if !can_set_up("a founding file given twice") {
        return;
    }
    let mut three = Founding::new(4);
    three.start_with_token(3);
    // One hears nothing: its silence must not count.
    three.cluster.lab.cut(2);
    let files: Vec<PathBuf> = (0..3).map(|host| three.start_with_file(host)).collect();
    three.until_says(2, "no network");
    for host in [0, 1, 3] {
        three.cluster.awaited("a cluster of those who hear", || three.cluster_of(host));
    }
    assert_eq!(three.foundings(), 1);
    assert!((0..2).any(|host| three.says(host, "comes first")));
    let rest = LONGER_THAN_LISTENING.saturating_sub(three.start.elapsed());
    throughout(rest.max(WATCHED), "who hears nothing founds nothing", || !three.has_an_api(2));
    three.cluster.lab.mend(2);
    three.until_one_cluster();
    assert_eq!(three.foundings(), 1);
    assert!(files.iter().all(|file| !file.exists()), "who joined has no use for it either");
}

#[test]
fn a_founder_whose_card_was_written_anew_joins_what_it_founded() {
    if !can_set_up("a card written anew") {
        return;
    }
    let mut three = Founding::new(3);
    three.start_with_file(0);
    (1..3).for_each(|host| three.start_with_token(host));
    three.until_one_cluster();
    three.cluster.until_whole();
    three.cluster.lab.power_off(0);
    let data = three.cluster.lab.node(0).data_dir();
    std::fs::remove_dir_all(data).expect("removed");
    three.cluster.lab.boot(0);
    let file = three.start_with_file(0);
    within(PATIENCE, "the founder back", || {
        // As long as the old one counts as there, another of its name may be refused: what started
        // it starts it again.
        if !three.cluster.lab.node_mut(0).is_up() {
            three.start_again_with(0, &file);
        }
        (three.cluster_of(0)? == three.id && !file.exists()).then_some(())
    });
    // Its first time is in the same log.
    assert_eq!(three.foundings(), 1);
}

#[test]
fn founders_that_could_not_hear_each_other_become_one_cluster_once_they_do() {
    if !can_set_up("founders apart") {
        return;
    }
    let mut two = Founding::new(2);
    two.cluster.lab.split(&[&[0], &[1]]);
    (0..2).for_each(|host| drop(two.start_with_file(host)));
    for host in 0..2 {
        two.cluster.awaited("a cluster of one", || two.cluster_of(host));
    }
    assert_eq!(two.foundings(), 2, "nobody can know better");
    two.cluster.lab.unite();
    two.until_one_cluster();
    assert!((0..2).any(|host| two.says(host, "is given up")));
}

#[test]
fn a_node_that_waits_for_another_founder_founds_when_that_is_gone() {
    if !can_set_up("a founder that is gone") {
        return;
    }
    let mut two = Founding::new(2);
    (0..2).for_each(|host| drop(two.start_with_file(host)));
    let waits = two
        .cluster
        .awaited("one that waits", || (0..2).find(|host| two.says(*host, "comes first")));
    assert_eq!(two.foundings(), 0);
    // Not even a goodbye is heard.
    two.cluster.lab.power_off(1 - waits);
    two.cluster.awaited("a cluster of the other", || two.cluster_of(waits));
    two.cluster.lab.boot(1 - waits);
    two.start_with_file(1 - waits);
    two.until_one_cluster();
    assert_eq!(two.foundings(), 1);
}
