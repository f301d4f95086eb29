//! Tools around container images, apart from clusters.
//!
//! [`oci`] turns what users name or hand over (a reference, an archive) into verified, unpacked
//! layers on disk that overlayfs can stack. It knows no cluster, no container and no runtime, and
//! imports none of our other crates. [`extract`] brings files and archives of users into a
//! directory that they cannot leave.

pub mod extract;
pub mod node;
pub mod oci;
