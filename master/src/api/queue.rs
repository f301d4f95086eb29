//! `/v2/queue` (Marathon's contract, section 2.5): what waits, and for what.

use super::change;
use super::dispatch::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use crate::queue_view::{QueueEntry, QueueView};
use bramble_core::command::Command;
use bramble_core::model::{AppId, AppRecord, BYTES_PER_MIB, Offer, ROLE_ANY, State, Time};
use bramble_core::place::Reason;
use bramble_protocol::rest::queue::{self as rest, Waiting};
use bramble_protocol::timestamp;
use http::StatusCode;
use serde_json::{Value, json};

/// Offers shown per app unless the client asks for all: how much is missing must be visible
/// without a special query, but not grow with the cluster.
const OFFERS_SHOWN: usize = 8;

pub(crate) fn list(call: &Call) -> Result<Reply, ApiError> {
    let all_offers = call.query.all("embed").any(|value| value == "lastUnusedOffers");
    let shown = if all_offers { usize::MAX } else { OFFERS_SHOWN };
    let now = call.api().store.now();
    let view = call.api().queue.as_ref();
    let body = call.api().store.read(|state| {
        let records = state.apps.values();
        rest::queue(records.filter_map(|r| waiting(state, r, view, now, shown)))
    });
    Ok(reply::json(StatusCode::OK, &body))
}

fn waiting<'a>(
    state: &State,
    record: &'a AppRecord,
    view: &dyn QueueView,
    now: Time,
    shown: usize,
) -> Option<Waiting<'a>> {
    let own = || state.instances_of(&record.app.id);
    let since = own().filter(|i| i.is_waiting()).map(|i| i.since).min()?;
    let entry = view.refusals(&record.app.id).unwrap_or_default();
    Some(Waiting {
        app: &record.app,
        count: own().filter(|i| i.is_waiting()).count() as u32,
        since,
        delay_left_ms: record.delay.until.since_ms(now),
        processed_offers: entry.processed_offers,
        unused_offers: entry.unused_offers,
        last_unused_at: entry.last_unused_at,
        last_used_at: own().filter_map(|i| i.task.as_ref()).map(|t| t.staged_at).max(),
        last_offers: entry.last_offers.len() as u64,
        last_declined: entry.last_declined().into_iter().collect(),
        declined: entry.declined.iter().map(|(reason, count)| (*reason, *count)).collect(),
        unused: Some(unused(&entry, shown)).filter(|offers| !offers.is_empty()),
    })
}

fn unused(entry: &QueueEntry, shown: usize) -> Vec<Value> {
    let at = timestamp::format(entry.last_unused_at.unwrap_or_default());
    let offers = entry.last_offers.iter().take(shown);
    offers.map(|offer| unused_offer(entry, offer, &at)).collect()
}

/// `reason` holds Marathon's name of every reason, each followed by its amounts in words.
fn unused_offer(entry: &QueueEntry, offer: &Offer, at: &str) -> Value {
    let reasons = entry.last.iter().find(|(agent, _)| *agent == offer.agent_id);
    let words = |reason: &Reason| [reason.as_str().to_string(), reason.describe()];
    let reason: Vec<String> =
        reasons.iter().flat_map(|(_, reasons)| reasons).flat_map(words).collect();
    json!({ "offer": offer_json(offer), "reason": reason, "timestamp": at })
}

fn offer_json(offer: &Offer) -> Value {
    let free = &offer.free;
    let mib = |bytes: u64| bytes as f64 / BYTES_PER_MIB as f64;
    let any = offer.roles.is_empty() || offer.roles.contains(ROLE_ANY);
    let role = if any { ROLE_ANY } else { offer.roles.first().map_or(ROLE_ANY, String::as_str) };
    let scalar = |name: &str, value: f64| json!({ "name": name, "role": role, "scalar": value });
    let ranges: Vec<Value> =
        offer.ports.iter().map(|r| json!({ "begin": r.begin, "end": r.end })).collect();
    let attributes: Vec<Value> =
        offer.attributes.iter().map(|(k, v)| json!({ "name": k, "text": v })).collect();
    json!({
        "id": offer.id,
        "hostname": offer.hostname,
        "agentId": offer.agent_id.as_str(),
        "resources": [
            scalar("cpus", free.cpus_milli as f64 / 1000.0),
            scalar("mem", mib(free.mem_bytes)),
            scalar("disk", mib(free.disk_bytes)),
            scalar("gpus", f64::from(free.gpus)),
            { "name": "ports", "role": role, "ranges": ranges },
        ],
        "attributes": attributes,
    })
}

/// `DELETE /v2/queue/{id}/delay`: launch at once.
pub(crate) async fn reset_delay(call: &Call, id: AppId) -> Result<Reply, ApiError> {
    let queued = call.api().store.read(|state| state.instances_of(&id).any(|i| i.is_waiting()));
    if !queued {
        return Err(ApiError::NotQueued(id));
    }
    change::commit(call.api(), Command::ResetDelay { app_id: id }).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
