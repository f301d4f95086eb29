//! Which agents are away: known ones without a session for longer than is borne. Sole proposer of
//! an agent's absence; a new leader begins to count anew.

use super::Dispatcher;
use bramble_core::command::Command;
use bramble_core::model::AgentId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pause before an absence is proposed again that the log refused.
const RETRY: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Watch over agents until `stop`; for the leader alone.
    pub async fn watch(&self, timeout: Duration, stop: CancellationToken) {
        let mut sessions = self.changed.subscribe();
        let mut absent: BTreeMap<AgentId, Instant> = BTreeMap::new();
        loop {
            sessions.mark_unchanged();
            self.count(&mut absent);
            let now = Instant::now();
            let due: Vec<AgentId> = absent
                .iter()
                .filter(|(_, since)| **since + timeout <= now)
                .map(|(id, _)| id.clone())
                .collect();
            let mut next =
                absent.values().map(|since| *since + timeout).filter(|at| *at > now).min();
            let mut settled = true;
            for agent_id in due {
                settled &= self.tell(&agent_id, false).await;
            }
            // One may have come back while its absence was on the way to the log.
            for agent_id in self.returned() {
                settled &= self.tell(&agent_id, true).await;
            }
            if !settled {
                next = Some(now + RETRY);
            }
            let pause = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = sessions.changed() => if changed.is_err() { return },
                () = pause => {}
            }
        }
    }

    /// Note who has no session and is not known to be away.
    fn count(&self, absent: &mut BTreeMap<AgentId, Instant>) {
        let missing: Vec<AgentId> = {
            let sessions = self.sessions();
            self.store.read(|state| {
                let here = state.agents.keys().filter(|id| !state.away.contains_key(*id));
                here.filter(|id| !sessions.contains_key(*id)).cloned().collect()
            })
        };
        absent.retain(|id, _| missing.contains(id));
        for id in missing {
            absent.entry(id).or_insert_with(Instant::now);
        }
    }

    /// Those with a session that are said to be away.
    fn returned(&self) -> Vec<AgentId> {
        let sessions = self.sessions();
        self.store.read(|state| {
            let away = state.away.keys().filter(|id| sessions.contains_key(*id));
            away.cloned().collect()
        })
    }

    /// Tell the cluster whether an agent is here. Gives whether it knows.
    async fn tell(&self, agent_id: &AgentId, reachable: bool) -> bool {
        tracing::warn!(%agent_id, reachable, "an agent is away, or here again");
        let command = Command::SetReachable { agent_id: agent_id.clone(), reachable };
        match self.propose.propose(command).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%agent_id, %error, "an agent's absence was not recorded");
                false
            }
        }
    }
}
