//! Section 2.5: `/v2/queue`.

use super::*;
use serde_json::json;

const REASONS: [&str; 10] = [
    "UnfulfilledRole",
    "UnfulfilledConstraint",
    "NoCorrespondingReservationFound",
    "AgentMaintenance",
    "InsufficientCpus",
    "InsufficientMemory",
    "InsufficientDisk",
    "InsufficientGpus",
    "InsufficientPorts",
    "DeclinedScarceResources",
];

#[tokio::test]
async fn get_v2_queue() {
    let summary = "/queue/0/processedOffersSummary";
    table([
        line("what waits", "GET /v2/queue", 200)
            .keys("", "queue")
            .keys("/queue/0", "app count delay processedOffersSummary since")
            .is("/queue/0/app/id", "/g/db")
            .is("/queue/0/count", 1)
            .is("/queue/0/since", "1970-01-01T00:00:02.000Z")
            .is("/queue/0/delay", json!({ "timeLeftSeconds": 0, "overdue": true }))
            .lacks("/queue/1"),
        line("the summary", "GET /v2/queue?embed=lastUnusedOffers", 200)
            .keys(
                summary,
                "lastUsedOfferAt processedOffersCount rejectSummaryLastOffers \
                 rejectSummaryLaunchAttempt unusedOffersCount",
            )
            .is("/queue/0/processedOffersSummary/processedOffersCount", 0),
        line("other embeds do not count", "GET /v2/queue?embed=x", 200).has("/queue/0"),
    ])
    .await;
}

#[tokio::test]
async fn reasons_stand_in_the_order_of_the_funnel() {
    let node = Node::start().await;
    node.edit(seed);
    let queue = node.get("/v2/queue").await.json();
    for summary in ["rejectSummaryLastOffers", "rejectSummaryLaunchAttempt"] {
        let rows = queue["queue"][0]["processedOffersSummary"][summary].as_array().unwrap().clone();
        let reasons: Vec<&str> = rows.iter().map(|row| row["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, REASONS, "{summary}");
        for row in rows {
            let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["reason", "declined", "processed"], "{summary}");
        }
    }
}

#[tokio::test]
async fn delete_v2_queue_id_delay() {
    let reset = |path: &str, status| line("a delay", format!("DELETE /v2/queue/{path}"), status);
    table([
        reset("g/db/delay", 204).text(""),
        reset("/g/db/delay/", 204).text(""),
        reset("web/delay", 404).message("Application /web not found in tasks queue."),
        reset("nope/delay", 404).message("Application /nope not found in tasks queue."),
        reset("g/db", 404).message("URI not found"),
    ])
    .await;
}
