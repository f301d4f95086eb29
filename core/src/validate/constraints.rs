//! Placement constraints (Marathon's contract, section 7).

use super::Violations;
use crate::model::{App, Constraint, Operator};
use regex::RegexBuilder;

/// Bytes a compiled pattern may take: a caller chooses the pattern, every placing runs it.
const REGEX_BYTES_MAX: usize = 256 * 1024;

pub(super) fn check(app: &App, found: &mut Violations) {
    for (i, constraint) in app.constraints.iter().enumerate() {
        let path = format!("/constraints({i})");
        found.require(!constraint.field.is_empty(), &path, "Missing field");
        one(constraint, &path, found);
    }
}

pub(super) fn one(constraint: &Constraint, path: &str, found: &mut Violations) {
    let value = constraint.value.as_deref();
    match constraint.operator {
        Operator::Unique => {
            found.require(value.is_none_or(str::is_empty), path, "UNIQUE does not accept a value");
        }
        Operator::Cluster => {}
        Operator::GroupBy => found.require(
            value.is_none_or(|v| v.is_empty() || is_whole(v)),
            path,
            format!("Value was specified but is not a number: {}", value.unwrap_or("")),
        ),
        Operator::MaxPer => found.require(
            value.is_some_and(is_whole),
            path,
            "MAX_PER requires a whole number as its value",
        ),
        Operator::Like | Operator::Unlike => match value {
            None => found.add(path, "A regular expression value must be provided"),
            Some(pattern) => {
                if let Some(problem) = regex_problem(pattern) {
                    let message = format!("'{pattern}' is not a valid regular expression");
                    found.add(path, format!("{message}: {problem}"));
                }
            }
        },
        Operator::Is => found.require(
            value.is_some_and(is_plain),
            path,
            "IS requires a value of the form '^[a-zA-Z0-9_/.-]*$'",
        ),
    }
}

fn is_whole(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_/.-".contains(&c))
}

/// Why a pattern cannot be used, in one line.
fn regex_problem(pattern: &str) -> Option<String> {
    let error = RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().err()?;
    let text = error.to_string();
    // The last line of a syntax error says what is wrong; those before it draw the place.
    let line = text.lines().last().unwrap_or("").trim();
    Some(line.strip_prefix("error: ").unwrap_or(line).to_string())
}
