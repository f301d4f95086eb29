//! What makes the definition of an app or a pod meaningless, though its JSON is well formed.
//!
//! Pure: no other app, no machine, no setting is looked at, and nothing is repaired here. Every
//! rule is tried, so that one answer names all that is wrong (Marathon's contract, sections 3 to
//! 7; the messages are those its clients already know).

mod checks;
mod command;
mod constraints;
mod container;
mod device;
mod id;
mod network;
mod partition;
mod pod;
mod ports;
mod rollout;
mod strategy;
mod volume;

pub use id::{APP_ID_BYTES_MAX, id_violations, resolve, resolve_path};

use crate::model::App;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `/healthChecks(0)/portIndex`; `/` for the definition as a whole.
    pub path: String,
    pub message: String,
}

impl Violation {
    /// Name a broken rule.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Name every rule `app` breaks; empty when it breaks none.
pub fn validate(app: &App) -> Vec<Violation> {
    let mut found = Violations::default();
    for message in id_violations(app.id.as_str()) {
        found.add("/id", message);
    }
    if let Some(pod) = &app.pod {
        pod::check(app, pod, &mut found);
        device::check(app, &mut found);
        return found.0;
    }
    command::check(app, &mut found);
    container::check(app, &mut found);
    network::check(app, &mut found);
    ports::check(app, &mut found);
    checks::check(app, &mut found);
    constraints::check(app, &mut found);
    strategy::check(app, &mut found);
    rollout::check(app, &mut found);
    partition::check(app, &mut found);
    device::check(app, &mut found);
    found.0
}

/// Name every rule that a change from `old` to `new` breaks, beyond those of [`validate`].
pub fn validate_change(old: &App, new: &App) -> Vec<Violation> {
    let mut found = Violations::default();
    strategy::change(old, new, &mut found);
    found.0
}

/// Collects what the rules find.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation::new(path, message));
    }

    /// Add a violation unless the rule holds.
    fn require(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }
}

/// Whether no two of `items` are equal.
fn all_unique<T: Ord>(items: impl IntoIterator<Item = T>) -> bool {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_unstable();
    items.windows(2).all(|pair| pair[0] != pair[1])
}

/// Whether `text` is `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, the form of port names.
fn is_name(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.iter().all(|&c| inner(c) || c == b'-')
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
}

#[cfg(test)]
mod tests;
