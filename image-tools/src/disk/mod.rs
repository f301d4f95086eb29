//! Images of nodes: made from a distribution's packages without root, configured, written to cards.
//!
//! [`build`] puts an image together, [`configure`] changes the settings in one, [`flash`] writes it
//! to a card, [`vagrant`] and [`manifest`] wrap it for others. What a node does with all that is
//! in `init`, what both agree on in [`crate::node`].

mod apt;
pub mod board;
pub mod build;
pub mod cluster;
pub mod configure;
mod cpio;
mod data;
mod elf;
pub(crate) mod error;
mod fat;
pub mod flash;
pub mod format;
mod grub;
mod initramfs;
pub mod manifest;
mod mbr;
mod modules;
mod pi;
pub mod progress;
mod root;
pub mod settings;
pub(crate) mod tool;
pub mod vagrant;
pub(crate) mod work;

pub use error::DiskError;
