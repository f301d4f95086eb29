//! Listening before founding: whether the cluster exists, or another one stands to found it.

use crate::node::agent::is_container_link;
use crate::node::finder::Finder;
use bramble_protocol::net::{Announced, Contender, Contenders};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, SockaddrLike};
use std::time::{Duration, Instant};

/// How long nobody must be heard. A node that founds is heard two or three seconds later; mDNS asks
/// four times in this time.
pub const LISTEN: Duration = Duration::from_secs(10);
/// Pause between two looks.
const TICK: Duration = Duration::from_millis(250);
/// Pause before a candidate that comes first is asked again whether it is still there.
const DOUBT_AFTER: Duration = Duration::from_secs(5);
/// Rounds of asking all known addresses that must end in silence: the first may have begun before.
const ROUNDS: u64 = 2;
/// Pause before it is said again why this node still waits.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What a node that would found hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// No cable or radio is connected: silence says nothing.
    NoNetwork,
    /// The others cannot have heard this node yet.
    NotSaid,
    /// Another one that comes first stands to found.
    Rival,
    /// A node of the cluster.
    Cluster,
    Nobody,
}

/// How long nobody has been heard.
#[derive(Debug, Default)]
struct Silence {
    since: Option<(Instant, u64)>,
}

impl Silence {
    /// Whether it has lasted, with `rounds` of asking done by now. Whatever is heard begins it
    /// anew.
    fn lasted(&mut self, heard: Heard, now: Instant, rounds: u64) -> bool {
        if heard != Heard::Nobody {
            self.since = None;
            return false;
        }
        let (since, first) = *self.since.get_or_insert((now, rounds));
        now.duration_since(since) >= LISTEN && rounds >= first + ROUNDS
    }
}

/// Resolves once nobody but this node was heard for long enough, with its candidacy, where mDNS
/// works.
pub async fn heard(finder: &Finder, own: &Contender, port: u16) -> Option<Announced> {
    let (standing, mut candidates) = stand(finder, own, port).await;
    let (mut silence, mut report) = (Silence::default(), Report::default());
    let mut doubted = Instant::now();
    loop {
        let now = Instant::now();
        let heard = look(finder, own, standing.is_some(), candidates.as_ref());
        report.say(heard, now, finder);
        if silence.lasted(heard, now, finder.asked().rounds) {
            return standing;
        }
        let Some(candidates) = &mut candidates else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        if heard == Heard::Rival && now.duration_since(doubted) >= DOUBT_AFTER {
            doubted = now;
            candidates.doubt().await;
        }
        let _ = tokio::time::timeout(TICK, candidates.changed()).await;
    }
}

/// Let others know that this node stands to found, and listen for those who do.
async fn stand(
    finder: &Finder,
    own: &Contender,
    port: u16,
) -> (Option<Announced>, Option<Contenders>) {
    let Some(discovery) = finder.discovery() else { return (None, None) };
    let standing = match discovery.stand(own, port).await {
        Ok(standing) => Some(standing),
        Err(error) => {
            tracing::warn!(%error, "other nodes cannot hear that this one stands to found");
            None
        }
    };
    let candidates = match discovery.candidates().await {
        Ok(candidates) => Some(candidates),
        Err(error) => {
            tracing::warn!(%error, "other nodes that stand to found cannot be heard");
            None
        }
    };
    (standing, candidates)
}

fn look(finder: &Finder, own: &Contender, stands: bool, candidates: Option<&Contenders>) -> Heard {
    let is_other = |id| id != own.node_id;
    let network = Network::now();
    let said = finder.discovery().is_some_and(|discovery| discovery.said().borrow().is_some());
    if finder.asked().met || finder.directory().sightings().into_iter().any(|s| is_other(s.node_id))
    {
        Heard::Cluster
    } else if candidates.is_some_and(|candidates| candidates.ahead_of(own).is_some()) {
        Heard::Rival
    } else if !network.connected {
        Heard::NoNetwork
    } else if stands && network.multicast && !said {
        Heard::NotSaid
    } else {
        Heard::Nobody
    }
}

