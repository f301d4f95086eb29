//! `/v2/groups` (Marathon's contract, section 2.3).

mod change;
mod read;

pub(crate) use change::{create, delete, enforce_role, put};
pub(crate) use read::{apps, get, version, versions};
