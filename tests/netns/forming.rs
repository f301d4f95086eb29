//! Machines become one cluster, and nobody types an address.

use crate::cluster::{Cluster, hosts, sleeping};
use bramble_tests::lab::can_set_up;

#[test]
fn three_machines_with_one_token_are_one_cluster_of_three_voters() {
    if !can_set_up("forming") {
        return;
    }
    // As virtual machines are: the first card of each has the same address and leads nowhere.
    let hosts = hosts(3, 0).into_iter().map(|host| host.nat()).collect();
    let cluster = Cluster::form_of(hosts, 3);
    let clusters: Vec<_> = (0..3)
        .map(|host| cluster.see(host, "/v1/bramble/status").expect("a status")["cluster"].clone())
        .collect();
    assert!(
        clusters[0].is_string() && clusters.iter().all(|id| *id == clusters[0]),
        "{clusters:?}"
    );
    // Work that one is given runs on all.
    cluster.write(&[2], "POST", "/v2/apps", &sleeping("spread", "77001", 6));
    let found = cluster.until_sleep("77001", 6);
    assert!(found.len() > 1, "{found:?}");
}