/// What leads out of this machine.
#[derive(Clone, Copy, Debug, Default)]
struct Network {
    /// Something has a carrier and an address.
    connected: bool,
    /// Something of that carries multicast.
    multicast: bool,
}

impl Network {
    fn now() -> Network {
        let mut network = Network::default();
        // Without an answer of the kernel there is nothing to be heard either.
        let Ok(addresses) = getifaddrs() else { return network };
        for one in addresses {
            let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
            let family = one.address.as_ref().and_then(SockaddrLike::family);
            let is_ip = matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6));
            let leads_out = one.flags.contains(up)
                && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK)
                && !is_container_link(&one.interface_name);
            if is_ip && leads_out {
                network.connected = true;
                network.multicast |= one.flags.contains(InterfaceFlags::IFF_MULTICAST);
            }
        }
        network
    }
}

/// Says what this node waits for, when that changes and now and then.
#[derive(Debug, Default)]
struct Report {
    said: Option<(Heard, Instant)>,
}

impl Report {
    fn say(&mut self, heard: Heard, now: Instant, finder: &Finder) {
        let again = match self.said {
            Some((last, at)) if last == heard => {
                if now.duration_since(at) < SAY_AGAIN {
                    return;
                }
                true
            }
            _ => false,
        };
        self.said = Some((heard, now));
        match heard {
            Heard::NoNetwork => tracing::warn!(
                "no network: this node founds its cluster once it could hear whether it exists \
                 already. For a cluster of this machine alone, start it without --founding"
            ),
            Heard::NotSaid if again => tracing::warn!(
                "this node cannot make itself heard by multicast: the founding waits for that"
            ),
            Heard::NotSaid => {}
            Heard::Rival => tracing::warn!(
                "another node with this founding file comes first: this one waits, and will join. \
                 Only one node should be given the file"
            ),
            Heard::Cluster if again => tracing::warn!(
                "the cluster exists, but no node of it has let this one in. If its token was \
                 changed, give the new one with --token and leave out --founding; if all its nodes \
                 are lost for good, start this one anew"
            ),
            Heard::Cluster => tracing::info!("the cluster exists already: this node joins it"),
            Heard::Nobody if finder.listens() => {
                tracing::info!(seconds = LISTEN.as_secs(), "listening whether the cluster exists");
            }
            Heard::Nobody => tracing::warn!(
                seconds = LISTEN.as_secs(),
                "mDNS does not work here: only addresses given with --join are asked whether the \
                 cluster exists"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unbroken_silence_in_which_all_were_asked_lets_a_node_found() {
        use Heard::*;
        let all: &[(u64, Heard, u64, bool)] = &[
            (0, NoNetwork, 0, false),
            (60, NoNetwork, 60, false),
            // A cable is plugged in.
            (61, NotSaid, 61, false),
            (62, Nobody, 62, false),
            (71, Nobody, 71, false),
            // It is pulled, and plugged in again.
            (72, NoNetwork, 72, false),
            (73, Nobody, 73, false),
            (82, Nobody, 82, false),
            (82, Rival, 82, false),
            (83, Nobody, 83, false),
            (92, Cluster, 92, false),
            (93, Nobody, 93, false),
            // Dead addresses take their time.
            (103, Nobody, 94, false),
            (104, Nobody, 95, true),
        ];
        let (mut silence, start) = (Silence::default(), Instant::now());
        for (at, heard, rounds, founds) in all {
            let now = start + Duration::from_secs(*at);
            assert_eq!(silence.lasted(*heard, now, *rounds), *founds, "at {at}: {heard:?}");
        }
    }

    #[test]
    fn a_machine_with_only_itself_is_not_connected() {
        use nix::sched::{CloneFlags, unshare};
        let inside = std::thread::spawn(|| {
            // Without the right to make namespaces there is nothing to see here.
            unshare(CloneFlags::CLONE_NEWNET).ok().map(|()| Network::now())
        });
        if let Some(network) = inside.join().expect("no panic") {
            assert!(!network.connected && !network.multicast, "{network:?}");
        }
    }
}
