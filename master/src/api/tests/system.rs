//! Info, leader, ping, metrics, and bramble's own views of the cluster.

use crate::api::testing::agent::Agents;
use crate::api::testing::state::AGENT;
use crate::api::testing::{Node, state};
use bramble_core::model::AgentId;
use serde_json::json;

#[tokio::test]
async fn ping_speaks_the_callers_language() {
    let node = Node::start().await;
    let rows = [
        ("*/*", 200, "text/plain", "pong"),
        ("application/json", 200, "application/json", "\"pong\""),
        ("text/html", 200, "text/html", "pong"),
        ("image/png", 204, "", ""),
    ];
    for (accept, status, kind, body) in rows {
        let answer = node.tcp().await.ask("GET", "/ping", &[("Accept", accept)], "").await;
        assert_eq!((answer.status, answer.text.as_str()), (status, body), "{accept}");
        assert_eq!(answer.header("content-type"), kind, "{accept}");
    }
    let head = node.ask("HEAD", "/ping", "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn every_answer_carries_the_common_headers() {
    let node = Node::start().await;
    for path in ["/v2/apps", "/ping", "/nowhere"] {
        let answer = node.get(path).await;
        let leader = format!("http://node1:{}", node.http.port());
        for (name, want) in [
            ("x-marathon-leader", leader.as_str()),
            ("x-frame-options", "DENY"),
            ("x-xss-protection", "1; mode=block"),
            ("cache-control", "no-cache, no-store, must-revalidate"),
            ("pragma", "no-cache"),
            ("expires", "0"),
        ] {
            assert_eq!(answer.header(name), want, "{path} {name}");
        }
    }
}

#[tokio::test]
async fn info_leader_and_metrics() {
    let node = Node::start().await;
    let address = format!("node1:{}", node.http.port());
    let info = node.get("/v2/info").await.json();
    assert_eq!((&info["name"], &info["elected"]), (&json!("marathon"), &json!(true)));
    assert_eq!(info["leader"], address.as_str());
    assert_eq!(info["http_config"]["http_port"], node.http.port());
    let leader = node.get("/v2/leader").await;
    assert_eq!(leader.text, format!(r#"{{"leader":"{address}"}}"#));

    node.edit(|all| {
        state::add_app(all, "/g/a", 2);
        state::running(all, "/g/a", "1");
        state::waiting(all, "/g/a", "2");
    });
    let metrics = node.get("/metrics").await.json();
    let gauge = |name: &str| metrics["gauges"][name]["value"].as_f64().unwrap();
    assert_eq!(gauge("marathon.apps.active.gauge"), 1.0);
    assert_eq!(gauge("marathon.groups.active.gauge"), 2.0);
    assert_eq!(gauge("marathon.instances.running.gauge"), 1.0);
    assert_eq!(gauge("marathon.instances.scheduled.gauge"), 1.0);
    assert_eq!(metrics["counters"]["marathon.http.requests.counter"]["count"], 3);
    for part in ["histograms", "meters", "timers"] {
        assert!(metrics[part].is_object(), "{part}");
    }
    let mut client = node.tcp().await;
    let scrape = [("Accept", "application/openmetrics-text;q=0.8,text/plain;q=0.5,*/*;q=0.1")];
    for (path, headers) in [("/metrics", &scrape[..]), ("/metrics/prometheus", &[][..])] {
        let text = client.ask("GET", path, headers, "").await;
        assert!(text.header("content-type").starts_with("text/plain"));
        assert!(text.text.contains("\nmarathon_apps_active_gauge 1\n"), "{}", text.text);
    }
}

#[tokio::test]
async fn status_agents_and_token() {
    let node = Node::start_with(Agents::one().await).await;
    node.edit(|all| {
        state::add_agent(all);
        state::add_app(all, "/a", 2);
        state::running(all, "/a", "1");
        state::running(all, "/a", "2");
    });
    let status = node.get("/v1/bramble/status").await.json();
    assert_eq!((&status["node"], &status["elected"]), (&json!("node1"), &json!(true)));
    assert_eq!(
        (&status["apps"], &status["tasks"], &status["deployments"]),
        (&json!(1), &json!(2), &json!(0))
    );
    let agents = node.get("/v1/bramble/agents").await.json();
    assert_eq!(agents, status["agents"]);
    let agent = &agents[0];
    assert_eq!(
        (&agent["reachable"], &agent["connected"], &agent["tasks"]),
        (&json!(true), &json!(true), &json!(2))
    );
    assert_eq!(agent["used"], json!({ "cpus": 1.0, "mem": 128.0, "disk": 0.0, "gpus": 0 }));
    assert_eq!(agent["total"]["mem"], 1024.0);
    assert_eq!(agent["ports"], json!([[31000, 32000]]));
    for mut client in [node.tcp().await, node.unix().await] {
        let token = client.ask("GET", "/v1/bramble/token", &[], "").await;
        assert_eq!(token.text, r#"{"token":"BRAMBLE-1-aa-bb"}"#);
    }
}

#[tokio::test]
async fn backups_are_given_on_the_local_socket_only() {
    let node = Node::start().await;
    let answer = node.unix().await.ask("GET", "/v1/bramble/backup", &[], "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "everything"));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    let answer = node.get("/v1/bramble/backup").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("local socket only"), "{}", answer.text);
    assert_eq!(node.unix().await.ask("POST", "/v1/bramble/backup", &[], "").await.status, 405);
}

#[tokio::test]
async fn of_two_nodes_with_one_name_the_one_that_is_away_is_told() {
    let node = Node::start_with(Agents::one().await).await;
    node.edit(|all| {
        state::add_agent(all);
        let mut old = all.agents[&AgentId::new(AGENT)].clone();
        // Not recorded as away yet: that there is no session says enough.
        old.id = AgentId::new("older-self");
        all.agents.insert(old.id.clone(), old);
    });
    let refused = node.unix().await.ask("DELETE", "/v1/bramble/nodes/node1", &[], "").await;
    let answer: serde_json::Value = serde_json::from_str(&refused.text).unwrap();
    assert_eq!((refused.status, &answer["candidates"]), (409, &json!([AGENT, "older-self"])));
    assert_eq!(answer["message"], "'node1' could be any of: agent-1, older-self (away)");
}
