//! Leaders that die, are cut off, hear nothing or say nothing, while clients write.

use crate::cluster::{ASK, Cluster, sleeping};
use crate::verdict::judge;
use bramble_tests::lab::can_set_up;
use bramble_tests::throughout;
use std::time::Duration;

/// Clients that write and read throughout.
const CLIENTS: usize = 4;
/// How many requests clients make after a fault was healed, before they are judged.
const MORE_REQUESTS: usize = 100;
/// A link so slow that a heartbeat takes its time, but not so slow that nothing passes.
const SLOW_KILOBITS: u32 = 512;
const SLOW_FOR: Duration = Duration::from_secs(10);
/// Elections in twice that time. One may be a busy machine's; a follower that keeps standing, or
/// a timeout shorter than the link's delay, makes two in a second.
const ELECTIONS_MAX: u64 = 8;

/// The masters but one.
fn others(cluster: &Cluster, one: usize) -> Vec<usize> {
    (0..cluster.masters).filter(|host| *host != one).collect()
}

#[test]
fn a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    if !can_set_up("a killed leader") {
        return;
    }
    let mut cluster = Cluster::form(3, 0);
    let clients = cluster.lab.clients(CLIENTS);
    for round in 0..3 {
        let leader = cluster.leader();
        let killed = clients.now();
        match round {
            // By a signal: its sockets close. By a power cut: nobody is told.
            0 | 1 => cluster.lab.kill(leader),
            _ => cluster.lab.power_off(leader),
        }
        let rest = others(&cluster, leader);
        let next = cluster.leader_among(&rest);
        assert_ne!(next, leader);
        println!("leader killed: writable after {:?}", clients.until_writable(killed));
        match round {
            0 | 1 => cluster.lab.start([leader]),
            _ => cluster.lab.power_on(leader),
        }
        cluster.until_whole();
    }
    clients.go_on(MORE_REQUESTS);
    judge(&cluster, clients);
}

#[test]
fn a_leader_whom_no_quorum_answers_says_that_there_is_none() {
    if !can_set_up("a leader deserted") {
        return;
    }
    let mut cluster = Cluster::form(3, 0);
    let leader = cluster.leader();
    let rest = others(&cluster, leader);
    rest.iter().for_each(|other| cluster.lab.kill(*other));
    cluster.awaited("no leader", || {
        let answer = cluster.lab.node(leader).ask("GET", "/v2/leader", None, ASK).ok()?;
        (answer.status == 404).then_some(())
    });
    let masters = cluster.see(leader, "/v1/bramble/masters").expect("stale is better than none");
    assert!(masters.as_array().expect("a list").iter().all(|m| m["leader"] == false), "{masters}");
    let body = r#"{"env":{"NEVER":"1"}}"#;
    let refused = cluster.lab.node(leader).ask("PUT", "/v2/apps/nothing", Some(body), ASK);
    let refused = refused.expect("an answer, and soon");
    assert!(refused.status == 503 && !refused.body.is_empty(), "{refused:?}");
    cluster.lab.start(rest);
    cluster.until_whole();
    cluster.write(&[leader], "POST", "/v2/apps", &sleeping("after", "77061", 1));
    cluster.until_sleep("77061", 1);
}

#[test]
fn a_leader_that_is_cut_off_steps_down() {
    if !can_set_up("a leader cut off") {
        return;
    }
    let cluster = Cluster::form(3, 0);
    let clients = cluster.lab.clients(CLIENTS);
    let leader = cluster.leader();
    let rest = others(&cluster, leader);
    let cut = clients.now();
    cluster.lab.cut(leader);
    cluster.leader_among(&rest);
    println!("leader cut off: writable after {:?}", clients.until_writable(cut));
    // The old one says that it cannot, instead of taking what would be lost.
    cluster.awaited("a refusal of the old leader", || {
        let body = r#"{"env":{"NEVER":"1"}}"#;
        let answer = cluster.lab.node(leader).ask("PUT", "/v2/apps/nothing", Some(body), ASK);
        answer.ok().filter(|answer| answer.status == 503 && !answer.body.is_empty())
    });
    assert_ne!(cluster.leader_by(leader), Some(leader));
    cluster.lab.mend(leader);
    cluster.until_whole();
    clients.go_on(MORE_REQUESTS);
    judge(&cluster, clients);
}

#[test]
fn a_leader_that_only_hears_or_only_speaks_is_replaced() {
    if !can_set_up("one-way cuts") {
        return;
    }
    let cluster = Cluster::form(3, 0);
    let clients = cluster.lab.clients(CLIENTS);
    type Fault = fn(&Cluster, usize, bool);
    let faults: [(&str, Fault); 2] = [
        ("mute", |cluster, host, on| cluster.lab.mute(host, on)),
        ("deaf", |cluster, host, on| cluster.lab.deafen(host, on)),
    ];
    for (name, fault) in faults {
        let leader = cluster.leader();
        let rest = others(&cluster, leader);
        let since = clients.now();
        fault(&cluster, leader, true);
        cluster.leader_among(&rest);
        println!("{name} leader: writable after {:?}", clients.until_writable(since));
        fault(&cluster, leader, false);
        cluster.until_whole();
    }
    clients.go_on(MORE_REQUESTS);
    judge(&cluster, clients);
}

#[test]
fn slow_links_are_no_reason_to_elect_again_and_again() {
    if !can_set_up("slow links") {
        return;
    }
    let cluster = Cluster::form(3, 0);
    let clients = cluster.lab.clients(1);
    let leader = cluster.leader();
    let before = cluster.term();
    let since = clients.now();
    // A follower first, whose candidacies would unseat a leader that all others hear; then all.
    for slow in [&others(&cluster, leader)[..1], &[0, 1, 2]] {
        slow.iter().for_each(|host| cluster.lab.slow(*host, Some(SLOW_KILOBITS)));
        throughout(SLOW_FOR, "few elections", || cluster.term() - before <= ELECTIONS_MAX);
        slow.iter().for_each(|host| cluster.lab.slow(*host, None));
    }
    let elections = cluster.term() - before;
    let written = clients.so_far().iter().filter(|operation| operation.invoked > since).count();
    println!("slow links: {elections} elections, {written} requests");
    assert!(elections <= ELECTIONS_MAX, "{elections} elections");
    clients.until_writable(clients.now());
    judge(&cluster, clients);
}
