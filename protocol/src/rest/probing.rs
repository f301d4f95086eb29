//! What probes of tasks found, in JSON (Marathon's contract, sections 5.2, 5.3 and 6).

use crate::timestamp;
use bramble_core::model::{CheckResult, HealthResult, HttpAnswer, Instance, ReadinessResult, Task};
use serde::Serialize;

/// One entry of `healthCheckResults`. Times and counter are those of the last turn, not of the
/// last probe: a probe that changes nothing is told to nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckResultJson {
    pub alive: bool,
    pub consecutive_failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_success: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_cause: Option<String>,
    pub instance_id: String,
}

/// One entry of `readinessCheckResults`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessCheckResultJson {
    pub name: String,
    pub task_id: String,
    pub ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_response: Option<HttpAnswerJson>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAnswerJson {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

/// `checkResult`: one key, named for the kind of check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResultJson {
    #[serde(rename_all = "camelCase")]
    Command {
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
    },
    #[serde(rename_all = "camelCase")]
    Http {
        #[serde(skip_serializing_if = "Option::is_none")]
        status_code: Option<u16>,
    },
    Tcp {
        succeeded: bool,
    },
}

/// Write `healthCheckResults`: one for each check that has counted. An agent that tells no more
/// than the task's health as a whole has it repeated for each of its `checks`.
pub fn health_results(
    instance: &Instance,
    task: &Task,
    checks: usize,
) -> Vec<HealthCheckResultJson> {
    if !task.probes.health.is_empty() {
        let told = task.probes.health.iter();
        return told.filter_map(|result| health_result(instance, result)).collect();
    }
    let whole = HealthResult { alive: task.healthy, ..HealthResult::default() };
    health_result(instance, &whole).map_or_else(Vec::new, |one| vec![one; checks])
}

fn health_result(instance: &Instance, result: &HealthResult) -> Option<HealthCheckResultJson> {
    Some(HealthCheckResultJson {
        alive: result.alive?,
        consecutive_failures: result.consecutive_failures,
        first_success: result.first_success.map(timestamp::format),
        last_failure: result.last_failure.map(timestamp::format),
        last_success: result.last_success.map(timestamp::format),
        last_failure_cause: result.last_failure_cause.clone(),
        instance_id: instance.id.0.clone(),
    })
}

/// Write the entries of one task in `readinessCheckResults`.
pub fn readiness_results(task: &Task) -> impl Iterator<Item = ReadinessCheckResultJson> + '_ {
    task.probes.readiness.iter().map(|result: &ReadinessResult| ReadinessCheckResultJson {
        name: result.name.clone(),
        task_id: task.id.0.clone(),
        ready: result.ready,
        last_response: result.last_response.as_ref().map(answer),
    })
}

fn answer(answer: &HttpAnswer) -> HttpAnswerJson {
    HttpAnswerJson {
        status: answer.status,
        content_type: answer.content_type.clone(),
        body: answer.body.clone(),
    }
}

/// Write `checkResult`.
pub fn check_result(result: CheckResult) -> CheckResultJson {
    match result {
        CheckResult::Exit(exit_code) => CheckResultJson::Command { exit_code },
        CheckResult::Http(status_code) => CheckResultJson::Http { status_code },
        CheckResult::Tcp(succeeded) => CheckResultJson::Tcp { succeeded },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_results_are_named_for_their_kind() {
        let cases = [
            (CheckResult::Exit(Some(1)), r#"{"command":{"exitCode":1}}"#),
            (CheckResult::Exit(None), r#"{"command":{}}"#),
            (CheckResult::Http(Some(200)), r#"{"http":{"statusCode":200}}"#),
            (CheckResult::Tcp(false), r#"{"tcp":{"succeeded":false}}"#),
        ];
        for (result, json) in cases {
            assert_eq!(serde_json::to_string(&check_result(result)).unwrap(), json);
        }
    }
}
