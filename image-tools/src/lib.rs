//! Tools around container images, apart from clusters.
//!
//! [`oci`] turns what users name or hand over (a reference, an archive) into verified, unpacked
//! layers on disk that overlayfs can stack. It knows no cluster, no container and no runtime, and
//! imports none of our other crates. [`extract`] brings files and archives of users into a
//! directory that they cannot leave.

#[cfg(feature = "disk")]
pub mod disk;
#[cfg(feature = "oci")]
pub mod extract;
#[cfg(feature = "init")]
pub mod init;
#[cfg(feature = "disk")]
pub mod lab;
pub mod node;
#[cfg(feature = "oci")]
pub mod oci;
