//! Info, leader, ping, metrics, settings, plugins (Marathon's contract, section 2.6).

use super::accept::{self, HTML, JSON, TEXT};
use super::dispatch::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use bramble_core::machine::{SERVICE_PORT_BEGIN, SERVICE_PORT_END};
use bramble_core::model::{AppId, NodeRole, TaskState};
use bramble_protocol::rest::system::{self as rest, LeaderJson, System};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// `pong` in the form asked for; a client that takes none of them gets no body.
pub(crate) fn ping(call: &Call) -> Reply {
    match accept::choose(&call.headers, &[TEXT, JSON, HTML]) {
        Some(JSON) => reply::typed(StatusCode::OK, JSON, "\"pong\""),
        Some(form) => reply::typed(StatusCode::OK, if form == HTML { HTML } else { TEXT }, "pong"),
        None => reply::empty(StatusCode::NO_CONTENT),
    }
}

pub(crate) fn leader(call: &Call) -> Result<Reply, ApiError> {
    if !call.shared.leads() {
        return Err(ApiError::NoLeader);
    }
    Ok(reply::json(StatusCode::OK, &LeaderJson { leader: call.shared.address() }))
}

/// Let go of the leadership, a moment after the answer.
pub(crate) fn abdicate(call: &Call) -> Result<Reply, ApiError> {
    if !call.shared.leads() {
        return Err(ApiError::NoLeader);
    }
    // Marathon would write its store to the one and read it from the other while nobody leads.
    if let Some(key) = ["backup", "restore"].into_iter().find(|key| call.query.get(key).is_some()) {
        let message = format!("{key} is not supported: the log is on the masters' own disks");
        return Err(ApiError::Argument(message));
    }
    (call.api().abdicate)();
    Ok(reply::json(StatusCode::OK, &json!({ "message": "Leadership abdicated" })))
}

/// Every setting of this node, with where it comes from.
pub(crate) fn config(call: &Call) -> Reply {
    reply::json(StatusCode::OK, &call.shared.settings)
}

/// There are none, and there cannot be any.
pub(crate) fn plugins() -> Reply {
    reply::json(StatusCode::OK, &json!({ "plugins": [] }))
}

pub(crate) fn info(call: &Call) -> Result<Reply, ApiError> {
    let shared = &call.shared;
    let elected = shared.leads();
    let address = shared.address();
    let (cluster, masters) = call.api().store.read(|state| {
        let masters = state.nodes.values().filter(|node| node.role != NodeRole::Agent).count();
        (state.cluster.as_ref().map(|cluster| cluster.id.clone()), masters as u32)
    });
    let system = System {
        build: env!("CARGO_PKG_VERSION"),
        elected,
        leader: elected.then_some(address.as_str()),
        framework_id: cluster.as_deref(),
        hostname: &shared.hostname,
        allow_origins: &shared.allow_origins,
        http_port: shared.port,
        service_ports: (SERVICE_PORT_BEGIN, SERVICE_PORT_END),
        features: &[],
        masters,
    };
    Ok(reply::json(StatusCode::OK, &rest::info(&system)))
}

/// Dropwizard's JSON, or Prometheus' text for a scraper and at `/metrics/prometheus`.
pub(crate) fn metrics(call: &Call, text: bool) -> Reply {
    let metrics = Metrics::read(call);
    if text || scrapes(&call.headers) {
        return reply::typed(StatusCode::OK, "text/plain; version=0.0.4", metrics.text());
    }
    reply::json(StatusCode::OK, &metrics.dropwizard())
}

fn scrapes(headers: &HeaderMap) -> bool {
    let named = |value: &str| value.contains(TEXT) || value.contains("openmetrics-text");
    headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).any(named)
}

/// Marathon 1.8's names, and what is true of them now.
struct Metrics {
    gauges: Vec<(&'static str, f64)>,
    counters: Vec<(&'static str, u64)>,
}

impl Metrics {
    fn read(call: &Call) -> Metrics {
        let shared = &call.shared;
        let mut gauges = call.api().store.read(|state| {
            let in_state = |wanted: fn(TaskState) -> bool| {
                let tasks = state.instances.values().filter_map(|i| i.task.as_ref());
                tasks.filter(|task| wanted(task.state)).count() as f64
            };
            let waiting = state.instances.values().filter(|i| i.is_waiting()).count();
            let reachable = state.agents.values().filter(|a| a.reachable).count();
            vec![
                ("marathon.apps.active.gauge", state.only_apps().count() as f64),
                ("marathon.groups.active.gauge", groups(state.apps.keys()) as f64),
                ("marathon.deployments.active.gauge", state.deployments.len() as f64),
                ("marathon.instances.running.gauge", in_state(|s| s == TaskState::Running)),
                (
                    "marathon.instances.staged.gauge",
                    in_state(|s| matches!(s, TaskState::Staging | TaskState::Starting)),
                ),
                ("marathon.instances.scheduled.gauge", waiting as f64),
                ("bramble.agents.reachable.gauge", reachable as f64),
                ("bramble.log.applied.gauge", state.applied_index as f64),
            ]
        });
        gauges.push(("marathon.uptime.gauge.seconds", shared.started.elapsed().as_secs_f64()));
        gauges.push(("marathon.http.requests.active.gauge", shared.active() as f64));
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = vec![
            ("marathon.http.requests.counter", count(&shared.counts.requests)),
            ("marathon.http.responses.4xx.counter", count(&shared.counts.refused)),
            ("marathon.http.responses.5xx.counter", count(&shared.counts.failed)),
        ];
        Metrics { gauges, counters }
    }

    fn dropwizard(&self) -> Value {
        let gauges: Map<_, _> =
            self.gauges.iter().map(|(n, v)| ((*n).to_string(), json!({ "value": v }))).collect();
        let counters: Map<_, _> =
            self.counters.iter().map(|(n, v)| ((*n).to_string(), json!({ "count": v }))).collect();
        json!({
            "version": "4.0.0",
            "counters": counters,
            "gauges": gauges,
            "histograms": {},
            "meters": {},
            "timers": {},
        })
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let counters = self.counters.iter().map(|(name, value)| (*name, *value as f64, "counter"));
        let gauges = self.gauges.iter().map(|(name, value)| (*name, *value, "gauge"));
        for (name, value, kind) in gauges.chain(counters) {
            let name = name.replace('.', "_");
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# TYPE {name} {kind}\n{name} {value}");
        }
        out
    }
}

/// Groups that apps are in, the root included.
fn groups<'a>(apps: impl Iterator<Item = &'a AppId>) -> usize {
    let mut all: std::collections::BTreeSet<&str> = ["/"].into();
    for id in apps {
        let parents = id.as_str().char_indices().filter(|(at, c)| *c == '/' && *at > 0);
        all.extend(parents.map(|(at, _)| &id.as_str()[..at]));
    }
    all.len()
}
