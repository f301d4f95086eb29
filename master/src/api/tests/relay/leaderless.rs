//! No leader, for a moment or for long; and a leader that cannot know whether it is one.

use super::{APP, Pair, follower};
use crate::api::limits::LEADER_TIME_MAX;
use crate::api::testing::{Node, state};
use crate::masters::{Lead, ReadError};
use bramble_protocol::net::Farewell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn reads_are_marked_stale_and_writes_are_refused_with_the_reason() {
    let node = follower("alone").await;
    node.edit(|all| state::add_app(all, "/a", 1));
    let begun = Instant::now();
    for _ in 0..50 {
        let list = node.get("/v2/apps").await;
        assert_eq!((list.status, &list.json()["apps"][0]["id"]), (200, &"/a".into()));
        assert_eq!(list.header("x-bramble-stale"), "true");
        assert_eq!(list.header("warning"), "110 - \"no leader: recent changes may be missing\"");
        assert_eq!(list.header("x-marathon-leader"), "");
    }
    assert!(begun.elapsed() < LEADER_TIME_MAX * 25, "only the first ones wait");
    let refused = node.ask("POST", "/v2/apps", APP).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.text, r#"{"message":"no leader: 1 of 3 masters answers"}"#);
    assert!(node.memory.commands.lock().unwrap().is_empty());
    let ping = node.get("/ping").await;
    assert_eq!((ping.status, ping.header("x-bramble-stale")), (200, ""));
}

#[tokio::test]
async fn a_removed_node_asks_nobody_and_says_that_nothing_was_done() {
    let Pair { leader, follower } = Pair::start().await;
    follower.edit(|all| state::add_app(all, "/a", 1));
    follower.verdict.send_replace(Some(Farewell::Removed));
    let refused = follower.ask("POST", "/v2/apps", APP).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    for word in ["nothing was done", "removed from the cluster", "`bramble reset-identity`"] {
        assert!(refused.text.contains(word), "{word:?}: {}", refused.text);
    }
    assert!(leader.memory.commands.lock().unwrap().is_empty());
    let list = follower.get("/v2/apps").await;
    assert_eq!((list.status, list.header("x-bramble-stale")), (200, "true"));
    assert!(list.header("warning").contains("removed from the cluster"), "{list:?}");
    // Let in again, it is as before.
    follower.verdict.send_replace(None);
    assert_eq!(follower.ask("POST", "/v2/apps", APP).await.status, 201);
}

#[tokio::test]
async fn a_write_during_an_election_is_slow_and_succeeds() {
    let node = Arc::new(follower("candidate").await);
    let asking = {
        let node = node.clone();
        tokio::spawn(async move { node.ask("POST", "/v2/apps", APP).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!asking.is_finished());
    node.wire.set(Lead::Here { term: 2 });
    assert_eq!(asking.await.unwrap().status, 201);
    let list = node.get("/v2/apps").await;
    assert_eq!((list.status, list.header("x-bramble-stale")), (200, ""));
}

#[tokio::test]
async fn a_leader_that_lost_its_quorum_answers_nothing_as_fresh() {
    let node = Node::start().await;
    node.edit(|all| state::add_app(all, "/a", 1));
    *node.wire.closed.lock().unwrap() = Some(ReadError::NoQuorum);
    let list = node.get("/v2/apps").await;
    assert_eq!((list.status, list.header("x-bramble-stale")), (200, "true"));
    // That there is no such app is read from the state too.
    let missing = node.ask("DELETE", "/v2/apps/x/tasks", "").await;
    assert_eq!(missing.status, 503, "{}", missing.text);
    *node.wire.closed.lock().unwrap() = None;
    assert_eq!(node.ask("DELETE", "/v2/apps/x/tasks", "").await.status, 404);
    assert_eq!(node.get("/v2/apps").await.header("x-bramble-stale"), "");
}

#[tokio::test]
async fn a_leader_that_cannot_know_sends_the_question_back() {
    let Pair { leader, follower } = Pair::start().await;
    follower.edit(|all| state::add_app(all, "/here", 1));
    *leader.wire.closed.lock().unwrap() = Some(ReadError::NoQuorum);
    let list = follower.get("/v2/apps").await;
    assert_eq!(list.json()["apps"][0]["id"], "/here", "answered where it was asked");
    assert_eq!(list.header("x-bramble-stale"), "true");
}

#[tokio::test]
async fn only_reads_of_what_is_replicated_pass_the_gate() {
    let node = Node::start().await;
    for path in ["/ping", "/metrics", "/config", "/v2/plugins"] {
        assert_eq!(node.get(path).await.status, 200);
    }
    assert_eq!(node.ask("POST", "/v2/apps", APP).await.status, 201);
    assert_eq!(node.wire.reads.load(Ordering::SeqCst), 0);
    for path in ["/v2/apps", "/v2/apps/a", "/v2/deployments", "/v1/bramble/status"] {
        assert_eq!(node.get(path).await.status, 200);
    }
    assert_eq!(node.wire.reads.load(Ordering::SeqCst), 4);
}
