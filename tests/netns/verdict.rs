//! What clients were told, judged at the end.

use crate::cluster::Cluster;
use bramble_tests::history::{acknowledged, check, none_lost};
use bramble_tests::lab::{Clients, INITIAL};

/// Stop the clients and check all they were told, and what every node tells at last.
pub fn judge(cluster: &Cluster, clients: Clients) {
    let history = clients.stop();
    let written = acknowledged(&history);
    assert!(written > 0, "nothing was ever acknowledged, so nothing was tested: {history:?}");
    println!("{} requests, {written} acknowledged writes", history.len());
    check(&history, INITIAL).expect("linearizable");
    let held = cluster.lab.register();
    assert!(held.iter().all(|value| *value == held[0]), "nodes disagree: {held:?}");
    none_lost(&history, INITIAL, held[0]).expect("no acknowledged write is lost");
}
