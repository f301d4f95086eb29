//! The release before this one, upgraded node by node under its users.

use crate::cluster::{Cluster, hosts, sleeping};
use crate::verdict::judge;
use bramble_tests::lab::can_set_up;
use bramble_tests::{bramble, previous};
use nix::sys::signal::Signal;

/// Masters and agents of the cluster.
const MASTERS: usize = 3;
const AGENTS: usize = 2;
const CLIENTS: usize = 2;
/// How many requests clients make while versions are mixed, at least, and after.
const MORE_REQUESTS: usize = 50;
const INSTANCES: usize = 10;
const MARK: &str = "77051";

#[test]
fn nodes_of_the_previous_release_are_upgraded_one_by_one_and_containers_stay() {
    if !can_set_up("an upgrade") {
        return;
    }
    let Some(previous) = previous() else {
        println!("*** SKIPPED: no release was tagged before this version ***");
        return;
    };
    let mut cluster = Cluster::of(hosts(MASTERS, AGENTS), MASTERS);
    for host in cluster.lab.everyone() {
        cluster.lab.node_mut(host).set_program(&previous);
    }
    cluster.start_all();
    let clients = cluster.lab.clients(CLIENTS);
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("stays", MARK, INSTANCES));
    let before = cluster.until_sleep(MARK, INSTANCES);
    // Masters first, as the notes of a release tell; the one that leads is among them.
    for host in cluster.lab.everyone() {
        cluster.lab.node_mut(host).stop(Signal::SIGTERM);
        cluster.lab.node_mut(host).set_program(&bramble());
        cluster.lab.start([host]);
        cluster.until_whole();
        clients.go_on(MORE_REQUESTS);
        // Old and new ones agree on what is new, whoever leads.
        let mixed = sleeping(&format!("mixed{host}"), &format!("{MARK}{host}"), 1);
        cluster.write(&[host], "POST", "/v2/apps", &mixed);
        cluster.until_sleep(&format!("{MARK}{host}"), 1);
    }
    assert_eq!(cluster.sleepers(MARK), before, "the same processes all along");
    clients.go_on(MORE_REQUESTS);
    judge(&cluster, clients);
}
