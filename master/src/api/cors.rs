//! Which web pages may read answers (`--access-control-allow-origin`; Marathon's contract, 1.1).
//!
//! Reading only: what changes the cluster is refused to pages of others in `access`, whatever is
//! allowed here.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

const METHODS: &str = "GET, HEAD, OPTIONS";
/// Seconds for which a browser may remember an answer to its question.
const MAX_AGE: &str = "86400";

/// Tell the browser of the page that sent `request` whether it may read the answer.
pub(crate) fn allow(allowed: &[String], request: &HeaderMap, answer: &mut HeaderMap) {
    let Some(first) = allowed.first() else { return };
    let origin = request.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let own = origin.and_then(|o| allowed.iter().find(|a| a.eq_ignore_ascii_case(o)));
    // A header holds one origin: of several, that of the page which asks.
    let shown = match own {
        _ if allowed.iter().any(|a| a == "*") => "*",
        Some(own) => own,
        None => first,
    };
    let Ok(shown) = HeaderValue::from_str(shown) else { return };
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shown);
    if allowed.len() > 1 {
        answer.append(VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_that_asks_is_named_if_it_may() {
        let rows: [(&[&str], &str, Option<&str>); 6] = [
            (&[], "http://a", None),
            (&["*"], "http://a", Some("*")),
            (&["http://a"], "", Some("http://a")),
            (&["http://a"], "http://b", Some("http://a")),
            (&["http://a", "http://b"], "http://b", Some("http://b")),
            (&["http://a", "*"], "http://b", Some("*")),
        ];
        for (allowed, origin, want) in rows {
            let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let (mut request, mut answer) = (HeaderMap::new(), HeaderMap::new());
            if !origin.is_empty() {
                request.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            allow(&allowed, &request, &mut answer);
            let shown = answer.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|v| v.to_str().unwrap());
            assert_eq!(shown, want, "{allowed:?} {origin}");
            assert_eq!(answer.contains_key(VARY), allowed.len() > 1);
        }
    }
}
