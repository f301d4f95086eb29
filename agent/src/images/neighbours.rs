//! Images from other nodes of the cluster.
//!
//! Owns whom to ask, in which order, and whom not to ask again for a while. The leader knows who
//! holds what; without one, the nodes this one has seen are asked themselves. One node at a time
//! gives the blobs; what came from it stays when the next has to go on.

use super::exchange::Exchange;
use super::source::{Offered, PeerSource, ask};
use super::{ImageError, Progress};
use bramble_core::model::NodeId;
use bramble_image_tools::oci::{ImageReference, Import, ImportError, Store};
use bramble_protocol::net::Links;
use futures_util::stream::{self, StreamExt};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Nodes asked by their sight alone, when no leader says who holds an image.
const ASKED_MAX: usize = 64;
/// Nodes asked at the same time.
const ASKED_AT_ONCE: usize = 16;
/// Times that all holders may be busy before they count as not to be had, and the pause between.
const TURNS_MAX: u32 = 30;
const TURN_PAUSE: Duration = Duration::from_secs(2);
/// Time for which a node is not asked again for an image that it gave wrongly.
const SHUN_FOR: Duration = Duration::from_secs(10 * 60);
/// Wrong images remembered; the oldest are forgotten.
const SHUNNED_MAX: usize = 256;
/// Nodes named in an error.
const NAMED_MAX: usize = 4;

/// The other nodes, as far as images go.
pub(super) struct Neighbours {
    links: Arc<Links>,
    own: NodeId,
    exchange: Arc<Exchange>,
    shunned: Mutex<BTreeMap<(NodeId, String), Instant>>,
}

/// How other nodes were asked without success, for the error.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// Whether anybody was there to be asked, be it the leader alone.
    pub asked: bool,
    nodes: BTreeSet<NodeId>,
    failures: Vec<String>,
}

impl Tried {
    /// One line that says what came of it; `None` when there is no other node.
    pub(super) fn line(&self) -> Option<String> {
        if self.failures.is_empty() {
            return self.asked.then(|| "no other node gives the image".to_owned());
        }
        let named = self.failures.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
        let more = match self.failures.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(format!("from other nodes: {named}{more}"))
    }

    fn note(&mut self, node: &str, error: &dyn Error) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        let line = format!("{node}: {text}");
        if !self.failures.contains(&line) {
            self.failures.push(line);
        }
    }
}

impl Neighbours {
    pub(super) fn new(links: Arc<Links>, own: NodeId, exchange: Arc<Exchange>) -> Self {
        Self { links, own, exchange, shunned: Mutex::default() }
    }

    /// Fetch an image from whoever the leader says holds it, or, without a leader, from whoever
    /// says so itself. Gives whether it is here now.
    ///
    /// # Errors
    /// Only when the fault lies here; of other nodes' failures tells `tried`.
    pub(super) async fn fetch(
        &self,
        store: &Arc<Store>,
        reference: &ImageReference,
        tried: &mut Tried,
        progress: Progress<'_>,
    ) -> Result<bool, ImageError> {
        self.from(Whom::Told, store, reference, tried, progress).await
    }

    /// Fetch an image from any node that was seen and not tried yet: what the leader knows may be
    /// a moment old.
    ///
    /// # Errors
    /// As [`Neighbours::fetch`].
    pub(super) async fn fetch_unheard(
        &self,
        store: &Arc<Store>,
        reference: &ImageReference,
        tried: &mut Tried,
        progress: Progress<'_>,
    ) -> Result<bool, ImageError> {
        let untried = self.seen().into_iter().filter(|node| !tried.nodes.contains(node));
        let untried = Whom::These(untried.collect());
        self.from(untried, store, reference, tried, progress).await
    }

    async fn from(
        &self,
        whom: Whom,
        store: &Arc<Store>,
        reference: &ImageReference,
        tried: &mut Tried,
        progress: Progress<'_>,
    ) -> Result<bool, ImageError> {
        let mut import = None;
        let result = self.in_turns(&whom, &mut import, store, reference, tried, progress).await;
        if let Some(import) = import {
            import.end().await?;
        }
        result
    }

