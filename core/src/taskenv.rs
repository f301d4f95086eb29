//! From an app and an instance to what its agent is told: environment and task specification.

use crate::model::{App, Assignment, Instance, Task};

/// Build a task's environment.
pub fn environment(app: &App, instance: &Instance, task: &Task) -> Vec<(String, String)> {
    let _ = (app, instance, task);
    Vec::new()
}

/// Build the assignment of an instance; `None` without a task.
pub fn assignment(app: &App, instance: &Instance) -> Option<Assignment> {
    let _ = (app, instance);
    None
}
