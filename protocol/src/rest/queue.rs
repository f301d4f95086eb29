//! The launch queue in JSON (Marathon's contract, section 2.5).

use super::app::{AppJson, canonical};
use super::pod::{PodJson, pod};
use crate::timestamp;
use bramble_core::model::{App, Time};
use serde::Serialize;

/// Marathon's reasons in the order of its funnel; a summary always lists them all.
pub const REASONS: [&str; 10] = bramble_core::place::Reason::FUNNEL;

/// One app that waits, in plain values.
#[derive(Clone, Debug)]
pub struct Waiting<'a> {
    pub app: &'a App,
    /// Instances left to launch.
    pub count: u32,
    pub since: Time,
    /// Milliseconds until the backoff ends; 0 = none.
    pub delay_left_ms: u64,
    /// Offers looked at over the whole wait, and those among them that were not taken.
    pub processed_offers: u64,
    pub unused_offers: u64,
    pub last_unused_at: Option<Time>,
    pub last_used_at: Option<Time>,
    /// Offers of the last round, and how many of them each reason declined (see [`REASONS`]).
    pub last_offers: u64,
    pub last_declined: Vec<(&'a str, u64)>,
    /// The same over the whole wait.
    pub declined: Vec<(&'a str, u64)>,
    /// `lastUnusedOffers`, where asked for.
    pub unused: Option<Vec<serde_json::Value>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct QueueJson {
    pub queue: Vec<QueueItemJson>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueItemJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodJson>,
    pub count: u32,
    pub since: String,
    pub delay: DelayJson,
    pub processed_offers_summary: OffersSummaryJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_unused_offers: Option<Vec<serde_json::Value>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DelayJson {
    pub time_left_seconds: u64,
    /// No delay is pending: it waits for offers.
    pub overdue: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OffersSummaryJson {
    pub processed_offers_count: u64,
    pub unused_offers_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_unused_offer_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_offer_at: Option<String>,
    pub reject_summary_last_offers: Vec<RejectJson>,
    pub reject_summary_launch_attempt: Vec<RejectJson>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectJson {
    pub reason: &'static str,
    pub declined: u64,
    pub processed: u64,
}

/// Write the queue.
pub fn queue<'a>(waiting: impl IntoIterator<Item = Waiting<'a>>) -> QueueJson {
    QueueJson { queue: waiting.into_iter().map(item).collect() }
}

fn item(w: Waiting<'_>) -> QueueItemJson {
    QueueItemJson {
        app: (!w.app.is_pod()).then(|| canonical(w.app)),
        pod: pod(w.app),
        count: w.count,
        since: timestamp::format(w.since),
        delay: DelayJson {
            time_left_seconds: w.delay_left_ms.div_ceil(1000),
            overdue: w.delay_left_ms == 0,
        },
        processed_offers_summary: OffersSummaryJson {
            processed_offers_count: w.processed_offers,
            unused_offers_count: w.unused_offers,
            last_unused_offer_at: w.last_unused_at.map(timestamp::format),
            last_used_offer_at: w.last_used_at.map(timestamp::format),
            reject_summary_last_offers: funnel(w.last_offers, &w.last_declined),
            reject_summary_launch_attempt: funnel(w.processed_offers, &w.declined),
        },
        last_unused_offers: w.unused,
    }
}

/// All reasons in order; each one's `processed` is what earlier reasons left over.
pub fn funnel(offers: u64, declined: &[(&str, u64)]) -> Vec<RejectJson> {
    let mut left = offers;
    REASONS
        .iter()
        .map(|&reason| {
            let sum: u64 = declined.iter().filter(|(r, _)| *r == reason).map(|(_, n)| n).sum();
            let row = RejectJson { reason, declined: sum.min(left), processed: left };
            left -= row.declined;
            row
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_funnel_narrows() {
        let rows = funnel(5, &[("InsufficientMemory", 2), ("UnfulfilledConstraint", 1)]);
        assert_eq!(rows.len(), REASONS.len());
        let of = |reason| rows.iter().find(|r| r.reason == reason).unwrap().clone();
        assert_eq!(of("UnfulfilledRole").processed, 5);
        assert_eq!(
            (of("UnfulfilledConstraint").declined, of("InsufficientCpus").processed),
            (1, 4)
        );
        assert_eq!((of("InsufficientMemory").declined, of("InsufficientDisk").processed), (2, 2));
        // Declines beyond the offers of a round cannot make the rest negative.
        assert_eq!(funnel(1, &[("InsufficientCpus", 9)])[9].processed, 0);
    }
}
