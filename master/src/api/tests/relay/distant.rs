//! A node that is no master: whatever it is asked, some master answers, or its own tasks are all
//! it can tell of.

use super::{APP, JSON, Pair, at, follower};
use crate::api::testing::{Node, Setup, state};
use crate::masters::Lead;
use bramble_core::model::{NodeId, State};
use std::sync::Arc;

fn own() -> State {
    let mut own = State::default();
    state::add_app(&mut own, "/mine", 1);
    state::running(&mut own, "/mine", "1");
    own
}

async fn agent(masters: &[&str]) -> Node {
    let setup = Setup {
        follows: true,
        name: Some("agent"),
        own: Some(Arc::new(|| Box::pin(async { own() }))),
        ..Setup::default()
    };
    let node = Node::set_up(setup).await;
    node.wire.set(Lead::Masters(masters.iter().map(|name| NodeId::new(*name)).collect()));
    node
}

#[tokio::test]
async fn any_master_will_do() {
    let Pair { leader, follower: other } = Pair::start().await;
    // The first is gone, the second does not lead and passes it on.
    let node = agent(&["gone", "other", "leader"]).await;
    node.wire.join("other", &other.relay);
    node.wire.join("leader", &leader.relay);
    let made = node.unix().await.ask("POST", "/v2/apps", &[JSON], APP).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let via: Vec<&str> =
        made.headers.get_all("x-marathon-via").iter().map(|v| v.to_str().unwrap()).collect();
    let expected = [&other, &node].map(|n| format!("1.1 {}:{}", n.name, n.http.port()));
    assert_eq!(via, expected);
    assert_eq!(node.get("/v2/apps/a").await.json()["app"]["id"], "/a");
    let token = node.unix().await.ask("GET", "/v1/bramble/token", &[], "").await;
    assert_eq!(token.status, 200, "its own socket is as good as theirs");
    assert_eq!(node.get("/ping").await.header("x-marathon-via"), "");
}

#[tokio::test]
async fn what_a_master_says_of_a_missing_leader_is_passed_on() {
    let master = follower("master").await;
    master.edit(|all| state::add_app(all, "/a", 1));
    let node = agent(&["master"]).await;
    node.wire.join("master", &master.relay);
    let list = node.get("/v2/apps").await;
    assert_eq!((list.status, list.header("x-bramble-stale")), (200, "true"));
    assert_eq!(list.json()["apps"][0]["id"], "/a");
    let refused = node.ask("POST", "/v2/apps", APP).await;
    assert_eq!(refused.text, r#"{"message":"no leader: 1 of 3 masters answers"}"#);
}

#[tokio::test]
async fn alone_it_tells_of_its_own_tasks_only() {
    let node = agent(&["gone"]).await;
    for path in ["/v2/tasks", "/v2/apps/mine/tasks"] {
        let tasks = node.get(path).await;
        assert_eq!(tasks.status, 200, "{}", tasks.text);
        assert_eq!(tasks.json()["tasks"][0]["appId"], "/mine");
        assert_eq!(tasks.header("x-bramble-stale"), "true");
        assert!(tasks.header("warning").starts_with("110 - "));
    }
    let rows = [("GET", "/v2/apps"), ("POST", "/v2/apps"), ("GET", "/v2/apps/other/tasks")];
    for (method, path) in rows {
        let refused = node.ask(method, path, if method == "POST" { APP } else { "" }).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{method} {path}");
        assert!(refused.text.contains("masters"), "{}", refused.text);
    }
    let text = [("Accept", "text/plain")];
    assert_eq!(node.tcp().await.ask("GET", "/v2/tasks", &text, "").await.status, 503);
    assert_eq!(node.get("/ping").await.text, "pong");
    // It never answers for others.
    let other = follower("other").await;
    other.wire.join("agent", &node.relay);
    other.wire.set(at("agent"));
    assert_eq!(other.ask("POST", "/v2/apps", APP).await.status, 503);
}
