//! Credentials for registries, out of a file as `docker login` writes it (`config.json`).
//!
//! Owns finding the entry of a registry. The file is read at every pull, so that a changed
//! password needs no restart. Never runs credential helpers: a node has none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("reading registry credentials {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("registry credentials {path} are not valid JSON of a docker config")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "entry {registry:?} of registry credentials {path}: auth is not base64 of user:password"
    )]
    Auth { path: PathBuf, registry: String },
    #[error(
        "entry {registry:?} of registry credentials {path} holds an identity token, which is not supported: use a user and password"
    )]
    IdentityToken { path: PathBuf, registry: String },
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Finds what to show to a registry known by any of `hosts`; nothing there means anonymous.
pub(crate) fn find(path: Option<&Path>, hosts: &[&str]) -> Result<RegistryAuth, CredentialsError> {
    let Some(path) = path else { return Ok(RegistryAuth::Anonymous) };
    let owned = || path.to_owned();
    let bytes =
        std::fs::read(path).map_err(|source| CredentialsError::Read { path: owned(), source })?;
    let config: DockerConfig = serde_json::from_slice(&bytes)
        .map_err(|source| CredentialsError::Json { path: owned(), source })?;
    let entry = config.auths.iter().find(|(key, _)| hosts.contains(&host_of(key)));
    let Some((key, entry)) = entry else { return Ok(RegistryAuth::Anonymous) };
    let registry = || key.clone();
    if !entry.registrytoken.is_empty() {
        return Ok(RegistryAuth::Bearer(entry.registrytoken.clone()));
    }
    if !entry.identitytoken.is_empty() {
        return Err(CredentialsError::IdentityToken { path: owned(), registry: registry() });
    }
    if !entry.username.is_empty() {
        return Ok(RegistryAuth::Basic(entry.username.clone(), entry.password.clone()));
    }
    if entry.auth.is_empty() {
        // What `docker login` leaves when a credential store holds the password.
        tracing::warn!(registry = %key, "registry credentials are in a credential store: unused");
        return Ok(RegistryAuth::Anonymous);
    }
    let bad = || CredentialsError::Auth { path: owned(), registry: registry() };
    let decoded = STANDARD.decode(entry.auth.trim()).map_err(|_| bad())?;
    let text = String::from_utf8(decoded).map_err(|_| bad())?;
    let (user, password) = text.split_once(':').ok_or_else(bad)?;
    Ok(RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Keys are hosts or, for the default registry, a whole address of its first version.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_entries_as_docker_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let text = r#"{"auths":{
            "https://first.local/v1/":{"auth":"dXNlcjpwYTpzcw=="},
            "second.local:5000":{"username":"u","password":"p"},
            "third.local":{"registrytoken":"t"},
            "fourth.local":{},
            "fifth.local":{"identitytoken":"t"},
            "sixth.local":{"auth":"?"}},"credsStore":"x"}"#;
        std::fs::write(&path, text).unwrap();
        let basic = |user: &str, pass: &str| RegistryAuth::Basic(user.into(), pass.into());
        let cases = [
            ("first.local", Ok(basic("user", "pa:ss"))),
            ("second.local:5000", Ok(basic("u", "p"))),
            ("second.local", Ok(RegistryAuth::Anonymous)),
            ("third.local", Ok(RegistryAuth::Bearer("t".into()))),
            ("fourth.local", Ok(RegistryAuth::Anonymous)),
            ("fifth.local", Err("identity token")),
            ("sixth.local", Err("base64")),
        ];
        for (host, expected) in cases {
            match (find(Some(&path), &[host]), expected) {
                (Ok(auth), Ok(expected)) => assert!(auth == expected, "{host}: {auth:?}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part)),
                (actual, _) => panic!("{host}: {actual:?}"),
            }
        }
        assert!(find(None, &["x"]).unwrap() == RegistryAuth::Anonymous);
        let missing = find(Some(&dir.path().join("no")), &["x"]);
        assert!(matches!(missing, Err(CredentialsError::Read { .. })));
    }
}
