//! `uris` and `fetch`.

use bramble_core::model::Fetch;
use bramble_protocol::rest::error::FieldError;
use bramble_protocol::rest::update::AppUpdate;

/// Endings of archives that `uris` unpacked.
const ARCHIVES: [&str; 7] = [".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip"];

/// What to fetch, or `None` when the request does not say.
pub(super) fn fetch(update: &AppUpdate, errors: &mut Vec<FieldError>) -> Option<Vec<Fetch>> {
    let uris = update.uris.given();
    let fetch = update.fetch.given();
    match (uris.filter(|u| !u.is_empty()), fetch.filter(|f| !f.is_empty())) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::new("/uris", "may not be set in conjunction with fetch"));
            None
        }
        (Some(uris), None) => Some(uris.iter().map(|uri| of_uri(uri)).collect()),
        (None, Some(fetch)) => Some(fetch.clone()),
        (None, None) => (uris.is_some() || fetch.is_some()).then(Vec::new),
    }
}

fn of_uri(uri: &str) -> Fetch {
    Fetch {
        uri: uri.to_string(),
        extract: ARCHIVES.iter().any(|ending| uri.ends_with(ending)),
        executable: false,
        cache: false,
        dest_path: None,
    }
}
