//! `/v2/apps` (Marathon's contract, section 2.1).

mod change;
mod read;
mod shape;
mod stats;

pub(crate) use change::{create, delete, patch, patch_many, put, put_many, restart};
pub(crate) use read::{below, get, group_exists, list, version, versions};
pub(crate) use shape::{AppInfo, Embed, app_info};
