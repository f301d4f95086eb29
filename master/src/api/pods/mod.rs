//! `/v2/pods` (Marathon's contract, section 9).

mod change;
mod instances;
mod read;

pub(crate) use change::{create, delete, put};
pub(crate) use instances::{kill_many, kill_one};
pub(crate) use read::{get, list, status, statuses, version, versions};
