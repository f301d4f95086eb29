//! Labels that ask for canaries, a second set or a way back.

use super::Violations;
use crate::deploy::asked;
use crate::model::App;

pub(super) fn check(app: &App, found: &mut Violations) {
    for bad in asked(app).1 {
        found.add(format!("/labels/{}", bad.label), bad.message);
    }
}
