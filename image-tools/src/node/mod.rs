//! What an image's builder and the node that boots from it must agree on: the disk's layout, the
//! names of files, the node's `bramble.toml`, which slot is booted, what a slot holds.
//!
//! Pure: text and bytes in, values out. It opens no file and asks no machine; the builder (module
//! `disk`) and PID 1 of a node (module `init`) do.

pub mod boot;
pub mod config;
pub mod control;
pub mod layout;
pub mod name;
pub mod release;
pub mod update;

pub use boot::Slot;
pub use config::NodeConfig;
pub use release::Release;
