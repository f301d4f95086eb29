//! Wall clocks that are wrong by decades, in both directions: everything that waits goes on.

use bramble_tests::{Node, can_run_containers, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

const OFFSET: &str = "BRAMBLE_TEST_CLOCK_OFFSET_S";
const YEAR_S: i64 = 31_556_952;

const CHECKED: &str = r#"{"id":"checked","cmd":"sleep 100000","cpus":0.1,"mem":16,
    "healthChecks":[{"protocol":"COMMAND","command":{"value":"true"},"intervalSeconds":1,
    "delaySeconds":0,"gracePeriodSeconds":60}]}"#;
const FAILING: &str =
    r#"{"id":"failing","cmd":"exit 1","cpus":0.1,"mem":16,"backoffSeconds":1,"backoffFactor":1.0}"#;

fn app(node: &Node, id: &str) -> Value {
    node.get(&format!("/v2/apps/{id}?embed=app.lastTaskFailure&embed=app.counts"))["app"].clone()
}

fn version(node: &Node, id: &str) -> String {
    app(node, id)["version"].as_str().expect("a version").to_string()
}

/// Wait until no deployment is left and the checked app is healthy.
fn settled(node: &Node) {
    eventually(&format!("a healthy app\n{}", node.log()), || {
        let app = app(node, "checked");
        let idle = node.get("/v2/deployments").as_array().is_some_and(|all| {
            all.iter().all(|d| d["affectedApps"] != serde_json::json!(["/checked"]))
        });
        (idle && app["tasksHealthy"] == 1 && app["tasksRunning"] == 1).then_some(())
    });
}

/// A launch delay passes: the failing app is tried again, and again.
fn backoff_passes(node: &Node) {
    let failed = || app(node, "failing")["lastTaskFailure"]["taskId"].as_str().map(str::to_string);
    let mut last = failed();
    for round in 0..2 {
        last = eventually(&format!("another try, {round}\n{}", node.log()), || {
            failed().filter(|id| Some(id) != last.as_ref())
        })
        .into();
    }
}

/// Change the app and wait for it; gives its new version.
fn change(node: &Node, round: u32) -> String {
    let changed = CHECKED.replace("sleep 100000", &format!("sleep 10000{round}"));
    node.api("PUT", "/v2/apps/checked", Some(&changed)).expect(200);
    settled(node);
    version(node, "checked")
}

#[test]
fn a_cluster_that_was_in_another_century_goes_on() {
    if !can_run_containers("wrong clocks") {
        return;
    }
    let mut node = Node::builder().prepare();
    node.set_env(OFFSET, &(73 * YEAR_S).to_string());
    node.up();
    node.api("POST", "/v2/apps", Some(CHECKED)).expect(201);
    node.api("POST", "/v2/apps", Some(FAILING)).expect(201);
    settled(&node);
    backoff_passes(&node);
    let mut versions = vec![version(&node, "checked")];
    assert!(versions[0].as_str() > "2095", "{versions:?}");
    versions.push(change(&node, 1));

    // Back to before the first bramble, and to a right clock.
    for (round, offset) in [(2, -30 * YEAR_S), (4, 0)] {
        node.stop(Signal::SIGKILL);
        node.set_env(OFFSET, &offset.to_string());
        node.up();
        settled(&node);
        versions.push(change(&node, round));
        backoff_passes(&node);
        versions.push(change(&node, round + 1));
    }
    assert!(versions.is_sorted(), "{versions:?}");
    let moments: Vec<u64> = versions.iter().map(|text| millis(text)).collect();
    for pair in moments.windows(2) {
        // One that stands still gives each version a millisecond after the one before.
        assert!(pair[1] - pair[0] > 100, "time stands still: {versions:?}");
        assert!(pair[1] - pair[0] < 3_600_000, "time jumps: {versions:?}");
    }
}

/// Milliseconds within the month of a version such as `2099-08-21T10:00:00.123Z`.
fn millis(version: &str) -> u64 {
    let part = |from: usize, to: usize| version[from..to].parse::<u64>().expect("digits");
    let (day, hour) = (part(8, 10), part(11, 13));
    let seconds = ((day * 24 + hour) * 60 + part(14, 16)) * 60 + part(17, 19);
    seconds * 1000 + part(20, 23)
}