    async fn in_turns(
        &self,
        whom: &Whom,
        import: &mut Option<Import>,
        store: &Arc<Store>,
        reference: &ImageReference,
        tried: &mut Tried,
        progress: Progress<'_>,
    ) -> Result<bool, ImageError> {
        for turn in 1.. {
            // Anew each time: who had to wait before may find one that has got it meanwhile.
            let candidates = match whom {
                Whom::Told => self.told(reference, tried).await,
                Whom::These(nodes) => nodes.clone(),
            };
            let mut busy = None;
            for offered in self.offers(candidates, reference, tried).await {
                let begun = match import {
                    Some(begun) => begun,
                    None => import.insert(Import::begin(store, reference).await?),
                };
                let name = offered.name.clone();
                match self.bring(begun, &offered, progress).await {
                    Ok(()) => return Ok(true),
                    Err(error) if error.is_local() => return Err(error.into()),
                    Err(error) if is_busy(&error) => busy = Some(name),
                    Err(error) => {
                        if error.is_wrong() {
                            self.shun(&offered.node, reference);
                        }
                        tried.note(&name, &error);
                    }
                }
            }
            let Some(name) = busy else { break };
            if turn == TURNS_MAX {
                tried.failures.push(format!("{name}: is busy with others"));
                break;
            }
            progress(format!("{reference}: waiting for a turn at {name}"));
            tokio::time::sleep(TURN_PAUSE).await;
        }
        Ok(false)
    }

    async fn bring(
        &self,
        import: &Import,
        offered: &Offered,
        progress: Progress<'_>,
    ) -> Result<(), ImportError> {
        let Offered { node, name, parts } = offered;
        let source = PeerSource { links: &self.links, node, name };
        let brought = import.from(parts, &source, progress).await;
        match &brought {
            Ok(image) => {
                let image = &image.reference;
                tracing::info!(image, node = %name, "an image was fetched from a node");
            }
            Err(error) => {
                let error: &dyn Error = error;
                tracing::info!(node = %name, error, "an image was not to be had from a node");
            }
        }
        brought.map(drop)
    }

    /// Whom the leader names; where none answers, everybody that was seen.
    async fn told(&self, reference: &ImageReference, tried: &mut Tried) -> Vec<NodeId> {
        let digest = reference.digest().map(ToString::to_string);
        let Some(holders) = self.exchange.who_holds(reference.to_string(), digest).await else {
            return self.seen();
        };
        tried.asked = true;
        holders.iter().for_each(|holder| self.links.directory().hear(holder));
        holders.into_iter().map(|holder| holder.node_id).collect()
    }

    fn seen(&self) -> Vec<NodeId> {
        let seen = self.links.directory().sightings().into_iter().map(|seen| seen.node_id);
        seen.filter(|node| *node != self.own).take(ASKED_MAX).collect()
    }

    /// Ask nodes for what the image is made of there; those whose image came last first, and
    /// equals as they were named.
    async fn offers(
        &self,
        candidates: Vec<NodeId>,
        reference: &ImageReference,
        tried: &mut Tried,
    ) -> Vec<Offered> {
        let candidates: Vec<NodeId> = candidates
            .into_iter()
            .filter(|node| *node != self.own && !self.is_shunned(node, reference))
            .collect();
        tried.asked |= !candidates.is_empty();
        tried.nodes.extend(candidates.iter().cloned());
        let reference = &reference.to_string();
        // Made before the stream: a closure inside it would not be `Send` enough.
        let asking: Vec<_> =
            candidates.iter().map(|node| ask(&self.links, node, reference)).collect();
        let answers: Vec<_> = stream::iter(asking).buffered(ASKED_AT_ONCE).collect().await;
        let mut offers: Vec<Offered> = Vec::new();
        for (node, answer) in candidates.iter().zip(answers) {
            match answer {
                Ok(offered) => offers.extend(offered),
                Err(error) => tried.note(node.as_str(), &error),
            }
        }
        offers.sort_by_key(|offered| Reverse(offered.parts.created_unix_s));
        offers
    }

    fn shun(&self, node: &NodeId, reference: &ImageReference) {
        let mut shunned = self.shunned.lock().unwrap_or_else(PoisonError::into_inner);
        shunned.retain(|_, since| since.elapsed() < SHUN_FOR);
        let oldest = shunned.iter().min_by_key(|(_, since)| **since).map(|(key, _)| key.clone());
        if shunned.len() >= SHUNNED_MAX
            && let Some(oldest) = oldest
        {
            shunned.remove(&oldest);
        }
        shunned.insert((node.clone(), reference.to_string()), Instant::now());
    }

    fn is_shunned(&self, node: &NodeId, reference: &ImageReference) -> bool {
        let shunned = self.shunned.lock().unwrap_or_else(PoisonError::into_inner);
        let since = shunned.get(&(node.clone(), reference.to_string()));
        since.is_some_and(|since| since.elapsed() < SHUN_FOR)
    }
}

/// Who is asked for an image.
enum Whom {
    /// Whom the leader names, each time it is asked.
    Told,
    These(Vec<NodeId>),
}

fn is_busy(error: &ImportError) -> bool {
    matches!(error, ImportError::Transfer { source, .. }
        if source.kind() == io::ErrorKind::ResourceBusy)
}
