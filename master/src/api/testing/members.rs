//! The rooms of membership, of a master that is alone.

use super::Memory;
use crate::administration::Administration;
use crate::authority::Authority;
use crate::consensus::Leadership;
use crate::membership::{ChangeFuture, HandOver, Member, Membership};
use crate::peers::Peers;
use crate::roster::Roster;
use crate::store::Store;
use crate::vault::Vault;
use bramble_core::autopilot::{Change, Standing};
use bramble_core::model::NodeId;
use bramble_protocol::net::{Directory, Endpoint, Links, NodeKey};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub(super) struct Rooms {
    pub(super) administration: Arc<Administration>,
    pub(super) roster: Arc<Roster>,
}

struct Alone(NodeId);

impl Membership for Alone {
    fn members(&self) -> Vec<Member> {
        vec![Member { id: self.0.clone(), standing: Standing::Voter, lag: Some(0) }]
    }

    fn known(&self) -> Vec<Member> {
        self.members()
    }

    fn hand_over(&self, _most: Duration) -> HandOver<'_> {
        Box::pin(async { false })
    }

    fn stand_again(&self) {}

    fn change(&self, _change: Change) -> ChangeFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}

impl Rooms {
    pub(super) fn new(
        key: &NodeKey,
        store: &Arc<Store>,
        memory: Arc<Memory>,
        vault: &Arc<Vault>,
        leads: bool,
    ) -> Rooms {
        let own = key.node_id();
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let directory = Arc::new(Directory::default());
        let links = Arc::new(Links::new(Arc::new(endpoint), directory.clone()));
        let peers = Arc::new(Peers::new(own.clone(), links, Arc::default()));
        let leader = leads.then(|| own.clone());
        let seen = Leadership { leader, here: leads, ..Leadership::default() };
        let leadership = watch::channel(seen).1;
        let membership = Arc::new(Alone(own.clone()));
        let authority = Arc::new(Authority {
            store: store.clone(),
            propose: memory.clone(),
            vault: vault.clone(),
            founding: None,
            peers: Some(peers.clone()),
        });
        let administration = Arc::new(Administration {
            own: own.clone(),
            store: store.clone(),
            propose: memory,
            authority,
            membership: membership.clone(),
            peers: peers.clone(),
            leadership: leadership.clone(),
        });
        let roster = Arc::new(Roster { own, membership, heard: peers, directory, leadership });
        Rooms { administration, roster }
    }
}
