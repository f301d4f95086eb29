//! Which agents are away. Sole proposer of an agent's absence; a new leader begins to count anew.
//!
//! An agent that said goodbye is borne for long: it is being restarted, and its tasks run on. One
//! that fell silent is looked for after two seconds (see `inquiry`), and is away at once when
//! nobody finds it.

use super::Dispatcher;
use super::inquiry::Verdict;
use bramble_core::command::Command;
use bramble_core::model::AgentId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pause before an absence is proposed again that the log refused.
const RETRY: Duration = Duration::from_secs(1);
/// Pause between two looks at what sessions have heard.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Silence after which an agent is looked for: it says every second that it lives.
const SUSPECT_AFTER: Duration = Duration::from_millis(2_250);
/// Silence after which this master's own look has to do, where nobody else could look.
const UNSEEN_AFTER: Duration = Duration::from_secs(4);
/// How long an agent is not looked for again that somebody saw.
const VOUCHED_FOR: Duration = Duration::from_secs(5);

/// What the watch remembers of an agent.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// When it was last heard, or missed first.
    heard: Instant,
    /// Packets its session had received then.
    packets: u64,
    /// Since when it has no session.
    absent: Option<Instant>,
    /// It is not looked for before.
    vouched_until: Option<Instant>,
    asking: bool,
}

impl Dispatcher {
    /// Watch over agents until `stop`; for the leader alone.
    pub async fn watch(self: Arc<Self>, timeout: Duration, stop: CancellationToken) {
        let mut sessions = self.changed.subscribe();
        let mut watched: BTreeMap<AgentId, Watched> = BTreeMap::new();
        let mut inquiries = JoinSet::new();
        let mut retry = None;
        loop {
            sessions.mark_unchanged();
            let now = Instant::now();
            self.look(&mut watched, now);
            let mut settled = true;
            for agent_id in overdue(&watched, timeout, now) {
                settled &= self.tell(&agent_id, false).await;
            }
            // One may have come back while its absence was on the way to the log.
            for agent_id in self.returned() {
                settled &= self.tell(&agent_id, true).await;
            }
            if !settled {
                retry = Some(now + RETRY);
            }
            for agent_id in suspects(&mut watched, now) {
                let own = self.clone();
                inquiries.spawn(async move {
                    let verdict = own.inquire(&agent_id).await;
                    (agent_id, verdict)
                });
            }
            // Alone with its own agent, a master has nothing to look at.
            let others = watched.keys().any(|id| !self.is_own(id));
            let next = others.then(|| now + LOOK_EVERY);
            let next =
                next.into_iter().chain(due(&watched, timeout, now)).chain(retry.take()).min();
            let pause = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = sessions.changed() => if changed.is_err() { return },
                Some(ended) = inquiries.join_next() => if let Ok((agent_id, verdict)) = ended {
                    self.take(&agent_id, verdict, &mut watched).await;
                },
                () = pause => {}
            }
        }
    }

    /// Note who was heard and who has no session, of those not known to be away.
    fn look(&self, watched: &mut BTreeMap<AgentId, Watched>, now: Instant) {
        let known: BTreeSet<AgentId> = self.store.read(|state| {
            let here = state.agents.keys().filter(|id| !state.away.contains_key(*id));
            here.cloned().collect()
        });
        watched.retain(|id, _| known.contains(id));
        let sessions = self.sessions();
        for id in known {
            let session = sessions.get(&id);
            let packets = session.map(super::Session::packets);
            let fresh = Watched {
                heard: now,
                packets: packets.unwrap_or_default(),
                absent: None,
                vouched_until: None,
                asking: false,
            };
            let of = watched.entry(id).or_insert(fresh);
            match packets {
                Some(packets) => {
                    if of.absent.take().is_some() || packets != of.packets {
                        (of.heard, of.packets) = (now, packets);
                    }
                }
                None => {
                    of.absent.get_or_insert(now);
                }
            }
        }
        drop(sessions);
        let left = self.left();
        for (id, of) in watched.iter_mut() {
            if of.absent.is_some() && left.contains(id) {
                // It said goodbye: nobody needs to look for it.
                of.heard = now;
            }
        }
    }

    /// Act on what an inquiry found.
    async fn take(
        &self,
        agent_id: &AgentId,
        verdict: Verdict,
        watched: &mut BTreeMap<AgentId, Watched>,
    ) {
        let Some(of) = watched.get_mut(agent_id) else { return };
        of.asking = false;
        let silent = of.heard.elapsed();
        let packets = self.sessions().get(agent_id).map(super::Session::packets);
        if silent < SUSPECT_AFTER || packets.is_some_and(|packets| packets != of.packets) {
            return;
        }
        let gone = match verdict {
            Verdict::Lives => {
                of.vouched_until = Some(Instant::now() + VOUCHED_FOR);
                false
            }
            Verdict::Gone => true,
            Verdict::UnseenFromHere => {
                // An answer may come at once, where nobody could be asked: not in circles.
                of.vouched_until = Some(Instant::now() + LOOK_EVERY);
                silent >= UNSEEN_AFTER
            }
        };
        if gone {
            // First: a session that stands says that its agent is here.
            self.drop_session(agent_id);
            self.tell(agent_id, false).await;
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

/// Those without a session for longer than is borne.
fn overdue(watched: &BTreeMap<AgentId, Watched>, timeout: Duration, now: Instant) -> Vec<AgentId> {
    let overdue = |of: &Watched| of.absent.is_some_and(|since| since + timeout <= now);
    watched.iter().filter(|(_, of)| overdue(of)).map(|(id, _)| id.clone()).collect()
}

/// When the next one is.
fn due(watched: &BTreeMap<AgentId, Watched>, timeout: Duration, now: Instant) -> Option<Instant> {
    watched
        .values()
        .filter_map(|of| of.absent)
        .map(|since| since + timeout)
        .filter(|at| *at > now)
        .min()
}

/// Those that are to be looked for now; they are marked as asked for.
fn suspects(watched: &mut BTreeMap<AgentId, Watched>, now: Instant) -> Vec<AgentId> {
    let mut suspects = Vec::new();
    for (id, of) in watched.iter_mut() {
        let silent = now.duration_since(of.heard) >= SUSPECT_AFTER;
        let vouched = of.vouched_until.is_some_and(|until| now < until);
        if silent && !vouched && !of.asking {
            of.asking = true;
            suspects.push(id.clone());
        }
    }
    suspects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(heard: Instant, absent: Option<Instant>) -> Watched {
        Watched { heard, packets: 1, absent, vouched_until: None, asking: false }
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_are_looked_for_once_and_those_long_gone_are_overdue() {
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(10)).await;
        let now = Instant::now();
        let id = AgentId::new;
        let mut all = BTreeMap::from([
            (id("heard"), watched(now, None)),
            (id("silent"), watched(start, None)),
            (
                id("vouched"),
                Watched { vouched_until: Some(now + VOUCHED_FOR), ..watched(start, None) },
            ),
            (id("gone"), watched(now, Some(start))),
        ]);
        assert_eq!(suspects(&mut all, now), [id("silent")]);
        assert_eq!(suspects(&mut all, now), [], "already asked for");
        assert_eq!(suspects(&mut all, now + VOUCHED_FOR), [id("gone"), id("heard"), id("vouched")]);
        let timeout = Duration::from_secs(10);
        assert_eq!(overdue(&all, timeout, now), [id("gone")]);
        assert_eq!(overdue(&all, timeout * 2, now), []);
        assert_eq!(due(&all, timeout * 2, now), Some(start + timeout * 2));
    }
}
