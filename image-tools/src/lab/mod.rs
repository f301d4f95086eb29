//! The lab: machines of a `VagrantConfig.yaml` under plain QEMU, in a network of their own.
//!
//! For machines without Vagrant: the same file, the same settings, the same addresses
//! (`tests/lab`). A lab is a directory; [`up`], [`status`] and [`destroy`] are all there is to it,
//! and no process of its own stays behind: what runs is QEMU, found by what it was started with.
//!
//! - [`config`] reads the file, [`settings`] writes what a node is told;
//! - [`place`] is the lab's directory, [`keys`] the cluster's, [`disks`] its images;
//! - [`network`] is the namespace, the bridge and the way to them from this host;
//! - [`machine`] is one virtual machine, [`accel`] what runs its processor;
//! - [`api`] asks nodes, [`interrupt`] hears Ctrl-C, [`command`] is the command line.

mod accel;
mod api;
pub mod command;
mod config;
mod destroy;
mod disks;
mod error;
mod interrupt;
mod keys;
mod machine;
mod network;
mod place;
mod roles;
mod settings;
mod status;
mod up;
mod wait;

pub use error::LabError;
