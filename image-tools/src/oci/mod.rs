//! OCI images: references, the content store, archives, registries.

mod archive;
pub(crate) mod budget;
mod credentials;
pub(crate) mod decompress;
mod digest;
mod docker_save;
mod import;
mod layout;
mod model;
mod platform;
mod reference;
mod registry;
pub(crate) mod rootdir;
mod store;
pub(crate) mod tarstream;
pub(crate) mod unpack;

#[cfg(test)]
mod testing;

pub use archive::{ArchiveError, check_archive, load_archive};
pub use credentials::{CredentialsError, Login};
pub use digest::{Digest, DigestError};
pub use import::{BlobSource, Import, ImportError};
pub use model::{DocumentError, RunConfig};
pub use platform::Platform;
pub use reference::{ImageReference, ReferenceError};
pub use registry::{PullError, Registry, RegistryConfig};
pub use store::{Blob, Image, Layer, LayerPart, Parts, Store, StoreError};
pub use tarstream::TarError;
pub use unpack::UnpackError;
