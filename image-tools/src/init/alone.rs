//! The update of the node that an update is run from: its client ends with it, so that nobody is
//! left to confirm the new slot and to open the node for tasks again.

use super::console::say;
use super::identity::{own_dir, write_durably};
use super::service::Spec;
use crate::node::Slot;
use crate::node::layout::BRAMBLE;
use std::fs;

const FILE: &str = "alone";

/// Remember across the restart that this slot is this node's own to confirm.
pub fn note(slot: Slot) {
    let noted = fs::create_dir_all(own_dir())
        .and_then(|()| write_durably(&own_dir().join(FILE), slot.to_string().as_bytes()));
    if let Err(error) = noted {
        say(&format!("nobody will confirm slot {slot}: {error}"));
    }
}

/// The slot that was to be confirmed, also where another runs now.
pub fn noted() -> Option<Slot> {
    fs::read_to_string(own_dir().join(FILE)).ok()?.trim().parse().ok()
}

pub fn forget() {
    let _ = fs::remove_file(own_dir().join(FILE));
}

/// What opens the node for tasks.
pub fn open(hostname: &str) -> Spec {
    let command = [BRAMBLE, "undrain", hostname].map(String::from).to_vec();
    Spec { once: true, logged: true, ..Spec::background("undrain", command) }
}
