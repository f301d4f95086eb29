//! The masters as this one sees them, for users. Reads only.

use crate::consensus::Leadership;
use crate::control::Heard;
use crate::membership::Membership;
use bramble_core::autopilot::Standing;
use bramble_core::model::{Node, NodeId, NodeRole, State};
use bramble_protocol::native::MasterView;
use bramble_protocol::net::Directory;
use std::sync::Arc;
use tokio::sync::watch;

/// Addresses shown of one master.
const ADDRESSES_SHOWN: usize = 3;

/// See the module.
pub struct Roster {
    pub own: NodeId,
    pub membership: Arc<dyn Membership>,
    pub heard: Arc<dyn Heard>,
    pub directory: Arc<Directory>,
    pub leadership: watch::Receiver<Leadership>,
}

impl Roster {
    /// Every admitted master, by id.
    pub fn views(&self, state: &State) -> Vec<MasterView> {
        let members = self.membership.known();
        let leader = self.leadership.borrow().leader.clone();
        let masters = state.nodes.values().filter(|node| node.role != NodeRole::Agent);
        let view = |node: &Node| {
            let member = members.iter().find(|member| member.id == node.id);
            let own = node.id == self.own;
            let heard = self.heard.of(&node.id).filter(|_| !own);
            let addresses = self.directory.addresses_seen(&node.id);
            MasterView {
                id: node.id.to_string(),
                name: node.name.clone(),
                standing: word(member.map_or(Standing::Outside, |m| m.standing)).into(),
                leader: leader.as_ref() == Some(&node.id),
                answers: own,
                heard_seconds_ago: heard.map(|at| at.elapsed().as_secs()),
                lag: member.and_then(|member| member.lag),
                addresses: addresses.iter().take(ADDRESSES_SHOWN).map(|a| a.to_string()).collect(),
                same_name: same_name(state, node),
            }
        };
        masters.map(view).collect()
    }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Outside => "outside",
        Standing::Learner => "learner",
        Standing::Voter => "voter",
    }
}

/// Ids of other nodes with a node's name: most likely one machine that was set up anew.
fn same_name(state: &State, node: &Node) -> Vec<String> {
    let others = state.nodes.values().filter(|o| o.name == node.name && o.id != node.id);
    others.map(|other| other.id.to_string()).collect()
}
