//! Which requests a node answers by itself, whoever leads: the one table of it.

use crate::api::accept::{self, JSON, TEXT};
use crate::api::route::Route;
use http::{HeaderMap, Method};

/// Whether a request is about this node, not about the cluster.
///
/// Everything else goes to the leader, because it reads or changes what is replicated, or needs
/// the agents' sessions, which are the leader's.
pub(super) fn is_of_node(target: &Route, method: &Method) -> bool {
    match target {
        // The same wherever it is asked.
        Route::Root | Route::Page | Route::Help | Route::Plugins | Route::Plugin(_) => true,
        // Health checks and scrapers ask about the node they name.
        Route::Ping | Route::Metrics | Route::MetricsText => true,
        // Settings and log of one process.
        Route::Config | Route::Logging => true,
        // Files of one node, under whose address tasks fetch them.
        Route::Artifact(_) => true,
        // Every key of the cluster: it never leaves the node it is asked of.
        Route::Backup => true,
        // What may be done with a path is the same everywhere.
        _ => *method == Method::OPTIONS,
    }
}

/// Whether a change that may have been done can be asked for again without harm: what was removed
/// before is said to be.
pub(super) fn may_be_repeated(target: &Route, method: &Method) -> bool {
    matches!(target, Route::Node(_)) && *method == Method::DELETE
}

/// Whether a node that is no master can say something about it: its own tasks. Not as text: load
/// balancers take that for all there are, whatever a header says.
pub(super) fn is_of_tasks(target: &Route, headers: &HeaderMap) -> bool {
    matches!(target, Route::Tasks | Route::AppTasks(_) | Route::BelowTasks(_))
        && accept::choose(headers, &[JSON, TEXT]) == Some(JSON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::route::route;

    #[test]
    fn what_a_node_answers_by_itself() {
        let rows = [
            ("GET", "/", true),
            ("GET", "/ping", true),
            ("GET", "/metrics", true),
            ("GET", "/metrics/prometheus", true),
            ("GET", "/config", true),
            ("POST", "/logging", true),
            ("PUT", "/v2/artifacts/a", true),
            ("GET", "/v2/plugins/x", true),
            ("OPTIONS", "/v2/apps", true),
            ("GET", "/v2/apps", false),
            ("POST", "/v2/apps", false),
            ("GET", "/v2/info", false),
            ("GET", "/v2/leader", false),
            ("DELETE", "/v2/leader", false),
            ("GET", "/v2/events", false),
            ("GET", "/v1/bramble/status", false),
            ("GET", "/v1/bramble/token", false),
            ("GET", "/v1/bramble/backup", true),
            ("POST", "/v1/bramble/images", false),
            ("GET", "/v1/bramble/tasks/t/logs", false),
            ("POST", "/v1/bramble/tasks/t/exec", false),
        ];
        for (method, path, local) in rows {
            let method: Method = method.parse().unwrap();
            let target = route(&method, path).unwrap();
            assert_eq!(is_of_node(&target, &method), local, "{method} {path}");
        }
    }
}
