//! Agents that lose power or their cable, and clusters without any master.

use crate::cluster::{Cluster, sleeping};
use crate::verdict::judge;
use bramble_tests::lab::can_set_up;
use bramble_tests::{WATCHED, throughout};
use std::time::Instant;

#[test]
fn tasks_of_an_agent_without_power_run_elsewhere() {
    if !can_set_up("an agent without power") {
        return;
    }
    let mut cluster = Cluster::form(3, 3);
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("moves", "77011", 12));
    let before = cluster.until_sleep("77011", 12);
    let victim = *before.keys().rfind(|host| **host >= 3).expect("an agent has some");
    let start = Instant::now();
    cluster.lab.power_off(victim);
    let after = cluster.until_sleep("77011", 12);
    println!("running elsewhere after {:?}", start.elapsed());
    assert!(!after.contains_key(&victim));
    // Those of the others were left alone.
    for (host, pids) in before.iter().filter(|(host, _)| **host != victim) {
        assert!(pids.iter().all(|pid| after[host].contains(pid)), "{before:?} {after:?}");
    }
    cluster.lab.power_on(victim);
    cluster.until_whole();
    cluster.until_sleep("77011", 12);
}

#[test]
fn nothing_runs_twice_after_the_return_of_an_agent_that_was_cut_off() {
    if !can_set_up("an agent cut off") {
        return;
    }
    let cluster = Cluster::form(3, 3);
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("once", "77012", 8));
    let before = cluster.until_sleep("77012", 8);
    let victim = *before.keys().rfind(|host| **host >= 3).expect("an agent has some");
    let held = before[&victim].len();
    cluster.lab.cut(victim);
    // Replaced elsewhere, while those that nobody can reach go on: that is what cut off means.
    let both = cluster.until_sleep("77012", 8 + held);
    assert_eq!(both[&victim], before[&victim]);
    cluster.lab.mend(victim);
    cluster.until_whole();
    cluster.until_sleep("77012", 8);
    throughout(WATCHED, "no more than 8 run", || {
        cluster.sleepers("77012").values().map(Vec::len).sum::<usize>() <= 8
    });
}

#[test]
fn tasks_go_on_without_masters_and_are_left_alone_when_those_return() {
    if !can_set_up("no masters") {
        return;
    }
    let mut cluster = Cluster::form(3, 2);
    let clients = cluster.lab.clients(2);
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("stays", "77013", 10));
    let before = cluster.until_sleep("77013", 10);
    for master in 0..3 {
        cluster.lab.kill(master);
    }
    // One that crashes meanwhile is started again by its agent alone.
    let agent = *before.keys().rfind(|host| **host >= 3).expect("an agent has some");
    let crashed = before[&agent][0];
    let pid = nix::unistd::Pid::from_raw(crashed);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it lives");
    let meanwhile = cluster.awaited("the crashed one again", || {
        let now = cluster.sleepers("77013");
        let there = now.get(&agent)?;
        (there.len() == before[&agent].len() && !there.contains(&crashed)).then_some(now)
    });
    cluster.lab.start(0..3);
    cluster.until_whole();
    let since = clients.now();
    clients.until_writable(since);
    judge(&cluster, clients);
    assert_eq!(cluster.sleepers("77013"), meanwhile, "the same processes");
}
