//! The masters of a test: nodes in this process, joined by pipes in memory.

use crate::masters::{
    AbsenceFuture, Lead, Masters, OpenError, OpenFuture, ReadError, ReadFuture, ReadGate, Relayed,
};
use bramble_core::model::NodeId;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::duplex;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

/// Bytes that a pipe holds: few, so that nothing passes by being buffered.
const PIPE_BYTES: usize = 4096;

/// What a node knows of the others.
pub(crate) struct Wire {
    lead: watch::Sender<Lead>,
    nodes: Mutex<BTreeMap<NodeId, Sender<Relayed>>>,
    /// What the gate finds; `None` = that it may be read.
    pub(crate) closed: Mutex<Option<ReadError>>,
    pub(crate) reads: AtomicUsize,
    pub(crate) opened: AtomicUsize,
}

impl Wire {
    pub(crate) fn new(lead: Lead) -> Wire {
        Wire {
            lead: watch::Sender::new(lead),
            nodes: Mutex::default(),
            closed: Mutex::default(),
            reads: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
        }
    }

    /// From now on, this is what is known of the leadership.
    pub(crate) fn set(&self, lead: Lead) {
        self.lead.send_replace(lead);
    }

    /// Reach `name` through `way`.
    pub(crate) fn join(&self, name: &str, way: &Sender<Relayed>) {
        self.nodes.lock().unwrap().insert(NodeId::new(name), way.clone());
    }
}

impl Masters for Wire {
    fn lead(&self) -> watch::Receiver<Lead> {
        self.lead.subscribe()
    }

    fn open<'a>(&'a self, node: &'a NodeId) -> OpenFuture<'a> {
        Box::pin(async move {
            self.opened.fetch_add(1, Ordering::SeqCst);
            let way = self.nodes.lock().unwrap().get(node).cloned();
            let gone = || OpenError { node: node.clone(), source: "no such node".into() };
            let way = way.ok_or_else(gone)?;
            let (near, far) = duplex(PIPE_BYTES);
            let relayed = Relayed { from: NodeId::new("wire"), pipe: Box::new(far) };
            way.send(relayed).await.map_err(|_| gone())?;
            Ok(Box::new(near) as _)
        })
    }

    fn absence(&self) -> AbsenceFuture<'_> {
        Box::pin(async { "no leader: 1 of 3 masters answers".to_string() })
    }
}

impl ReadGate for Wire {
    fn fresh(&self) -> ReadFuture<'_> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = self.closed.lock().unwrap().clone();
        Box::pin(async move { found.map_or(Ok(()), Err) })
    }
}
