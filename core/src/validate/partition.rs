//! The label that says what becomes of tasks whose agent is cut off.

use super::Violations;
use crate::alone::on_partition;
use crate::model::{App, LABEL_ON_PARTITION};

pub(super) fn check(app: &App, found: &mut Violations) {
    if let Err(message) = on_partition(app) {
        found.add(format!("/labels/{LABEL_ON_PARTITION}"), message);
    }
}
