//! Placement constraints (Marathon's contract, section 7).

use crate::model::{Constraint, Operator, TaskPlace};
use regex::Regex;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a constraint may look at on an agent.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    pub name: &'a str,
    pub attributes: &'a BTreeMap<String, String>,
}

/// The value of a constraint's field on one agent; `None` where the agent lacks it.
pub(crate) fn field_value<'a>(
    field: &str,
    name: &'a str,
    attributes: &'a BTreeMap<String, String>,
) -> Option<Cow<'a, str>> {
    let attribute = |key: &str| attributes.get(key).map(|text| printed(text));
    match field {
        "hostname" | "@hostname" => Some(Cow::Borrowed(name)),
        // Where a machine stands is an ordinary attribute here.
        "@region" | "@zone" => attribute(field).or_else(|| attribute(&field[1..])),
        _ => attribute(field),
    }
}

/// Where the tasks of one app are, first placed first.
#[derive(Default)]
pub(super) struct Tally {
    placed: Vec<TaskPlace>,
}

impl Tally {
    pub fn of<'a>(placed: impl Iterator<Item = &'a TaskPlace>) -> Self {
        Self { placed: placed.cloned().collect() }
    }

    pub fn add(&mut self, name: &str, attributes: &BTreeMap<String, String>) {
        self.placed.push((name.to_string(), attributes.clone()));
    }

    pub fn tasks_on(&self, hostname: &str) -> usize {
        self.placed.iter().filter(|(name, _)| name == hostname).count()
    }

    fn values<'a>(&'a self, field: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        self.placed
            .iter()
            .filter_map(move |(name, attributes)| field_value(field, name, attributes))
    }

    fn count(&self, field: &str, value: &str) -> u64 {
        self.values(field).filter(|v| *v == value).count() as u64
    }
}

/// Compiled expressions of one round.
#[derive(Default)]
pub(super) struct Rules {
    compiled: BTreeMap<String, Option<Regex>>,
}

impl Rules {
    /// Whether an agent may take one more task of the app whose tasks are in `tally`.
    pub fn hold(&mut self, rule: &Constraint, host: Host<'_>, tally: &Tally) -> bool {
        let wanted = rule.value.as_deref().filter(|v| !v.is_empty());
        let Some(value) = field_value(&rule.field, host.name, host.attributes) else {
            return rule.operator == Operator::Unlike;
        };
        let value = value.as_ref();
        match rule.operator {
            Operator::Unique => tally.count(&rule.field, value) == 0,
            Operator::Cluster => match wanted {
                Some(wanted) => value == wanted,
                None => tally.values(&rule.field).next().is_none_or(|first| first == value),
            },
            Operator::GroupBy => spreads(wanted, &rule.field, value, tally),
            Operator::Like => wanted.is_some_and(|w| self.matches(w, value) == Some(true)),
            Operator::Unlike => wanted.is_some_and(|w| self.matches(w, value) == Some(false)),
            Operator::MaxPer => wanted
                .and_then(|w| w.trim().parse::<u64>().ok())
                .is_some_and(|most| tally.count(&rule.field, value) < most),
            Operator::Is => {
                let wanted = rule.value.as_deref().unwrap_or_default();
                value == wanted || decimal(value).is_some_and(|v| Some(v) == decimal(wanted))
            }
        }
    }

    /// Match the whole value; `None` for an expression that does not compile.
    fn matches(&mut self, pattern: &str, value: &str) -> Option<bool> {
        let compiled = self
            .compiled
            .entry(pattern.to_string())
            .or_insert_with(|| Regex::new(&format!(r"\A(?:{pattern})\z")).ok());
        compiled.as_ref().map(|regex| regex.is_match(value))
    }
}

/// GROUP_BY: a new group is always welcome; a known one only once there are as many groups as
/// wanted, and if it is among the smallest.
fn spreads(wanted: Option<&str>, field: &str, value: &str, tally: &Tally) -> bool {
    let groups_wanted = match wanted.map(|w| w.trim().parse::<u64>()) {
        None => 0,
        Some(Ok(groups)) => groups,
        Some(Err(_)) => return false,
    };
    let mut groups: BTreeMap<Cow<'_, str>, u64> = BTreeMap::new();
    for placed in tally.values(field) {
        *groups.entry(placed).or_default() += 1;
    }
    let Some(here) = groups.get(value) else { return true };
    groups.len() as u64 >= groups_wanted && groups.values().min() == Some(here)
}

/// An attribute as Marathon prints it: a scalar with at most three decimals and no zeros at its
/// end; ranges, sets and text as they are.
fn printed(text: &str) -> Cow<'_, str> {
    let Some(thousandths) = decimal(text) else { return Cow::Borrowed(text) };
    let sign = if thousandths < 0 { "-" } else { "" };
    let (whole, rest) = (thousandths.abs() / 1000, thousandths.abs() % 1000);
    let number = format!("{sign}{whole}.{rest:03}");
    Cow::Owned(number.trim_end_matches('0').trim_end_matches('.').to_string())
}

/// Thousandths of a plain decimal number, rounded half to even as Marathon prints scalars.
fn decimal(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 30 || !plain(whole) || !plain(fraction) {
        return None;
    }
    let kept: String = fraction.chars().chain("000".chars()).take(3).collect();
    let mut thousandths = format!("{whole}{kept}").parse::<i128>().ok()?;
    let rest = fraction.get(3..).unwrap_or_default().trim_end_matches('0');
    let up = match rest.as_bytes() {
        [] => false,
        [b'5'] => thousandths % 2 == 1,
        [first, ..] => *first >= b'5',
    };
    thousandths += i128::from(up);
    Some(if negative { -thousandths } else { thousandths })
}

/// A constraint as the user wrote it.
pub(super) fn text(rule: &Constraint) -> String {
    let operator = operator_name(rule.operator);
    match &rule.value {
        Some(value) => format!("{} {operator} {value}", rule.field),
        None => format!("{} {operator}", rule.field),
    }
}

fn operator_name(operator: Operator) -> &'static str {
    match operator {
        Operator::Unique => "UNIQUE",
        Operator::Cluster => "CLUSTER",
        Operator::GroupBy => "GROUP_BY",
        Operator::Like => "LIKE",
        Operator::Unlike => "UNLIKE",
        Operator::MaxPer => "MAX_PER",
        Operator::Is => "IS",
    }
}
