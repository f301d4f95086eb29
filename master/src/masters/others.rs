//! The masters, as one of them sees them: who leads is known from the log.

use super::pipe::QuicPipe;
use super::{AbsenceFuture, Lead, Masters, OpenError, OpenFuture};
use crate::api;
use crate::consensus::Leadership;
use crate::store::Store;
use bramble_core::model::{NodeId, NodeRole};
use bramble_protocol::net::{Alpn, Links};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// Longest wait for a master to say that it is there.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Time for which a count of masters is told again, so that a storm of writes asks once.
const COUNT_KEPT: Duration = Duration::from_secs(2);

/// How this master reaches the others.
pub struct Others {
    own: NodeId,
    links: Arc<Links>,
    store: Arc<Store>,
    lead: watch::Receiver<Lead>,
    counted: Mutex<Option<(Instant, String)>>,
}

impl Others {
    /// Follow `leadership` until its sender is gone. Must be called inside a tokio runtime.
    pub fn new(
        own: NodeId,
        links: Arc<Links>,
        store: Arc<Store>,
        leadership: watch::Receiver<Leadership>,
    ) -> Self {
        let (sender, lead) = watch::channel(seen(&own, &leadership.borrow()));
        tokio::spawn(follow(own.clone(), leadership, sender));
        Self { own, links, store, lead, counted: Mutex::default() }
    }

    /// Ask every other master whether it is there.
    async fn count(&self) -> String {
        let masters: Vec<NodeId> = self.store.read(|state| {
            let masters = state.nodes.values().filter(|node| node.role != NodeRole::Agent);
            masters.map(|node| node.id.clone()).collect()
        });
        let others = masters.iter().filter(|node| **node != self.own);
        let asked = others.map(|node| async move {
            let asking = async {
                match self.open(node).await {
                    Ok(pipe) => api::answers(pipe).await,
                    Err(_) => false,
                }
            };
            tokio::time::timeout(ANSWER_TIME_MAX, asking).await.unwrap_or(false)
        });
        let answering = 1 + join_all(asked).await.into_iter().filter(|answers| *answers).count();
        told(answering, masters.len())
    }
}

/// Why there is no leader, where so many of the known masters answer, this one among them.
fn told(answering: usize, known: usize) -> String {
    let verb = if answering == 1 { "answers" } else { "answer" };
    match known {
        // Not even itself: it was admitted, and the leader has said nothing since.
        0 => "no leader: this node has joined its cluster and was not told anything since. If the \
              machine that let it in is gone for good, and no other master runs, `bramble \
              reset-identity --yes` lets this node begin anew"
            .into(),
        known => format!("no leader: {answering} of {known} masters {verb}"),
    }
}

/// What raft's view means for the API. A leader that is still catching up is none yet.
fn seen(own: &NodeId, leadership: &Leadership) -> Lead {
    match &leadership.leader {
        _ if leadership.here => Lead::Here { term: leadership.term },
        Some(leader) if leader != own => Lead::At(leader.clone()),
        _ => Lead::Nobody,
    }
}

async fn follow(
    own: NodeId,
    mut leadership: watch::Receiver<Leadership>,
    sender: watch::Sender<Lead>,
) {
    loop {
        let now = seen(&own, &leadership.borrow_and_update());
        sender.send_if_modified(|known| {
            let news = *known != now;
            *known = now;
            news
        });
        if leadership.changed().await.is_err() {
            sender.send_replace(Lead::Nobody);
            return;
        }
    }
}

impl Masters for Others {
    fn lead(&self) -> watch::Receiver<Lead> {
        self.lead.clone()
    }

    fn open<'a>(&'a self, node: &'a NodeId) -> OpenFuture<'a> {
        open(&self.links, node)
    }

    fn absence(&self) -> AbsenceFuture<'_> {
        Box::pin(async move {
            // Held while asking: whoever comes meanwhile gets the same answer.
            let mut counted = self.counted.lock().await;
            match &*counted {
                Some((at, said)) if at.elapsed() < COUNT_KEPT => said.clone(),
                _ => {
                    let said = self.count().await;
                    *counted = Some((Instant::now(), said.clone()));
                    said
                }
            }
        })
    }
}

/// Open a stream to the API of `node`.
pub(super) fn open<'a>(links: &'a Links, node: &'a NodeId) -> OpenFuture<'a> {
    Box::pin(async move {
        match links.open(node, Alpn::Api).await {
            Ok((send, receive)) => Ok(Box::new(QuicPipe::new(send, receive)) as super::BoxPipe),
            Err(error) => Err(OpenError { node: node.clone(), source: Box::new(error) }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_told_nothing_is_told_the_way_out() {
        assert_eq!(told(1, 3), "no leader: 1 of 3 masters answers");
        assert_eq!(told(2, 4), "no leader: 2 of 4 masters answer");
        assert!(told(1, 0).contains("`bramble reset-identity --yes`"));
    }

    #[test]
    fn a_leader_counts_once_it_can_answer() {
        let (own, other) = (NodeId::new("a"), NodeId::new("b"));
        let rows = [
            (None, false, Lead::Nobody),
            (Some(&own), false, Lead::Nobody),
            (Some(&own), true, Lead::Here { term: 3 }),
            (Some(&other), false, Lead::At(other.clone())),
        ];
        for (leader, here, expected) in rows {
            let leadership = Leadership { term: 3, leader: leader.cloned(), here };
            assert_eq!(seen(&own, &leadership), expected, "{leadership:?}");
        }
    }
}
