//! What the session with the leader says of images: what is held here, and who holds what is
//! sought.
//!
//! Owns the questions that wait for an answer. A question lives as long as who asked it; a session
//! that begins asks all of them.

use bramble_protocol::message::{HeldImage, Sighting};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Longest wait for the leader's answer: it has it in memory.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// One question to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    pub number: u64,
    /// Normalised.
    pub reference: String,
    pub digest: Option<String>,
}

/// Between the images and whichever session there is.
#[derive(Debug, Default)]
pub struct Exchange {
    held: watch::Sender<Arc<Vec<HeldImage>>>,
    asked: Mutex<Asked>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    /// Sessions that could ask.
    sessions: usize,
    waiting: BTreeMap<u64, (Inquiry, oneshot::Sender<Vec<Sighting>>)>,
}

impl Exchange {
    /// What is held here, as it changes.
    pub fn held(&self) -> watch::Receiver<Arc<Vec<HeldImage>>> {
        self.held.subscribe()
    }

    pub(super) fn hold(&self, images: Vec<HeldImage>) {
        self.held.send_replace(Arc::new(images));
    }

    /// Ask the leader who else holds an image; `None` when there is none that answers.
    pub async fn who_holds(
        &self,
        reference: String,
        digest: Option<String>,
    ) -> Option<Vec<Sighting>> {
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut asked = self.asked();
            if asked.sessions == 0 {
                return None;
            }
            asked.last += 1;
            let number = asked.last;
            asked.waiting.insert(number, (Inquiry { number, reference, digest }, answer));
            number
        };
        let _forget = Forget(self, number);
        self.changed.send_modify(|n| *n += 1);
        tokio::time::timeout(ANSWER_MAX, answered).await.ok()?.ok()
    }

    /// A session began that can ask.
    pub fn attend(&self) -> Attending<'_> {
        self.asked().sessions += 1;
        Attending { exchange: self, told: 0 }
    }

    /// A level trigger: moves when something new is asked.
    pub fn inquiries(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The leader has answered. An answer that nobody waits for any more is dropped.
    pub fn answer(&self, number: u64, holders: Vec<Sighting>) {
        let waiting = self.asked().waiting.remove(&number);
        if let Some((_, answer)) = waiting {
            let _ = answer.send(holders);
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a question back when nobody waits for its answer any more.
struct Forget<'a>(&'a Exchange, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.asked().waiting.remove(&self.1);
    }
}

/// One session's part in asking.
pub struct Attending<'a> {
    exchange: &'a Exchange,
    /// Number of the last question this session has asked.
    told: u64,
}

impl Attending<'_> {
    /// The questions this session has not asked yet.
    pub fn unasked(&mut self) -> Vec<Inquiry> {
        let asked = self.exchange.asked();
        let unasked = asked.waiting.range(self.told + 1..).map(|(_, (inquiry, _))| inquiry.clone());
        let unasked: Vec<Inquiry> = unasked.collect();
        self.told = asked.last;
        unasked
    }
}

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        self.exchange.asked().sessions -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    #[tokio::test]
    async fn each_session_asks_what_nobody_has_answered() {
        let exchange = Exchange::default();
        assert_eq!(exchange.who_holds("x".into(), None).await, None, "no session, no leader");
        let mut first = exchange.attend();
        assert!(first.unasked().is_empty());
        let mut changes = exchange.inquiries();
        let mut asking = Box::pin(exchange.who_holds("x".into(), Some("d".into())));
        assert!(poll!(asking.as_mut()).is_pending());
        changes.changed().await.unwrap();
        let inquiry = first.unasked().remove(0);
        assert_eq!((inquiry.reference.as_str(), inquiry.digest.as_deref()), ("x", Some("d")));
        assert!(first.unasked().is_empty(), "asked once per session");
        drop(first);
        let mut second = exchange.attend();
        assert_eq!(second.unasked(), std::slice::from_ref(&inquiry));
        exchange.answer(inquiry.number, vec![]);
        assert_eq!(asking.await, Some(vec![]));
        exchange.answer(inquiry.number, vec![]);

        let mut dropped = Box::pin(exchange.who_holds("y".into(), None));
        assert!(poll!(dropped.as_mut()).is_pending());
        drop(dropped);
        assert!(second.unasked().is_empty(), "nobody waits for it");
    }
}
