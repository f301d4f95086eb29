//! What a URI of `fetch` means: a web address or a file of this machine, and the name it gets.
//!
//! Owns reading URIs. Never looks at the network or the disk.

use std::path::PathBuf;
use thiserror::Error;

pub(super) use reqwest::Url;

#[derive(Debug, Error)]
pub enum SourceError {
    #[error("not a valid URI: {0}")]
    Invalid(String),
    #[error("'{0}:' is not supported: use http, https or file")]
    Scheme(String),
    #[error("a path without a scheme must be absolute")]
    Relative,
    #[error("the URI ends in no file name: give a destPath")]
    NoName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Http(Url),
    File(PathBuf),
}

impl Source {
    pub(super) fn parse(uri: &str) -> Result<Source, SourceError> {
        if uri.starts_with('/') {
            return Ok(Source::File(uri.into()));
        }
        if !uri.contains(':') {
            return Err(SourceError::Relative);
        }
        let url = Url::parse(uri).map_err(|error| SourceError::Invalid(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(Source::Http(url)),
            "file" => {
                let path = url.to_file_path();
                path.map(Source::File)
                    .map_err(|()| SourceError::Invalid("it names another machine".into()))
            }
            other => Err(SourceError::Scheme(other.into())),
        }
    }

    /// The last part of the path: what the file is called in the sandbox.
    pub(super) fn file_name(&self) -> Result<String, SourceError> {
        let path = match self {
            // Without query and fragment, which say nothing about the file.
            Source::Http(url) => url.path(),
            Source::File(path) => path.to_str().ok_or(SourceError::NoName)?,
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.is_empty() || name == "." || name == ".." {
            return Err(SourceError::NoName);
        }
        Ok(name.to_string())
    }
}

/// A URI for messages: without user name and password.
pub(super) fn shown(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            // Fails for URLs that can have neither; then there is nothing to hide.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.to_string()
        }
        _ => uri.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_and_their_names() {
        let cases = [
            ("http://h/a/b.tgz", Ok("b.tgz")),
            ("https://h:8/b.zip?token=x#y", Ok("b.zip")),
            ("http://h/", Err("destPath")),
            ("http://h", Err("destPath")),
            ("/etc/docker.tar.gz", Ok("docker.tar.gz")),
            ("file:///etc/docker.tar.gz", Ok("docker.tar.gz")),
            ("file:/etc/a%20b", Ok("a b")),
            ("file://elsewhere/x", Err("another machine")),
            ("x.tgz", Err("absolute")),
            ("hdfs://h/x", Err("'hdfs:' is not supported")),
            ("http://[", Err("not a valid URI")),
        ];
        for (uri, expected) in cases {
            let name = Source::parse(uri).and_then(|source| source.file_name());
            match (name, expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected, "{uri}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{uri}: {error}");
                }
                (name, _) => panic!("{uri}: {name:?}"),
            }
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("http://me:secret@h/x"), "http://h/x");
        assert_eq!(shown("http://h/x?y"), "http://h/x?y");
        assert_eq!(shown("not a uri"), "not a uri");
    }
}
