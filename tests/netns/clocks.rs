//! Wall clocks that are wrong by decades, and that jump.

use crate::cluster::{Cluster, hosts, sleeping};
use crate::verdict::judge;
use bramble_tests::lab::can_set_up;
use std::time::{SystemTime, UNIX_EPOCH};

/// Added to the wall clock as bramble reads it, in seconds.
const OFFSET: &str = "BRAMBLE_TEST_CLOCK_OFFSET_S";
const SEVENTY_YEARS_S: u64 = 70 * 365 * 24 * 3600;

#[test]
fn clocks_decades_apart_form_elect_and_run() {
    if !can_set_up("wrong clocks") {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut all = hosts(3, 1);
    // The founder lives in 1970, as a Pi without a network does; another is far ahead.
    for (host, offset) in [(0, format!("-{now}")), (1, SEVENTY_YEARS_S.to_string())] {
        all[host] = all[host].clone().env(OFFSET, &offset);
    }
    let mut cluster = Cluster::form_of(all, 3);
    let clients = cluster.lab.clients(2);
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("timeless", "77031", 4));
    cluster.until_sleep("77031", 4);
    // Whoever leads, of whatever time: each in turn is followed by another.
    // And who comes back does so in another age.
    for age in [30 * SEVENTY_YEARS_S, 0, 7] {
        let leader = cluster.leader();
        cluster.lab.kill(leader);
        let since = clients.now();
        clients.until_writable(since);
        cluster.lab.node_mut(leader).set_variable(OFFSET, &age.to_string());
        cluster.lab.start([leader]);
        cluster.until_whole();
    }
    cluster.until_sleep("77031", 4);
    let version =
        |host| cluster.see(host, "/v2/apps/timeless").expect("the app")["app"]["version"].clone();
    let before = version(0);
    cluster.write(&[0], "PUT", "/v2/apps/timeless?force=true", r#"{"instances":5}"#);
    cluster.until_sleep("77031", 5);
    let after = version(0);
    assert!(before.as_str() < after.as_str(), "{before} {after}");
    // The founder's age: nobody who followed it took up a clock of its own.
    assert!(after.as_str() < Some("1971"), "{after}");
    judge(&cluster, clients);
}
