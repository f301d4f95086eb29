//! Requests that another node answers: nodes of this process, joined by pipes in memory.

mod broken;
mod distant;
mod leaderless;
mod passing;
mod streaming;

use crate::api::testing::agent::Agents;
use crate::api::testing::{Node, Setup};
use crate::masters::Lead;
use bramble_core::model::NodeId;

const APP: &str = r#"{"id":"a","cmd":"sleep 1"}"#;
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A master that leads, and one that knows it.
struct Pair {
    leader: Node,
    follower: Node,
}

impl Pair {
    async fn start() -> Pair {
        Pair::with(Agents::default()).await
    }

    async fn with(agents: Agents) -> Pair {
        let leader = Node::set_up(Setup { agents, name: Some("leader"), ..Setup::default() }).await;
        let follower = follower("follower").await;
        follower.wire.join("leader", &leader.relay);
        follower.wire.set(Lead::At(NodeId::new("leader")));
        Pair { leader, follower }
    }
}

/// A master that knows of no leader yet.
async fn follower(name: &'static str) -> Node {
    Node::set_up(Setup { follows: true, name: Some(name), ..Setup::default() }).await
}

fn at(name: &str) -> Lead {
    Lead::At(NodeId::new(name))
}
