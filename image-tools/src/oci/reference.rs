//! Image references: what a user writes and the one form everything is stored under.
//!
//! Owns the grammar of `[registry/]repository[:tag][@digest]` and Docker's defaults. Never looks
//! anything up.

use super::digest::{Digest, DigestError};
use std::fmt;
use std::str::FromStr;

/// Registry meant when a reference names none, as Docker does.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Prefix of single-word repositories of the default registry.
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Bytes of registry and repository together (distribution's own limit).
const NAME_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;

/// Names an image at a registry, normalised: `nginx` is `docker.io/library/nginx:latest`.
///
/// With a digest the tag is dropped, since the digest alone decides (as Docker does).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    registry: String,
    repository: String,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Version {
    Tag(String),
    Digest(Digest),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("image reference is empty")]
    Empty,
    #[error("image reference {0:?} holds a scheme: write it without http:// or https://")]
    Scheme(String),
    #[error("repository of image {reference:?} must be lower case: write {lower:?}")]
    UpperCase { reference: String, lower: String },
    #[error(
        "part {part:?} of image {reference:?} is not a valid name: lower-case letters and digits, \
         separated by one of . _ __ or any number of -"
    )]
    Component { reference: String, part: String },
    #[error("registry {registry:?} of image {reference:?} is not a valid host[:port]")]
    Registry { reference: String, registry: String },
    #[error(
        "tag {tag:?} of image {reference:?} is not valid: up to 128 of A-Z a-z 0-9 _ . - and not \
         beginning with . or -"
    )]
    Tag { reference: String, tag: String },
    #[error("digest of image {reference:?} is not valid")]
    Digest {
        reference: String,
        #[source]
        source: DigestError,
    },
    #[error("name of image is {length} bytes long; the most is {NAME_LENGTH_MAX}")]
    TooLong { length: usize },
}

impl ImageReference {
    /// Host, and port if given, as written: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path at the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    pub fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }

    /// Registry and repository agree: both name versions of one image.
    pub(crate) fn same_repository(&self, other: &ImageReference) -> bool {
        self.registry == other.registry && self.repository == other.repository
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<ImageReference, ReferenceError> {
        let written = || text.chars().take(NAME_LENGTH_MAX).collect::<String>();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains("://") {
            return Err(ReferenceError::Scheme(written()));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let parsed = digest
                    .parse::<Digest>()
                    .map_err(|source| ReferenceError::Digest { reference: written(), source })?;
                (rest, Some(parsed))
            }
        };
        // A colon after the last slash is a tag; before it, a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if name.len() > NAME_LENGTH_MAX {
            return Err(ReferenceError::TooLong { length: name.len() });
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag { reference: written(), tag: tag.to_owned() });
        }
        let (registry, repository) = split_name(name);
        if !is_registry(registry) {
            let registry = registry.to_owned();
            return Err(ReferenceError::Registry { reference: written(), registry });
        }
        check_repository(&written(), &repository)?;
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
        };
        Ok(ImageReference { registry: registry.to_owned(), repository, version })
    }
}

/// The first part is a registry only if it looks like a host, as Docker decides it.
fn split_name(name: &str) -> (&str, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((host, rest))
            if host.contains(['.', ':', '['])
                || host == "localhost"
                || host.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (host, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        return (registry, format!("{OFFICIAL_PREFIX}{repository}"));
    }
    (registry, repository.to_owned())
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        // An IPv6 address is written in brackets.
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let label = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_tag(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= TAG_LENGTH_MAX
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn check_repository(reference: &str, repository: &str) -> Result<(), ReferenceError> {
    for part in repository.split('/') {
        if part.bytes().any(|b| b.is_ascii_uppercase()) {
            let lower = reference.to_lowercase();
            return Err(ReferenceError::UpperCase { reference: reference.to_owned(), lower });
        }
        if !is_component(part) {
            let part = part.to_owned();
            return Err(ReferenceError::Component { reference: reference.to_owned(), part });
        }
    }
    Ok(())
}

/// Runs of `a-z0-9` joined by separators; this also keeps `.` and `..` out of paths.
fn is_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(alphanumeric) || !part.ends_with(alphanumeric) {
        return false;
    }
    part.split(alphanumeric).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let actual = text.parse::<ImageReference>();
        match (actual, expected) {
            (Ok(reference), Ok(expected)) => {
                assert_eq!(reference.to_string(), expected, "{text}");
                // The normal form is a fixed point.
                assert_eq!(expected.parse::<ImageReference>().unwrap(), reference);
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{text}: {error}");
            }
            (actual, expected) => panic!("{text}: {actual:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn normalises_as_docker_does() {
        let hex = "0123456789abcdef".repeat(4);
        check("nginx", Ok("docker.io/library/nginx:latest"));
        check("nginx:1.25", Ok("docker.io/library/nginx:1.25"));
        check("feuyeux/nginx", Ok("docker.io/feuyeux/nginx:latest"));
        check("docker.io/nginx", Ok("docker.io/library/nginx:latest"));
        check("localhost/app", Ok("localhost/app:latest"));
        check("localhost:5000/app", Ok("localhost:5000/app:latest"));
        check("localhost:5000/a/b/c:v1", Ok("localhost:5000/a/b/c:v1"));
        check("10.0.0.1:5000/app:1", Ok("10.0.0.1:5000/app:1"));
        check("[::1]:5000/app", Ok("[::1]:5000/app:latest"));
        check("Registry.local/app", Ok("Registry.local/app:latest"));
        check("a__b/c---d/e.f_g", Ok("docker.io/a__b/c---d/e.f_g:latest"));
        check(&format!("nginx@sha256:{hex}"), Ok(&format!("docker.io/library/nginx@sha256:{hex}")));
        check(&format!("host:1/nginx:1@sha256:{hex}"), Ok(&format!("host:1/nginx@sha256:{hex}")));
    }

    #[test]
    fn names_what_is_wrong() {
        check("", Err("empty"));
        check("https://host.local/app", Err("without http://"));
        check("Nginx", Err("lower case"));
        check("nginx:", Err("tag \"\""));
        check("nginx:-x", Err("tag \"-x\""));
        check(&format!("nginx:{}", "x".repeat(129)), Err("tag"));
        check("a..b", Err("\"a..b\""));
        check("a/../b", Err("\"..\""));
        check("/a", Err("\"\""));
        check("a//b", Err("\"\""));
        check("a___b", Err("\"a___b\""));
        check("a b", Err("\"a b\""));
        check("ho_st.x/app", Err("registry \"ho_st.x\""));
        check("host:99999/app", Err("registry \"host:99999\""));
        check("nginx@sha256:12", Err("digest"));
        check(&"x".repeat(10_000), Err("10000 bytes"));
    }

    #[test]
    fn tells_its_parts() {
        let reference: ImageReference = "localhost:5000/a/b:c".parse().unwrap();
        assert_eq!(reference.registry(), "localhost:5000");
        assert_eq!(reference.repository(), "a/b");
        assert_eq!(reference.tag(), Some("c"));
        assert_eq!(reference.digest(), None);
        assert!(reference.same_repository(&"localhost:5000/a/b".parse().unwrap()));
    }
}
