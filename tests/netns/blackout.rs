//! Everything at once: no power anywhere, other addresses everywhere.

use crate::cluster::{Cluster, hosts, sleeping};
use crate::verdict::judge;
use bramble_tests::lab::can_set_up;
use bramble_tests::{WATCHED, throughout};
use std::time::Instant;

#[test]
fn all_comes_back_from_a_blackout_and_runs_once() {
    if !can_set_up("a blackout") {
        return;
    }
    let mut cluster = Cluster::form(3, 3);
    let clients = cluster.lab.clients(2);
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("back", "77021", 12));
    cluster.until_sleep("77021", 12);
    for host in cluster.lab.everyone() {
        cluster.lab.power_off(host);
    }
    assert!(cluster.sleepers("77021").is_empty());
    let start = Instant::now();
    for host in cluster.lab.everyone() {
        cluster.lab.power_on(host);
    }
    cluster.until_whole();
    println!("whole again after {:?}", start.elapsed());
    cluster.until_sleep("77021", 12);
    println!("all tasks again after {:?}", start.elapsed());
    let since = clients.now();
    clients.until_writable(since);
    judge(&cluster, clients);
    throughout(WATCHED, "12 run", || {
        cluster.sleepers("77021").values().map(Vec::len).sum::<usize>() == 12
    });
}

#[test]
fn every_address_changes_at_once() {
    if !can_set_up("renumbering") {
        return;
    }
    // The first card's address is that of all others, and stays.
    let hosts = hosts(3, 2).into_iter().map(|host| host.nat()).collect();
    let mut cluster = Cluster::form_of(hosts, 3);
    let clients = cluster.lab.clients(2);
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("still", "77022", 5));
    let before = cluster.until_sleep("77022", 5);
    // Another network, then one in which each has the address that another had.
    for round in 1..=2 {
        let since = clients.now();
        match round {
            1 => cluster.lab.renumber(round),
            _ => cluster.lab.rotate_addresses(),
        }
        let wait = clients.until_writable(since);
        println!("round {round}: writable again after {wait:?}");
        cluster.until_whole();
    }
    judge(&cluster, clients);
    assert_eq!(cluster.sleepers("77022"), before, "the same processes");
}
